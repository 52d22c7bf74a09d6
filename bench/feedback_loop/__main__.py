"""The command line: runs the rounds of both arms, and writes the report."""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.candidates import folder_of
from bench.entry import entry
from bench.feedback_loop.rounds import ARMS, METRIC, Learner, Plan, same_plan
from bench.feedback_loop.shop import PAGE, SET, Shop
from bench.feedback_loop.users import Clicks, Traffic, phrased
from bench.plot import Line, write_plot
from bench.report import RESULTS, Report
from bench.workload import default_registry
from neuralrank.bundles.registry import Registry
from neuralrank.errors import Unsupported
from neuralrank.evaluation import read_qrels, read_queries
from neuralrank.files.exclusive import exclusive
from neuralrank.files.whole import write_whole
from neuralrank.models import Checkpoint
from neuralrank.settings import load_settings
from trainer.text import read_source


def run(source: str, **plan: Any) -> None:
    """Prints and writes the report; goes on where it was interrupted.

    Args:
        source: the first model.
        plan: further fields of `Plan`.

    Raises:
        NotFound: the data is not there.
        Unsupported: it runs already.
    """
    home = load_settings().home / "bench" / "feedback_loop"
    busy = Unsupported("`make bench-feedback-loop` runs already; wait for it or end it.")
    with exclusive(home.with_name("feedback_loop.lock"), busy):
        shop = Shop(home)
        first = read_source(source, Registry(default_registry()))
        planned = Plan(source, first.digest(), **plan)
        if not same_plan(home, planned):
            shop.wipe()
            write_whole(home / "plan.json", json.dumps(asdict(planned), indent=2))
        _report(planned, *_rounds(planned, shop, first))


def _rounds(
    plan: Plan, shop: Shop, first: Checkpoint
) -> tuple[dict[str, float], list[dict[str, Any]], str]:
    """The figures of the shop's own order, rows of every round, and when the last step was."""
    data = folder_of(SET)
    qrels, texts = read_qrels(data / "qrels.dev.tsv"), read_queries(data / "queries.dev.tsv")
    needs = list(qrels)
    random.Random(plan.seed).shuffle(needs)
    asked = needs[plan.never_asked :]
    traffic = Traffic(phrased(texts, asked, plan.seed), plan.seed)
    if any(not shop.registry.published(arm.name) for arm in ARMS):
        _say("the first model")
        for arm in ARMS:
            shop.add_model(first, arm.name)
    rows, when = [], ""
    with shop.open():
        learners = [Learner(shop, plan, arm, texts, qrels, asked, traffic, _say) for arm in ARMS]
        lexical = learners[0].lexical()
        for number in range(plan.rounds + 1):
            for learner in learners:
                state = learner.run(number)
                rows.append(_row(learner, number, state))
                when = max(when, *(step["when"] for step in state.values()))
                _say(" ".join(f"{name} {value}" for name, value in rows[-1].items()))
    return lexical, rows, when


def _row(learner: Learner, number: int, state: dict[str, Any]) -> dict[str, Any]:
    measured, found = state["measure"], state.get("dataset", {}).get("propensities")
    return {
        "what": learner.arm.name,
        "round": number,
        **{f"{METRIC} {part}": measured[part] for part in ("all", "asked", "never asked")},
        "promoted": {True: "yes", False: "no"}[state["promote"]["promoted"]] if number else "",
        "clicks": state["load"]["clicks"] if number else 0,
        "θ off by": _error(found["values"], learner.plan.eta) if found else "",
        "minutes": round(sum(step["seconds"] for step in state.values()) / 60, 1),
    }


def _error(values: Sequence[float], eta: float) -> float:
    """The largest difference of the estimated propensities to the true ones."""
    truth = [Clicks(eta).looked_at(place) for place in range(1, len(values) + 1)]
    return round(float(np.abs(np.array(values) - truth).max()), 3)


def _report(plan: Plan, lexical: dict[str, float], rows: list[dict[str, Any]], when: str) -> None:
    asked = ", ".join(f"{name} {value:.4f}" for name, value in lexical.items())
    Report(
        "feedback_loop",
        "Learning from clicks: nDCG@10 on the true judgments after each round",
        rows,
        f"Simulated users of {SET} dev ({plan.visits:,} visits a round, pages of {PAGE}, looks "
        f"fall with position^-{plan.eta:g}), real pages, real commands. {plan.never_asked} needs "
        f"of the judgments are never asked for. The shop's own order, which half of the users see: "
        f"{asked}. First model: {plan.source}. 'θ off by': the "
        "largest error of an estimated propensity.",
        when=when,
    ).publish()
    lines = []
    for arm in ARMS:
        mine = [row for row in rows if row["what"] == arm.name]
        for part in ("asked", "never asked"):
            points = [(row["round"], row[f"{METRIC} {part}"]) for row in mine]
            lines.append(Line(f"{arm.name}, {part}", points))
    file = RESULTS / "feedback_loop.svg"
    write_plot(file, f"{METRIC} after each round of learning", lines, logarithmic=False)


def _say(what: str) -> None:
    print(what, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.feedback_loop", description=__doc__)
    add = parser.add_argument
    add("--from", dest="source", default="package:neuralrank", help="the first model")
    add("--rounds", type=int, default=3)
    add("--visits", type=int, default=4_000, help="in each round")
    add("--eta", type=float, default=1.0, help="how fast looking falls with the position")
    add("--seed", type=int, default=0)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    entry(main)

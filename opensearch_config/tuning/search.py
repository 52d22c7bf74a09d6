"""A search over numbers of one variant: on one part of the queries, judged on another.

Akiba et al., "Optuna" (2019), with its TPE sampler (Bergstra et al., 2011). A trial costs a request
a query; an index is never made for one.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput
from neuralrank.evaluation import judge
from opensearch_config import files
from opensearch_config.tuning.asking import DEPTH, ask_well, run_of
from opensearch_config.tuning.journal import Journal
from opensearch_config.tuning.questions import Questions
from opensearch_config.tuning.results import METRIC, versus
from opensearch_config.tuning.spec import PARTS, WHOLE, Range, Search
from opensearch_config.tuning.variants import Planned, boosted

__all__ = ["search", "split"]

# Queries that each part must have: a mean of fewer says nothing.
_LEAST: Final = 2


def split(queries: list[str], held_back: float, seed: int) -> tuple[list[str], list[str]]:
    """Queries to tune on and queries to judge by: no query is in both.

    Raises:
        InvalidInput: there are too few.
    """
    shuffled = sorted(queries)
    random.Random(seed).shuffle(shuffled)
    count = round(len(shuffled) * held_back)
    if min(count, len(shuffled) - count) < _LEAST:
        raise InvalidInput(
            f"search.held_back is {held_back:g} of {len(shuffled)} queries: {count} to judge by, "
            f"{len(shuffled) - count} to tune on. Each part needs {_LEAST}; judge more queries, or "
            "change it."
        )
    return shuffled[count:], shuffled[:count]


@dataclass(frozen=True, slots=True)
class _Where:
    """What a trial asks."""

    client: OpenSearch
    index: str
    pipeline: str
    planned: Planned


def search(
    client: OpenSearch,
    journal: Journal,
    options: Search,
    planned: Planned,
    where: tuple[str, str],
    questions: Questions,
    base: Mapping[str, list[str]],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Finds better numbers for a variant, and says how they do on queries that it never saw.

    Args:
        where: index and pipeline of the variant.
        base: its own answers, by query.

    Returns:
        What was found; `best` is empty where no trial was better than the variant as it is.

    Raises:
        InvalidInput: there are too few queries, or a field that is to be boosted is not there.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tune_on, judge_by = split(list(questions.texts), options.held_back, options.seed)
    at = _Where(client, *where, planned)
    known = [row for number in range(options.trials) if (row := journal.get("trial", str(number)))]
    # What is sampled next depends on what is known, so that a search that goes on is no other one.
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=options.seed + len(known)),
    )
    choices = {name: _distribution(optuna, name, each) for name, each in options.over.items()}
    for row in known:
        study.add_trial(
            optuna.trial.create_trial(
                params=row["chosen"], distributions=choices, value=row["value"]
            )
        )
    trials = list(known)
    seen = questions.only(tune_on)
    for number in range(len(known), options.trials):
        trial = study.ask(choices)
        value = _value(at, trial.params, seen)
        study.tell(trial, value)
        trials.append({"chosen": trial.params, "value": value})
        journal.put("trial", str(number), value=trials[-1])
        progress(number + 1, options.trials)
    best = max(trials, key=lambda row: row["value"])
    unseen = questions.only(judge_by)
    start = judge(unseen.grades, run_of({query: base[query] for query in judge_by}))
    start_seen = judge(seen.grades, run_of({query: base[query] for query in tune_on})).mean(METRIC)
    # With few trials, none may be as good as what the variant has already.
    if better := best["value"] > start_seen:
        found = judge(unseen.grades, run_of(_answers(at, best["chosen"], unseen)))
    else:
        found = start
    return {
        "variant": planned.name,
        "trials": len(trials),
        "best": best["chosen"] if better else {},
        "tuned_on": {
            "queries": len(tune_on),
            METRIC: round(max(best["value"], start_seen), 4),
            f"{METRIC}_before": round(start_seen, 4),
        },
        "held_back": {
            "queries": len(judge_by),
            METRIC: round(found.mean(METRIC), 4),
            f"{METRIC}_before": round(start.mean(METRIC), 4),
            "versus_before": versus(found, start, unseen),
        },
        "history": [round(row["value"], 4) for row in trials],
        "tried": [row["chosen"] for row in trials],
    }


def _value(at: _Where, chosen: Mapping[str, Any], questions: Questions) -> float:
    """The mean over the queries; 0 where all weights are 0, those of the pipeline beneath what was
    chosen, which is refused."""
    weights = at.planned.weights
    if all(chosen.get(f"weights.{part}", weights.get(part)) == 0 for part in PARTS):
        return 0.0
    return judge(questions.grades, run_of(_answers(at, chosen, questions))).mean(METRIC)


def _answers(at: _Where, chosen: Mapping[str, Any], questions: Questions) -> dict[str, list[str]]:
    boosts = {name.partition(".")[2]: v for name, v in chosen.items() if name.startswith("boosts.")}
    template = boosted(at.planned.template, boosts)
    options: dict[str, Any] = {name: value for name, value in chosen.items() if "." not in name}
    if weights := {n.partition(".")[2]: v for n, v in chosen.items() if n.startswith("weights.")}:
        options["weights"] = weights
    size = min(DEPTH, int(options.get("window", at.planned.window)))
    return {
        query: ask_well(
            at.client, at.index, at.pipeline, files.filled(template, text), size, options
        ).items
        for query, text in questions.texts.items()
    }


def _distribution(optuna: Any, name: str, choice: Range) -> Any:
    if choice.one_of:
        return optuna.distributions.CategoricalDistribution(choice.one_of)
    if name in WHOLE:
        return optuna.distributions.IntDistribution(int(choice.low or 0), int(choice.high or 0))
    return optuna.distributions.FloatDistribution(choice.low, choice.high)

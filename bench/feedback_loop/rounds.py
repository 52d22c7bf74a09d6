"""Rounds of learning from clicks, each step once: what was done is found in the folder."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.candidates import DATA
from bench.feedback_loop.shop import INDEX, SET, Refused, Shop
from bench.feedback_loop.users import Clicks, Traffic, click_chance, documents
from bench.report import where_and_when
from neuralrank.evaluation import Qrels, judge
from neuralrank.files.whole import write_whole

__all__ = ["ARMS", "Arm", "Learner", "Plan"]

METRIC: Final = "nDCG@10"
_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True)
class Arm:
    """One way to learn, with a model and a year of its own, so that logs do not mix."""

    name: str
    propensities: str
    begins: datetime


ARMS: Final = (
    Arm("corrected", "auto", datetime(2023, 1, 2, tzinfo=UTC)),
    Arm("uncorrected", "none", datetime(2024, 1, 1, tzinfo=UTC)),
)


@dataclass(frozen=True)
class Plan:
    """All that a result hangs on. Another one starts anew."""

    source: str
    # `Checkpoint.digest` of the source: under the same name there may be another model.
    first: str
    rounds: int
    visits: int
    eta: float
    # Needs of the judgments that nobody comes with: what is learned for others is measured on them.
    never_asked: int = 12
    seed: int = 0
    # Parts of a round's time, and of the queries: what stops the training, and what the gate asks.
    dev: float = 0.15
    test: float = 0.15
    epochs: float = 8.0
    learning_rate: float = 5e-4
    batch_size: int = 32
    # As much as is read in service: the query, and the first 150 characters of a text.
    max_length: int = 64


@dataclass(frozen=True)
class Learner:
    """One arm's rounds."""

    shop: Shop
    plan: Plan
    arm: Arm
    texts: Mapping[str, str]
    qrels: Qrels
    asked: Sequence[str]
    traffic: Traffic
    say: Callable[[str], None]

    def run(self, number: int) -> dict[str, Any]:
        """A round's figures; from its folder, where it was done. Round 0: before any learning."""
        folder = self._folder(number)
        if number:
            self._step(folder, "load", lambda: self._load(number, folder))
            self._step(folder, "pull", lambda: self._pull(number, folder))
            self._step(folder, "dataset", lambda: self._dataset(number, folder))
            self._step(folder, "train", lambda: self._train(folder))
            self._step(folder, "promote", lambda: self._promote(folder))
        self._step(folder, "measure", self._measure)
        return self._state(folder)

    def lexical(self) -> dict[str, float]:
        """The same figures of the shop's own order."""
        return self._figures(lambda text: self.shop.page(text, ""))

    def _load(self, number: int, folder: Path) -> dict[str, Any]:
        """The users' visits on real pages, into OpenSearch."""
        begin, clicks = self._begin(number), Clicks(self.plan.eta)
        pages: dict[tuple[str, bool], list[str]] = {}
        lines, clicked_of = list[str](), 0
        prefix = f"{self.arm.name}-{number}"
        for visit in self.traffic.visits(number, self.plan.visits):
            # The order changes with the model only: a page is asked for once a round.
            key = (visit.asked.text, visit.control)
            if key not in pages:
                bundle = "" if visit.control else self.arm.name
                pages[key] = self.shop.page(visit.asked.text, bundle)
            chance = click_chance(self.plan.seed, number, visit)
            clicked = clicks.clicked(pages[key], self.qrels[visit.asked.need], chance)
            clicked_of += len(clicked)
            when = begin + _WEEK * (visit.number / self.plan.visits)
            lines += map(json.dumps, documents(visit, pages[key], clicked, when, prefix=prefix))
        file = folder / "visits.ndjson"
        write_whole(file, "\n".join(lines) + "\n")
        rejects = ("--rejects", folder / "rejects.jsonl")
        loaded = json.loads(self.shop.command("feedback", "load", file, *rejects, "--json"))
        return {**loaded, "clicks": clicked_of, "pages": len(pages)}

    def _pull(self, number: int, folder: Path) -> dict[str, Any]:
        window = ("--from", _iso(self._begin(number)), "--until", _iso(self._begin(number + 1)))
        out = ("--index", INDEX, "--out", folder / "logs", "--json")
        return dict(json.loads(self.shop.command("train", "pull", *window, *out))["counts"])

    def _dataset(self, number: int, folder: Path) -> dict[str, Any]:
        """Of all logs so far; the last part of this round's time measures."""
        plan, begin = self.plan, self._begin(number)
        logs = [("--logs", self._folder(n) / "logs") for n in range(1, number + 1)]
        made = self.shop.command(
            *("train", "dataset", "--catalogue", DATA / SET / "catalogue.jsonl.gz"),
            *(part for each in logs for part in each),
            *("--propensities", self.arm.propensities, "--encoder", "none"),
            *("--dev", plan.dev, "--test", plan.test),
            *("--train-until", _iso(begin + _WEEK * (1 - plan.dev - plan.test))),
            *("--dev-until", _iso(begin + _WEEK * (1 - plan.test))),
            *("--out", folder / "data", "--json"),
        )
        described = json.loads(made)
        return {"propensities": described["propensities"], "counts": described["counts"]}

    def _train(self, folder: Path) -> dict[str, Any]:
        plan = self.plan
        done = self.shop.command(
            *("train", "reranker", folder / "data", "--from", self.arm.name),
            *("--epochs", plan.epochs, "--learning-rate", plan.learning_rate),
            *("--batch-size", plan.batch_size, "--max-length", plan.max_length),
            *("--patience", 0, "--track", "none", "--out", folder / "run", "--json"),
        )
        return {k: v for k, v in json.loads(done).items() if k in ("ref", "before", "best")}

    def _promote(self, folder: Path) -> dict[str, Any]:
        ref = self._state(folder)["train"]["ref"]
        try:
            self.shop.command("models", "promote", ref, "--dataset", folder / "data", "--json")
        except Refused as error:
            # Interrupted after it was promoted, it is asked for again.
            if self.shop.registry.resolve(self.arm.name) != ref:
                return {"promoted": False, "why": str(error)[-1_500:]}
        return {"promoted": True}

    def _measure(self) -> dict[str, Any]:
        self.shop.wait_for(self.arm.name, self.texts[self.asked[0]])
        return self._figures(lambda text: self.shop.page(text, self.arm.name))

    def _figures(self, page: Callable[[str], list[str]]) -> dict[str, float]:
        """nDCG@10 on the true judgments: of all needs, of those that users came with, and of the
        others. The query is the judged one, and the page a real one."""
        run = {
            need: {item: -float(place) for place, item in enumerate(page(self.texts[need]))}
            for need in self.qrels
        }
        parts = {
            "all": list(self.qrels),
            "asked": list(self.asked),
            "never asked": [need for need in self.qrels if need not in self.asked],
        }
        return {
            name: round(judge({n: self.qrels[n] for n in needs}, run).mean(METRIC), 4)
            for name, needs in parts.items()
        }

    def _step(self, folder: Path, name: str, work: Callable[[], dict[str, Any]]) -> None:
        state = self._state(folder)
        if name in state:
            return
        self.say(f"{self.arm.name}, {folder.name}: {name}")
        start = time.perf_counter()
        result = work()
        seconds = round(time.perf_counter() - start, 1)
        state[name] = {**result, "seconds": seconds, "when": where_and_when()["when"]}
        write_whole(folder / "done.json", json.dumps(state, indent=2))

    def _state(self, folder: Path) -> dict[str, Any]:
        file = folder / "done.json"
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def _folder(self, number: int) -> Path:
        return self.shop.home / self.arm.name / f"round-{number}"

    def _begin(self, number: int) -> datetime:
        return self.arm.begins + _WEEK * (number - 1)


def _iso(time: datetime) -> str:
    return time.isoformat()


def same_plan(home: Path, plan: Plan) -> bool:
    """Whether the folder holds the work of this plan."""
    file = home / "plan.json"
    return file.is_file() and json.loads(file.read_text("utf-8")) == asdict(plan)

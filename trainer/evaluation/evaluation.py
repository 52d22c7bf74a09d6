"""A bundle measured on what a dataset keeps back, alone and against another."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neuralrank.errors import InvalidInput
from neuralrank.evaluation import Judged as Ranked
from neuralrank.evaluation import compare
from neuralrank.judging import query_key
from trainer.dataset import Dataset, query_keys
from trainer.evaluation.counterfactual import Estimate, estimates, reranked
from trainer.evaluation.exposure import Exposure, exposure
from trainer.evaluation.held_back import (
    Catalogue,
    Judged,
    Pages,
    Source,
    catalogue,
    judged_part,
    logged_pages,
)
from trainer.evaluation.relevance import (
    MAIN,
    METRICS,
    Calibrated,
    auc,
    calibration,
    classification,
    ranked,
)
from trainer.evaluation.robustness import Robustness, robustness
from trainer.evaluation.scoring import Scorer, Scores, Track, score_all

__all__ = [
    "CLICKS",
    "Evaluation",
    "HeldBack",
    "OfJudgments",
    "OfPages",
    "Segment",
    "combined",
    "evaluate",
    "held_back",
    "versus",
]

# The estimate that a model is promoted by.
CLICKS: Final = "DR"


@dataclass(frozen=True)
class HeldBack:
    """The test part of a dataset, and the judged dev part that thresholds are learned on."""

    items: Catalogue
    judged: Judged | None
    dev: Judged | None
    pages: Pages | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the queries (`metric` nDCG@10) or of the pages (`metric` clicks a page, by DR)."""

    dimension: str
    name: str
    size: int
    metric: str
    value: float


@dataclass(frozen=True)
class OfJudgments:
    """What judged queries say, or lists of which users chose something."""

    source: Source
    # What was put in order, in words.
    words: str
    pairs: int
    order: Ranked
    auc: Mapping[str, float | None]
    # Empty and None where scores are no relevance of one query and one item.
    classification: Mapping[str, Any]
    calibration: Calibrated | None
    segments: tuple[Segment, ...]
    exposure: Exposure
    robustness: tuple[Robustness, ...]
    # Queries that were left out because they are trained on.
    trained: int = 0


@dataclass(frozen=True)
class OfPages:
    """What logged pages say: the clicks a page by estimator, and `logged`, as they were made."""

    pages: int
    logged: float
    estimates: Mapping[str, Estimate]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Evaluation:
    """One bundle."""

    ref: str
    judgments: OfJudgments | None
    clicks: OfPages | None

    @property
    def segments(self) -> dict[tuple[str, str], Segment]:
        parts = [part.segments for part in (self.judgments, self.clicks) if part is not None]
        return {(s.dimension, s.name): s for segments in parts for s in segments}

    def numbers(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        found: dict[str, Any] = {}
        if self.judgments is not None:
            part = self.judgments
            found |= {
                **{name: round(part.order.mean(key), 4) for name, key in METRICS.items()},
                **{n: None if v is None else round(v, 4) for n, v in part.auc.items()},
                "ci95": {
                    name: [round(x, 4) for x in part.order.interval(key)]
                    for name, key in METRICS.items()
                },
                "exposure": part.exposure.numbers(),
            }
            if part.calibration is not None:
                found |= {
                    "calibration": part.calibration.numbers(),
                    "classification": part.classification,
                    "robustness": {row.name: row.numbers() for row in part.robustness},
                }
        if self.clicks is not None:
            found["counterfactual"] = {
                "pages": self.clicks.pages,
                "logged_clicks_a_page": round(self.clicks.logged, 6),
                "clicks_a_page": {n: e.numbers() for n, e in self.clicks.estimates.items()},
            }
        found["segments"] = [
            {**asdict(s), "value": round(s.value, 4)} for s in self.segments.values()
        ]
        return found


def held_back(data: Dataset) -> HeldBack:
    """
    Raises:
        InvalidInput: the test part has neither a labelled pair nor a page, or one class only.
    """
    found = HeldBack(catalogue(data), judged_part(data, "test"), _dev(data), logged_pages(data))
    if found.judged is None and found.pages is None:
        pairs, pages = data.examples.num_rows, data.impressions.num_rows
        raise InvalidInput(
            "The dataset has nothing to measure with: its test part has no labelled pairs and no "
            f"pages with a query (all parts: {pairs:,} pairs, {pages:,} shown items). Make one of "
            "a longer time (`neuralrank train pull --from`) or of judgments (`neuralrank train "
            "dataset`)."
        )
    return found


def combined(
    data: Dataset, judgments: Dataset, trained: Callable[[str], bool] = lambda _: False
) -> HeldBack:
    """What judgments keep back, with the pages that a dataset of logs keeps back: one says what is
    relevant, the other what users do. Judged queries of the other's train part are left out: what
    was trained on them would look better than it is.

    Args:
        trained: whether the query of a key was trained on before.

    Raises:
        InvalidInput: nothing of the judgments is kept back, or they are of one class only.
    """
    known = query_keys(data.of("queries", "train"))
    keys = [query_key(text) for text in judgments.queries["text"].to_pylist()]
    apart = [key not in known and not trained(key) for key in keys]
    queries = judgments.queries.filter(pa.array(apart, pa.bool_()))
    rows = judgments.examples
    rows = rows.filter(pc.is_in(rows["query_id"], queries["query_id"]))
    kept = replace(judgments, queries=queries, examples=rows)
    every, others = (
        len(pc.unique(each.of("examples", "test")["query_id"])) for each in (judgments, kept)
    )
    judged = judged_part(kept, "test")
    if judged is None:
        raise InvalidInput(
            f"The judgments ({judgments.description.source}) have nothing to measure with: "
            + (
                f"all {every:,} queries of their test part are trained on, in the dataset beside "
                "them or before. Judge others."
                if every
                else "their test part has no labelled pairs. Take a larger --test in `neuralrank "
                "train dataset`."
            )
        )
    items = {**catalogue(judgments), **catalogue(data)}
    return HeldBack(items, replace(judged, trained=every - others), _dev(kept), logged_pages(data))


def evaluate(
    scorer: Scorer, material: HeldBack, track: Track, *, robust: bool = True
) -> Evaluation:
    """
    Args:
        robust: whether queries written in other ways are scored too, which costs several times as
            much.
    """
    judgments = clicks = None
    if material.judged is not None:
        judgments = _of_judgments(scorer, material.judged, material, track, robust)
    if material.pages is not None:
        clicks = _of_pages(scorer, material.pages, material.items, track)
    return Evaluation(scorer.bundle.ref, judgments, clicks)


def versus(system: Evaluation, other: Evaluation) -> dict[str, Any]:
    """How a system differs from another on the same material, for `--json`."""
    found: dict[str, Any] = {}
    if system.judgments is not None and other.judgments is not None:
        one, two = system.judgments.order, other.judgments.order
        found |= {name: asdict(compare(one, two, key)) for name, key in METRICS.items()}
    if system.clicks is not None and other.clicks is not None:
        mine, theirs = (part.clicks.estimates[CLICKS] for part in (system, other) if part.clicks)
        found["clicks_a_page"] = mine.minus(theirs).numbers()
    theirs_by_key = other.segments
    found["segments"] = [
        {
            "dimension": segment.dimension,
            "name": segment.name,
            "difference": round(segment.value - theirs_by_key[key].value, 4),
        }
        for key, segment in system.segments.items()
        if key in theirs_by_key
    ]
    return found


def _dev(data: Dataset) -> Judged | None:
    try:
        return judged_part(data, "dev")
    except InvalidInput:  # one class only teaches no thresholds
        return None


def _of_judgments(
    scorer: Scorer, judged: Judged, material: HeldBack, track: Track, robust: bool
) -> OfJudgments:
    items = material.items
    scores = score_all(scorer, judged.texts, judged.labels, items, track, "judged queries")
    labels = judged.flat(judged.labels)
    probabilities = scorer.probability(judged.flat(scores))
    learned = None
    if material.dev is not None:
        dev = material.dev
        known = score_all(scorer, dev.texts, dev.labels, items, track, "dev queries")
        learned = (dev.flat(dev.labels), scorer.probability(dev.flat(known)))
    order = ranked(judged, scores)
    rows = robustness(scorer, judged, scores, items, track) if robust else []
    return OfJudgments(
        source=judged.source,
        words=f"The judged items of {len(order.queries):,} queries ({judged.pairs:,} pairs, from "
        f"{judged.source}s), put in order by the model alone. {judged.without_relevant:,} more "
        f"queries have no relevant item, in {judged.alike:,} all items have the same label; they "
        "are left out"
        + (f"; {judged.trained:,} are trained on, and are left out." if judged.trained else "."),
        pairs=judged.pairs,
        order=order,
        auc=auc(judged, scores),
        classification=classification(labels, probabilities, learned),
        calibration=calibration(probabilities, labels > 0),
        segments=_segments(judged, order, items),
        exposure=exposure(judged, scores, items),
        robustness=tuple(rows),
        trained=judged.trained,
    )


def _of_pages(scorer: Scorer, pages: Pages, items: Catalogue, track: Track) -> OfPages:
    logged = pages.logged
    wanted: dict[str, dict[str, None]] = {}
    for query, item in zip(logged.query, logged.item, strict=True):
        wanted.setdefault(query, {})[item] = None
    scores: Scores = score_all(scorer, pages.texts, wanted, items, track, "queries of pages")
    rows = [scores[query][item] for query, item in zip(logged.query, logged.item, strict=True)]
    places = reranked(logged, np.array(rows))
    found = estimates(logged, places, pages.attraction)
    users = np.array(pages.users)
    segments = [
        Segment("users", name, int(mask.sum()), "clicks a page", found[CLICKS].of_pages(mask).value)
        for name in ("new", "returning", "anonymous")
        if (mask := users == name).any()
    ]
    return OfPages(logged.pages, float(logged.clicked.sum() / logged.pages), found, tuple(segments))


def _segments(judged: Judged, order: Ranked, items: Catalogue) -> tuple[Segment, ...]:
    """Of each dimension the largest first. All of them: the gate looks at the small ones, too."""
    values = dict(zip(order.queries, order.values[MAIN].tolist(), strict=True))
    found = []
    for dimension, names in (
        ("language", judged.languages),
        ("traffic", judged.segments),
        ("category", _categories(judged, items)),
    ):
        of: dict[str, list[float]] = {}
        for query, name in names.items():
            if name:
                of.setdefault(name, []).append(values[query])
        ordered = sorted(of.items(), key=lambda row: (-len(row[1]), row[0]))
        found += [
            Segment(dimension, name, len(row), MAIN, float(np.mean(row))) for name, row in ordered
        ]
    return tuple(found)


def _categories(judged: Judged, items: Catalogue) -> dict[str, str]:
    """Of each query the department that most of its relevant items are of."""
    found = {}
    for query, row in judged.labels.items():
        named = Counter(items[i].department for i, label in row.items() if label > 0)
        named.pop("", None)
        found[query] = min(named, key=lambda name: (-named[name], name)) if named else ""
    return found

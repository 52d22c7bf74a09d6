"""Queries through the real pipeline: what a variant answers, and how long it takes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import Unavailable
from neuralrank.evaluation import scores_of
from neuralrank.opensearch import page
from opensearch_config import files
from opensearch_config.tuning.journal import Journal
from opensearch_config.tuning.questions import Questions
from opensearch_config.tuning.variants import Planned

__all__ = ["DEPTH", "Answers", "Asked", "ask", "ask_all", "ask_well", "run_of", "time_all"]

# Hits that are judged, for R@100, and hits of a page that is timed.
DEPTH: Final = 100
_PAGE: Final = 10
# What a page is called that was to be ranked and was not.
_UNRANKED: Final = "unranked"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer."""

    items: list[str]  # best first
    milliseconds: float
    degraded: list[str]  # reasons
    # Whether it was ranked, where it goes through a pipeline that ranks.
    ranked: bool
    # Why not, or not well.
    detail: str = ""

    def json(self) -> dict[str, Any]:
        return {
            "items": self.items,
            "degraded": self.degraded if self.ranked else [*self.degraded, _UNRANKED],
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """What a variant answers to all queries."""

    items: Mapping[str, list[str]]  # by query
    # How many queries had each reason for less than the best answer.
    degraded: Mapping[str, int]


def ask(
    client: OpenSearch,
    index: str,
    pipeline: str,
    query: Mapping[str, Any],
    size: int,
    options: Mapping[str, Any] | None = None,
) -> Asked:
    """One search, as an application sends it that shows titles and counts no further than it must.

    Args:
        options: `ext.neural_rank`.
    """
    return _asked(_page(client, index, pipeline, query, size, options), pipeline)


def ask_well(
    client: OpenSearch,
    index: str,
    pipeline: str,
    query: Mapping[str, Any],
    size: int,
    options: Mapping[str, Any] | None = None,
) -> Asked:
    """As `ask`; a page that came late is asked again, when the caches are warm."""
    once = partial(_page, client, index, pipeline, query, size, options)
    return _asked(page.in_time(once(), once), pipeline)


def _page(
    client: OpenSearch,
    index: str,
    pipeline: str,
    query: Mapping[str, Any],
    size: int,
    options: Mapping[str, Any] | None,
) -> page.Page:
    return page.ask(
        client, index, query, options, size=size, pipeline=pipeline, fields=("title",), count=False
    )


def _asked(found: page.Page, pipeline: str) -> Asked:
    ranks = pipeline != page.NO_PIPELINE
    return Asked(
        [hit.id for hit in found.hits],
        found.took_ms,
        [str(note["reason"]) for note in found.degraded],
        not (ranks and found.hits) or found.reranked,
        "; ".join(str(note.get("detail") or note["reason"]) for note in found.degraded),
    )


def ask_all(
    client: OpenSearch,
    journal: Journal,
    planned: Planned,
    where: tuple[str, str],
    questions: Questions,
    progress: Progress,
) -> Answers:
    """What a variant answers to every query.

    Args:
        where: index and pipeline.

    Raises:
        Unavailable: most pages came back unranked.
    """
    items: dict[str, list[str]] = {}
    degraded: Counter[str] = Counter()
    for done, (query, text) in enumerate(questions.texts.items(), start=1):
        key = ("page", planned.name, query)
        known = journal.get(*key)
        if known is None:
            filled = files.filled(planned.template, text)
            known = ask_well(client, *where, filled, min(DEPTH, planned.window)).json()
            journal.put(*key, value=known)
        items[query] = known["items"]
        degraded.update(set(known["degraded"]))
        progress(done, len(questions.texts))
    if degraded[_UNRANKED] * 2 > len(items):
        raise Unavailable(
            f"{degraded[_UNRANKED]} of {len(items)} pages of {planned.name!r} came back unranked. "
            "See `neuralrank status`, and give the pipeline more time (timeout_ms)."
        )
    return Answers(items, dict(degraded))


def time_all(
    client: OpenSearch,
    journal: Journal,
    variants: Sequence[tuple[Planned, tuple[str, str]]],
    questions: Questions,
    repeats: int,
    progress: Progress,
) -> dict[str, list[float]]:
    """Milliseconds of a page, by variant. The variants take turns at each query, so that what else
    the machine does costs all of them alike; every cache is warm, since all have been asked."""
    found: dict[str, list[float]] = {planned.name: [] for planned, _ in variants}
    done, total = 0, repeats * len(questions.texts) * len(variants)
    for number in range(repeats):
        for query, text in questions.texts.items():
            for planned, where in variants:
                key = ("time", planned.name, str(number), query)
                known = journal.get(*key)
                if known is None:
                    filled = files.filled(planned.template, text)
                    asked = ask(client, *where, filled, min(_PAGE, planned.window))
                    known = round(asked.milliseconds, 3)
                    journal.put(*key, value=known)
                found[planned.name].append(known)
                done += 1
                progress(done, total)
    return found


def run_of(items: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """Rankings as scores."""
    return {query: scores_of(ranked) for query, ranked in items.items()}

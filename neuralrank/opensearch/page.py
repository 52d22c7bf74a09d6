"""One page of results, asked of OpenSearch as an application would ask for it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound

__all__ = ["NO_PIPELINE", "PIPELINE", "Hit", "Page", "ask", "in_time"]

# The search pipeline that `neuralrank config apply --yes` creates, and OpenSearch's name for none.
PIPELINE: Final = "neural_rank"
NO_PIPELINE: Final = "_none"

# What is shown of a product. The ranker gets the fields that it needs by itself.
_FIELDS: Final = ("title", "brand", "category", "price", "currency", "in_stock")
# Reasons for less than the best page that are a matter of time.
_LATE: Final = {"deadline", "features_unavailable", "overload", "sidecar_unavailable"}
# How often a page that came late is asked for again.
_AGAIN: Final = 3
# Parts of an explanation that stand beside the id and the score already.
_NOT_PARTS: Final = ("id", "score")


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. `parts` is what made its score; empty where it was not re-ranked."""

    id: str
    score: float | None
    source: Mapping[str, Any]
    parts: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        shown = ("title", "brand", "price", "category")
        return {
            "id": self.id,
            "score": self.score,
            **{name: self.source.get(name) for name in shown},
            "parts": dict(self.parts),
        }


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of OpenSearch and what the plugin said about it."""

    query: str
    user: str
    took_ms: float  # wall clock, as the caller saw it
    total: int  # matches of the query itself; what the vectors added is not counted
    hits: tuple[Hit, ...]
    report: Mapping[str, Any]  # the plugin's `ext.neural_rank`; empty without the pipeline

    @property
    def reranked(self) -> bool:
        return bool(self.report.get("reranked", False))

    @property
    def degraded(self) -> list[Mapping[str, Any]]:
        return list(self.report.get("degraded") or ())

    @property
    def late(self) -> bool:
        """Whether there was no time for a part of it, such as with cold caches."""
        return any(note["reason"] in _LATE for note in self.degraded)

    @property
    def dropped(self) -> list[Mapping[str, Any]]:
        return list(self.report.get("dropped") or ())

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "query": self.query,
            "user": self.user,
            "took_ms": round(self.took_ms, 1),
            "total": self.total,
            "reranked": self.reranked,
            "degraded": self.degraded,
            "stages_ms": self.report.get("took_ms", {}),
            "bundles": self.report.get("bundles", []),
            "hits": [hit.json() for hit in self.hits],
            "dropped_count": self.report.get("dropped_count", 0),
            "dropped": self.dropped,
        }


def ask(
    client: OpenSearch,
    index: str,
    query: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    text: str = "",
    size: int = 10,
    start: int = 0,
    pipeline: str = PIPELINE,
    fields: Sequence[str] = _FIELDS,
    count: bool = True,
) -> Page:
    """One search, as an application sends it.

    Args:
        query: the OpenSearch query.
        options: `ext.neural_rank`; not sent when `pipeline` is `NO_PIPELINE`.
        text: what the user typed, for the `Page`; the plugin reads it from the query itself.
        start: hits to skip.
        fields: of a hit's source.
        count: whether all matches are counted, which takes longer; else to where OpenSearch stops.

    Raises:
        NotFound: there is no such index.
        InvalidInput: OpenSearch does not accept the request, or has no such pipeline.
        Unavailable: OpenSearch does not answer. A sidecar that does not answer is no error: the
            page is then in the original order and `degraded` says why.
    """
    body: dict[str, Any] = {
        "query": dict(query),
        "from": start,
        "size": size,
        "_source": list(fields),
    }
    if count:
        body["track_total_hits"] = True
    if pipeline != NO_PIPELINE:
        body["ext"] = {"neural_rank": dict(options or {})}
    began = time.perf_counter()
    try:
        answer = client.search(index=index, body=body, params={"search_pipeline": pipeline})
    except NotFound as error:
        raise NotFound(
            f"There is no index {index!r}: {error} Make it with "
            f"`neuralrank index CATALOGUE --index {index}`."
        ) from error
    except InvalidInput as error:
        if f"Pipeline {pipeline}" in str(error):
            raise InvalidInput(
                f"OpenSearch has no search pipeline {pipeline!r}: {error} Create it with "
                "`neuralrank config apply --yes`."
            ) from error
        raise
    took_ms = (time.perf_counter() - began) * 1000
    report = (answer.get("ext") or {}).get("neural_rank") or {}
    explained = {result["id"]: result for result in report.get("results") or ()}
    return Page(
        query=text,
        user=str((options or {}).get("user_id", "")),
        took_ms=took_ms,
        total=int(answer["hits"]["total"]["value"]),
        hits=tuple(
            Hit(
                id=row["_id"],
                score=row["_score"],
                source=row.get("_source") or {},
                parts=_parts(explained.get(row["_id"], {})),
            )
            for row in answer["hits"]["hits"]
        ),
        report=report,
    )


def in_time(page: Page, again: Callable[[], Page]) -> Page:
    """The page or, where it came late, one that was asked for again: what was read meanwhile is in
    the caches. Three times at most: what is late then is what applications get."""
    for _ in range(_AGAIN):
        if not page.late:
            break
        page = again()
    return page


def _parts(explanation: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in explanation.items() if name not in _NOT_PARTS}

"""The queries and judgments of a run, and what of them can't be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput
from neuralrank.evaluation import read_qrels, read_queries
from neuralrank.judging import (
    Judgments,
    is_opensearch,
    judgments_from_clicks,
    require_some,
    unknown_items,
)
from opensearch_config.tuning.spec import Clicks, JudgmentsSource

__all__ = ["Questions", "read_questions"]


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries that have judgments."""

    # By query id.
    texts: Mapping[str, str]
    grades: Mapping[str, Mapping[str, int]]
    # Judged items that the index does not hold: no ranking can find them.
    unknown_items: list[str] = field(default_factory=list)
    # Judged queries without a text, and queries without a judgment, by id.
    without_text: list[str] = field(default_factory=list)
    without_judgment: list[str] = field(default_factory=list)

    def only(self, queries: list[str]) -> "Questions":
        return Questions(
            {query: self.texts[query] for query in queries},
            {query: self.grades[query] for query in queries},
        )

    def json(self) -> dict[str, Any]:
        return {
            "queries": len(self.texts),
            "judgments": sum(map(len, self.grades.values())),
            "unknown_items": self.unknown_items,
            "queries_without_text": self.without_text,
            "queries_without_judgment": self.without_judgment,
        }


def read_questions(
    client: OpenSearch, source: JudgmentsSource, base: Path, index: str
) -> Questions:
    """
    Args:
        base: the folder that paths are relative to.
        index: where judged items are looked up.

    Raises:
        NotFound: a file is not there.
        InvalidInput: it has another format, or no query has both a text and a judgment.
    """
    without_judgment: list[str] = []
    if source.file is not None and is_opensearch(source.file):
        made = Judgments.read(base / source.file)
        texts, grades = made.texts, made.grades
        where = str(source.file)
    elif source.file is not None and source.queries is not None:
        texts, grades = read_queries(base / source.queries), read_qrels(base / source.file)
        without_judgment = sorted(texts.keys() - grades.keys())
        where = f"{source.queries} and {source.file}"
    else:
        clicks = source.clicks or Clicks()
        found = judgments_from_clicks(
            client,
            clicks.model,
            min_impressions=clicks.min_impressions,
            thresholds=clicks.thresholds,
            since=clicks.since,
            until=clicks.until,
        )
        texts, grades = found.judgments.texts, found.judgments.grades
        where = f"the clicks of {found.pages:,} pages"
    kept = sorted(query for query in grades if query in texts)
    if not kept:
        raise InvalidInput(
            f"{where}: no query has both a text and a judgment. See that both files have the same "
            "ids; for clicks, that there are pages enough (min_impressions)."
        )
    items = {item for query in kept for item in grades[query]}
    unknown = unknown_items(client, index, items)
    require_some(index, items, unknown)
    return Questions(
        texts={query: texts[query] for query in kept},
        grades={query: grades[query] for query in kept},
        unknown_items=unknown,
        without_text=sorted(grades.keys() - texts.keys()),
        without_judgment=without_judgment,
    )

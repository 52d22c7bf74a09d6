"""Judgments of what users saw and clicked, read from OpenSearch's UBI indexes."""

from collections.abc import Sequence
from dataclasses import dataclass

from opensearchpy import OpenSearch

from neuralrank.judging.clicks import MODELS, Tally, grade
from neuralrank.judging.judgments import Judgments, query_key
from neuralrank.judging.pages import read_pages
from neuralrank.ubi.rows import Skipped

__all__ = ["Learned", "judgments_from_clicks"]


@dataclass(frozen=True, slots=True)
class Learned:
    """Judgments, and what was left out on the way."""

    judgments: Judgments
    pages: int
    # Pairs that were shown (sdbn: read) too rarely, and pairs of queries that were not wanted.
    too_rare: int
    other_queries: int
    skipped: Skipped


def judgments_from_clicks(
    client: OpenSearch,
    model: str,
    *,
    min_impressions: int,
    thresholds: Sequence[float] = (),
    since: str = "",
    until: str = "",
    wanted: Judgments | None = None,
) -> Learned:
    """
    Args:
        model: one of `MODELS`.
        min_impressions: pairs that were shown less often get no judgment.
        thresholds: from which value on the grade is 1, 2, …; empty: the model's.
        since, until: ISO 8601 or date math.
        wanted: only its queries, under its ids; grades are added to it.
    """
    steps = tuple(thresholds) or MODELS[model]
    tally, skipped = Tally(), Skipped()
    rare = other = 0
    made = wanted or Judgments()
    tally.add(read_pages(client, skipped, since=since, until=until))
    keys = {query_key(text) for text in wanted.texts.values()} if wanted else None
    for estimate in tally.estimates(model):
        if keys is not None and estimate.query not in keys:
            other += 1
        elif estimate.seen < min_impressions:
            rare += 1
        else:
            grades = made.grades.setdefault(made.id_of(estimate.query), {})
            grades[estimate.item] = grade(estimate.value, steps)
    return Learned(made, tally.pages, rare, other, skipped)

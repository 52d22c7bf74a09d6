"""Numbers of a comparison: means, significance against the first variant, wins and losses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from neuralrank.evaluation import Judged, compare, judge, summary
from opensearch_config.tuning.asking import Answers, run_of
from opensearch_config.tuning.bench import Built
from opensearch_config.tuning.questions import Questions

__all__ = ["METRIC", "Measured", "adjusted", "table", "versus"]

# What variants are compared by.
METRIC: Final = "nDCG@10"
# A difference as likely by chance is none.
SIGNIFICANT: Final = 0.05
# Queries that are named on either side.
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a variant."""

    name: str
    changes: Mapping[str, Any]  # what the spec says of it
    built: Built
    pipeline: Mapping[str, Any] | None
    answers: Answers
    milliseconds: list[float]  # of pages
    # By query; None: it has no k-NN leg.
    recall: Mapping[str, float] | None


def table(
    measured: Sequence[Measured], questions: Questions, recall_at: int
) -> list[dict[str, Any]]:
    """One row a variant, each compared with the first.

    Raises:
        Unsupported: the extra `evaluate` is not installed.
    """
    judged = [judge(questions.grades, run_of(each.answers.items)) for each in measured]
    rows = []
    for each, found in zip(measured, judged, strict=True):
        row: dict[str, Any] = {"name": each.name, "changes": dict(each.changes)}
        row |= summary(found, each.milliseconds)
        row["knn_recall"] = (
            None
            if each.recall is None
            else {"k": recall_at, "mean": round(float(np.mean(list(each.recall.values()))), 4)}
        )
        row["index"] = each.built.index
        row["index_bytes"] = each.built.bytes
        row["indexing_seconds"] = each.built.seconds
        row["degraded"] = dict(each.answers.degraded)
        row["pipeline"] = each.pipeline
        if each is not measured[0]:
            row["versus_first"] = versus(found, judged[0], questions)
        rows.append(row)
    chances = adjusted([row["versus_first"]["p"] for row in rows[1:]])
    for row, chance in zip(rows[1:], chances, strict=True):
        row["versus_first"]["p_holm"] = round(chance, 4)
        row["versus_first"]["significant"] = chance < SIGNIFICANT
    return rows


def versus(system: Judged, first: Judged, questions: Questions) -> dict[str, Any]:
    """How a ranking differs from the first one by `METRIC`, and on which queries most."""
    differences = dict(
        zip(system.queries, (system.values[METRIC] - first.values[METRIC]).tolist(), strict=True)
    )
    ordered = sorted(differences, key=lambda query: (-differences[query], query))

    def named(queries: Sequence[str], sign: int) -> list[dict[str, Any]]:
        return [
            {
                "id": query,
                "text": questions.texts[query],
                "difference": round(differences[query], 4),
            }
            for query in queries[:_NAMED]
            if sign * differences[query] > 0
        ]

    return {
        **{
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(compare(system, first, METRIC)).items()
        },
        "won": named(ordered, 1),
        "lost": named(ordered[::-1], -1),
        "by_query": {query: round(value, 4) for query, value in differences.items()},
    }


def adjusted(chances: Sequence[float]) -> list[float]:
    """Probabilities that hold for all comparisons together.

    Of twenty variants that do nothing, one has p < 0.05. Holm, "A Simple Sequentially Rejective
    Multiple Test Procedure" (1979).
    """
    made = [0.0] * len(chances)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[place]))
        made[place] = highest
    return made

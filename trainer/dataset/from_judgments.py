"""A dataset of judgment files: TREC qrels with their queries, or OpenSearch's Search Relevance.

Judgments have no time, so their queries are split by a hash of their text (`splits.by_hash`).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from neuralrank.errors import InvalidInput
from neuralrank.judging import Judgments, query_id, query_key
from neuralrank.text.language import detect
from trainer.dataset.format import EXAMPLES, QUERIES, SPLITS, Dataset, Description
from trainer.dataset.negatives import Finders, added
from trainer.dataset.splits import Shares, by_hash

__all__ = ["JudgmentOptions", "from_judgments"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class JudgmentOptions:
    """How judgments become a dataset."""

    shares: Shares = field(default_factory=Shares)
    # Items of grade 0 that a query of train has at least; unjudged ones fill it up.
    negatives: int = 4
    # The highest grade of the scale, which becomes 1; 0: the highest in the file.
    highest: int = 0
    seed: int = 0


def from_judgments(
    judgments: Judgments,
    items: pa.Table,
    finders: Finders,
    options: JudgmentOptions,
    source: str,
    progress: Progress,
    without_text: int = 0,
) -> Dataset:
    """
    Args:
        items: ITEMS of the catalogue; `finders` are over the same, in the same order.
        source: in words, what the judgments are.
        without_text: judged queries that were left out before, to be counted.

    Raises:
        InvalidInput: a grade is outside the scale, an item has two for one query (under two ids),
            no judged item is in the catalogue, or the train part has one class only.
    """
    judgments = _by_text(judgments)
    names: list[str] = items["item_id"].to_pylist()
    row_of = {name: row for row, name in enumerate(names)}
    grades = [grade for of in judgments.grades.values() for grade in of.values()]
    highest = options.highest or max(grades)
    _check_scale(judgments, highest)
    by_key: dict[str, tuple[str, dict[int, int]]] = {}
    unknown = 0
    for query, of in judgments.grades.items():
        text = judgments.texts[query]
        rows = {row_of[item]: grade for item, grade in of.items() if item in row_of}
        by_key[query_key(text)] = (text, rows)
        unknown += len(of) - len(rows)
    if unknown == len(grades):
        raise InvalidInput(
            f"None of the {unknown:,} judged items is in the catalogue, {next(iter(names))!r} is. "
            "Is it the catalogue that the judgments are of?"
        )
    part_of = by_hash(
        [key for key, (_, rows) in by_key.items() if rows], options.shares, options.seed
    )
    chance = np.random.default_rng(options.seed)
    examples: list[dict[str, Any]] = []
    for done, (key, split) in enumerate(part_of.items(), start=1):
        text, rows = by_key[key]
        found, _ = finders.look(text, np.array(list(rows), np.intp))

        def example(row: int, label: float, negative: str, key: str = key, split: str = split,
                    ) -> dict[str, Any]:  # fmt: skip
            return {
                "query_id": query_id(key),
                "item_id": names[row],
                "label": label,
                "weight": 1.0,
                "source": "judgment",
                "negative": negative,
                "split": split,
            }

        for row, grade in rows.items():
            name = "" if grade else found.name(row, "")
            examples.append(example(row, grade / highest, name))
        if split == "train" and any(rows.values()):
            lacking = options.negatives - sum(not grade for grade in rows.values())
            for row, name in added(found, set(rows), len(names), lacking, chance):
                examples.append(example(row, 0.0, name))
        progress("searching", done, len(part_of))
    labels = {row["label"] for row in examples if row["split"] == "train"}
    if len(labels) < 2:
        raise InvalidInput(
            "One class only: all judgments of the train part have the label "
            f"{max(labels, default=0):g}, so nothing can be learned from them. Add judgments of "
            "other grades, or --negatives."
        )
    return Dataset(
        Description(
            source=source,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            counts={
                "queries": dict(Counter(part_of.values())),
                "examples": {
                    split: sum(row["split"] == split for row in examples) for split in SPLITS
                },
                "grades": {str(grade): grades.count(grade) for grade in sorted(set(grades))},
                "negatives": dict(Counter(row["negative"] for row in examples if row["negative"])),
                "unknown_items": unknown,
                "queries_without_text": without_text,
                "queries_without_items": len(by_key) - len(part_of),
            },
        ),
        items=items,
        queries=pa.Table.from_pylist(
            [
                {
                    "query_id": query_id(key),
                    "text": by_key[key][0],
                    "language": detect(by_key[key][0]),
                    "split": split,
                    "segment": "",
                }
                for key, split in part_of.items()
            ],
            QUERIES,
        ),
        examples=pa.Table.from_pylist(examples, EXAMPLES),
    )


def _by_text(judgments: Judgments) -> Judgments:
    """Queries that differ in case, width or spaces only as one, with the text of the first."""
    made = Judgments()
    for query, grades in judgments.grades.items():
        made.add(made.id_of(judgments.texts[query]), grades)
    return made


def _check_scale(judgments: Judgments, highest: int) -> None:
    for query, of in judgments.grades.items():
        for item, grade in of.items():
            if not 0 <= grade <= highest:
                raise InvalidInput(
                    f"The grade of {item!r} for the query {judgments.texts[query]!r} is {grade}, "
                    f"outside the scale; allowed is 0 to {highest}."
                )
    if highest < 1:
        raise InvalidInput(
            "One class only: every grade is 0, so nothing can be learned from them. Add judgments "
            "of what answers the queries."
        )

"""How good exact search is with a model's vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from neuralrank.catalogue.product import headline
from neuralrank.encoders.matryoshka import cut
from neuralrank.evaluation import judge
from trainer.dataset import Dataset

__all__ = ["Search", "measured"]

# Metrics are of the first 100 at most.
_DEPTH: Final = 100
# Queries that are scored at once: scores are of each with all items.
_BLOCK: Final = 64
# Grades are whole numbers for `neuralrank.evaluation`; nDCG does not change with their scale.
_STEPS: Final = 1_000

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Search:
    """The queries of a part, and what they are searched in."""

    query_texts: tuple[str, ...]
    item_texts: tuple[str, ...]
    # By place of the query, of the item: its grade.
    qrels: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, data: Dataset, split: str, most: int, most_queries: int = 500) -> "Search":
        """Everything judged for the part's queries, and others of the catalogue up to `most` items
        in all. With fewer items search is easier: compare only with the same number.

        Args:
            most_queries: of a part with more, so many count, by chance, the same every time.
        """
        examples = data.of("examples", split)
        asked = examples["query_id"].unique()
        if len(asked) > most_queries:
            some = np.random.default_rng(0).choice(len(asked), most_queries, replace=False)
            examples = examples.filter(pc.is_in(examples["query_id"], asked.take(pa.array(some))))
        judged = dict.fromkeys(examples["item_id"].to_pylist())
        known = data.items["item_id"].to_pylist()
        # The same others every time, whatever the order of the catalogue.
        others = sorted(set(known) - judged.keys())
        count = max(0, min(len(others), most - len(judged)))
        chosen = np.random.default_rng(0).permutation(len(others))[:count].tolist()
        kept = [*judged, *(others[place] for place in chosen)]
        place = {name: row for row, name in enumerate(known)}
        titles, brands = data.items["title"].to_pylist(), data.items["brand"].to_pylist()
        item_texts = tuple(
            headline({"title": titles[place[name]], "brand": brands[place[name]]}) for name in kept
        )
        row_of = {name: row for row, name in enumerate(kept)}
        texts = data.query_texts()
        queries = list(dict.fromkeys(examples["query_id"].to_pylist()))
        number = {name: row for row, name in enumerate(queries)}
        qrels: dict[str, dict[str, int]] = {str(row): {} for row in range(len(queries))}
        for query, item, label in zip(
            *(examples[name].to_pylist() for name in ("query_id", "item_id", "label")), strict=True
        ):
            grade = round(_STEPS * (label - data.description.labels.min))
            qrels[str(number[query])][str(row_of[item])] = grade
        return cls(tuple(texts[name] for name in queries), item_texts, qrels)


def measured(
    search: Search, queries: Vectors, items: Vectors, dimensions: Sequence[int]
) -> dict[str, float]:
    """nDCG@10 and R@100 with the whole vectors, and nDCG@10 with their beginnings.

    Args:
        queries, items: float32 [.., d] of length 1.
    """
    width = queries.shape[1]
    found = _judged(search, queries, items)
    for count in dimensions:
        if count < width:
            short = _judged(search, cut(queries, count), cut(items, count))
            found[f"nDCG@10 of {count} dimensions"] = short["nDCG@10"]
    return found


def _judged(search: Search, queries: Vectors, items: Vectors) -> dict[str, float]:
    run: dict[str, dict[str, float]] = {}
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ items.T  # [block, n]
        for row, line in enumerate(scores, start):
            best = np.argsort(-line, kind="stable")[:_DEPTH].tolist()
            run[str(row)] = {str(place): float(line[place]) for place in best}
    judged = judge(search.qrels, run)
    return {name: judged.mean(name) for name in ("nDCG@10", "R@100")}

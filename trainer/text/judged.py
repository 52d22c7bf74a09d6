"""Judged pairs of a dataset's part, query by query."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput
from neuralrank.evaluation import ndcg
from trainer.dataset import Dataset

__all__ = ["Judged", "mean_ndcg"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judged:
    """Pairs of a query and an item, those of one query beside each other.

    Arrays are [pairs]: `query` and `item` are places in `queries` and `texts`, `label` is in
    [0, 1], `weight` has the mean 1.
    """

    queries: list[str]
    texts: list[str]
    query_ids: list[str]
    item_ids: list[str]
    query: Ints
    item: Ints
    label: Floats
    weight: Floats

    @classmethod
    def of(cls, dataset: Dataset, split: str, most_queries: int = 0, seed: int = 0) -> "Judged":
        """The pairs of one part, in the order of the dataset's queries.

        Args:
            most_queries: take so many queries, by chance; 0: all.

        Raises:
            InvalidInput: the part has no pair.
        """
        examples = dataset.of("examples", split)
        if not examples.num_rows:
            raise InvalidInput(
                f"The {split} part of the dataset has no judged or clicked pair. Make a dataset of "
                "more time or more judgments with `neuralrank train dataset`, or move its borders."
            )
        query_ids, query = _coded(examples["query_id"])
        if most_queries and len(query_ids) > most_queries:
            random = np.random.default_rng([seed, 3])
            chosen = random.choice(len(query_ids), most_queries, replace=False)
            examples = examples.filter(pa.array(np.isin(query, chosen)))
            query_ids, query = _coded(examples["query_id"])
        item_ids, item = _coded(examples["item_id"])
        order = np.argsort(query, kind="stable")
        scale = dataset.description.labels
        label = examples["label"].to_numpy()[order].astype(np.float64)
        weight = examples["weight"].to_numpy()[order].astype(np.float64)
        query_texts, texts = dataset.query_texts(), dataset.texts()
        return cls(
            queries=[query_texts[name] for name in query_ids],
            texts=[texts[name] for name in item_ids],
            query_ids=query_ids,
            item_ids=item_ids,
            query=query[order],
            item=item[order],
            label=((label - scale.min) / (scale.max - scale.min)).astype(np.float32),
            weight=(weight / weight.mean()).astype(np.float32),
        )

    def __len__(self) -> int:
        return len(self.query)

    @cached_property
    def begins(self) -> Ints:
        """Where each query's pairs begin, and where the last one's end: int64 [queries + 1]."""
        return np.searchsorted(self.query, np.arange(len(self.queries) + 1))

    def pairs_of(self, query: int) -> Ints:
        """Numbers of a query's pairs."""
        return np.arange(self.begins[query], self.begins[query + 1])

    def contrasting(self) -> Ints:
        """The queries that have items with different labels, int64 [n]."""
        starts = self.begins[:-1]
        low = np.minimum.reduceat(self.label, starts)
        high = np.maximum.reduceat(self.label, starts)
        return np.flatnonzero(high > low)

    def name(self, pair: int) -> str:
        """A pair, for a message."""
        query, item = int(self.query[pair]), int(self.item[pair])
        return f"query {self.query_ids[query]!r} with item {self.item_ids[item]!r}"


def mean_ndcg(judged: Judged, scores: Floats) -> float:
    """nDCG@10 of each query's items in the order of scores [pairs], mean over all queries.

    Gains are the labels. A query without a relevant item counts as zero, not as absent.
    """
    borders = itertools.pairwise(judged.begins.tolist())
    each = [ndcg(judged.label[start:end], scores[start:end]) for start, end in borders]
    return sum(each) / len(each)


def _coded(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """Distinct values in the order of their first row, and each row's place among them."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)

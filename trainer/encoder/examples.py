"""From a dataset to what a bi-encoder learns from: queries with a right item and wrong ones."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralrank.catalogue.product import headline
from neuralrank.errors import InvalidInput
from trainer.dataset import Dataset

__all__ = ["Batch", "Examples"]

# The weight (1: as many looks as the mean) at which a label of clicks counts by half.
_HALF_KNOWN: Final = 0.5

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Which texts a batch is made of, by their places in `Examples`.

    queries [q] and items [n] int64, each item once; positives int64 [q]: the column of each query's
    positive; allowed bool [q, n]: what may stand against a query; weights float32 [q].
    """

    queries: Places
    items: Places
    positives: Places
    allowed: NDArray[np.bool_]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Pairs of a query and an item that answers it."""

    query_texts: tuple[str, ...]
    # As the encoder reads them in the index: `neuralrank.catalogue.product.headline`.
    item_texts: tuple[str, ...]
    # Of each pair.
    query: Places
    item: Places
    weight: NDArray[np.float32]
    # By query: items that are known not to answer it.
    negatives: tuple[Places, ...]
    # By query: items that answer it, well or a little.
    known: tuple[Places, ...]

    @classmethod
    def of(cls, data: Dataset, split: str, positive_from: float) -> "Examples":
        """The pairs of one part.

        Args:
            positive_from: the lowest label of a right item; of clicks, as a share of the best of
                its query (`_right`). What has a lower one, but above the scale's lowest, is neither
                right nor wrong for its query.

        Raises:
            InvalidInput: the part has no example that high; or, in the part "train", none below.
        """
        items = {name: place for place, name in enumerate(data.items["item_id"].to_pylist())}
        texts = tuple(
            headline({"title": title, "brand": brand})
            for title, brand in zip(
                data.items["title"].to_pylist(), data.items["brand"].to_pylist(), strict=True
            )
        )
        rows = data.of("examples", split)
        names = list(dict.fromkeys(rows["query_id"].to_pylist()))
        queries = {name: place for place, name in enumerate(names)}
        asked = data.query_texts()
        query = np.array([queries[name] for name in rows["query_id"].to_pylist()], np.int64)
        item = np.array([items[name] for name in rows["item_id"].to_pylist()], np.int64)
        label = rows["label"].to_numpy()
        wrong = label <= data.description.labels.min
        right = _right(rows, query, positive_from) & ~wrong
        if not right.any():
            raise InvalidInput(
                f"The part {split} has no example with a label of {positive_from:g} or more "
                f"({len(label)} examples). Lower --positive-from, or make the dataset larger."
            )
        if split == "train" and right.all() and len(names) < 2:
            raise InvalidInput(
                "All examples are right items of one query: there is nothing to tell them from. "
                "Give more queries, or negatives."
            )
        return cls(
            tuple(asked[name] for name in names),
            texts,
            query[right],
            item[right],
            rows["weight"].to_numpy()[right],
            _by_query(query[wrong], item[wrong], len(names)),
            _by_query(query[~wrong], item[~wrong], len(names)),
        )

    def __len__(self) -> int:
        return len(self.query)

    @cached_property
    def labels(self) -> dict[str, dict[str, int]]:
        """What answers each query, as `neuralrank.evaluation` reads judgments."""
        found: dict[str, dict[str, int]] = {}
        for query, item in zip(self.query.tolist(), self.item.tolist(), strict=True):
            found.setdefault(str(query), {})[str(item)] = 1
        return found

    def batch(self, rows: Places, hard: int, random: np.random.Generator) -> Batch:
        """Pairs with, for each, up to `hard` of its query's known negatives; where it has fewer,
        random items of the catalogue stand in."""
        queries, right = self.query[rows], self.item[rows]
        wrong = [self._wrong(query, hard, random) for query in queries.tolist()]
        items, places = np.unique(np.concatenate([right, *wrong]), return_inverse=True)
        positives = places[: len(rows)].astype(np.int64)
        allowed = np.array([~np.isin(items, self.known[query]) for query in queries.tolist()])
        allowed[np.arange(len(rows)), positives] = True
        return Batch(queries, items, positives, allowed, self.weight[rows])

    def _wrong(self, query: int, count: int, random: np.random.Generator) -> Places:
        known = self.negatives[query]
        chosen = random.permutation(known)[:count]
        rest = random.integers(0, len(self.item_texts), count - len(chosen))
        return np.concatenate([chosen, rest]).astype(np.int64)


def _by_query(query: Places, item: Places, queries: int) -> tuple[Places, ...]:
    """The items of each query, each once, in ascending order."""
    order = np.lexsort((item, query))
    query, item = query[order], item[order]
    new = np.ones(len(item), bool)
    new[1:] = (query[1:] != query[:-1]) | (item[1:] != item[:-1])
    query, item = query[new], item[new]
    return tuple(np.split(item, np.searchsorted(query, np.arange(1, queries))))


def _right(rows: pa.Table, query: Places, positive_from: float) -> NDArray[np.bool_]:
    """Which examples are high enough to be right: bool [examples].

    Labels of clicks are rates. What everybody looks at is clicked by a third at best; what somebody
    looked at once and clicked has nearly 1. So a label of clicks counts the less, the less it rests
    on, and is compared with the best of its query.
    """
    label, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()
    clicked = np.array(rows["source"].to_pylist()) == "click"
    known = np.where(clicked, label * weight / (weight + _HALF_KNOWN), label)
    best = np.zeros(query.max(initial=0) + 1, known.dtype)
    np.maximum.at(best, query[clicked], known[clicked])
    return np.asarray(known >= positive_from * np.where(clicked, best[query], 1.0), np.bool_)

"""Which items a query is to be told apart from.

The best negatives are those that a search finds and that users saw and did not click, or that a
person judged irrelevant: they are named `bm25` or `knn` by what finds them among its best, else
`shown` or "". Where a query has fewer than are wanted, unseen ones are added: found by BM25 and by
the vectors, but beyond the first, among which are those that are relevant and nobody has seen; then
random ones. What was liked is never among them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.dataset.finding import Bm25, Neighbours, best, words

__all__ = ["FEATURES", "Finders", "Found", "added"]

# As deep as a search looks.
_DEPTH: Final = 100
# An unseen item that stands above is too likely to be relevant.
_SURE: Final = 20
FEATURES: Final = 5

Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Found:
    """What a search finds for one query: rows of items, best first."""

    best: Mapping[str, Positions] = field(default_factory=dict)  # bm25, knn

    def name(self, row: int, otherwise: str) -> str:
        """Which search has an item among its best."""
        return next((name for name, rows in self.best.items() if row in rows), otherwise)


@dataclass(frozen=True)
class Finders:
    """Searches over the items of a dataset."""

    titles: list[str]
    bm25: Bm25
    neighbours: Neighbours | None

    def look(self, query: str, rows: Positions) -> tuple[Found, NDArray[np.float64]]:
        """What is found for a query, and what is known of some items for it, float64 [rows,
        FEATURES]: BM25, BM25 over the best one's, the share of the query's words in the title,
        cosine, cosine less the best one's."""
        lexical = self.bm25.scores(query)
        near = self.neighbours.scores(query) if self.neighbours else np.zeros_like(lexical)
        found = {"bm25": best(lexical, _DEPTH)}
        if self.neighbours:
            found["knn"] = best(near, _DEPTH)
        asked = set(words(query))
        shared = [
            len(asked & set(words(self.titles[row]))) / max(len(asked), 1) for row in rows.tolist()
        ]
        features = np.stack(
            [
                lexical[rows],
                lexical[rows] / max(float(lexical.max(initial=0.0)), 1e-6),
                np.array(shared, np.float64),
                near[rows],
                near[rows] - near.max(initial=-1.0),
            ],
            axis=1,
        ).astype(np.float64)
        return Found(found), features


def added(
    found: Found, taken: set[int], items: int, count: int, chance: np.random.Generator
) -> Iterator[tuple[int, str]]:
    """Up to `count` items more that nobody saw, each with what found it; half by each search.

    Args:
        taken: rows that are not to be among them: seen, judged or liked.
        items: how many there are.
        count: of items; below 1, none is lacking.
    """
    chosen = set(taken)
    for later, (name, rows) in zip(
        reversed(range(len(found.best))), found.best.items(), strict=True
    ):
        fresh = [row for row in rows[_SURE:].tolist() if row not in chosen]
        share = max(0, min(len(fresh), -(-count // (later + 1))))
        count -= share
        for row in chance.choice(fresh, share, replace=False).tolist():
            chosen.add(row)
            yield row, name
    count = min(count, items - len(chosen))
    while count > 0:
        row = int(chance.integers(items))
        if row not in chosen:
            chosen.add(row)
            count -= 1
            yield row, "random"

"""What histories say about pairs of items: who has both, and what follows what.

Everything is sparse: of 17,000 items with 390,000 interactions, 3.7 million of 284 million pairs
occur at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import cg

from trainer.personal.sequences import Histories, Numbers

__all__ = [
    "PAIR_FEATURES",
    "Counts",
    "ItemStatistics",
    "Sparse",
    "interactions",
    "new_owners",
    "profiles",
    "strongest",
]

Sparse = Any  # scipy.sparse.csr_matrix of float32
Floats = NDArray[np.float32]

# How far apart two items of a history may be to count as one following the other, and what each
# step further apart takes of it.
_REACH: Final = 5
_STEP: Final = 0.8
# Takes from pairs that were seen rarely: n / (n + shrinkage).
_SHRINKAGE: Final = 2.0
# Draws items of which little is known to the middle of time: as much as so many steps would.
_RIDGE: Final = 15.0
# Items whose pairs are counted at once.
_AT_ONCE: Final = 4_096
# What `ItemStatistics.pairs` gives of an event and a candidate.
PAIR_FEATURES: Final = (
    "log users with both",
    "the same, users with long histories counting less",
    "log times that the candidate followed",
    "log times that the candidate came before",
    "root of the shrunk cosine",
    "log popularity of the event's item",
    "log popularity of the candidate",
    "time from the event to the candidate",
)


def interactions(histories: Histories) -> Sparse:
    """1 where a user has an item, float32 [users, items]."""
    users = np.repeat(np.arange(len(histories.rows)), [len(row) for row in histories.rows])
    items = np.concatenate(histories.rows)
    matrix = sp.csr_matrix(
        (np.ones(len(items), np.float32), (users, items)),
        (len(histories.rows), len(histories.items)),
    )
    matrix.data[:] = 1.0  # an item that a user has twice was summed
    return matrix


def profiles(rows: Sequence[Numbers], items: int, decay: float) -> Sparse:
    """Users as sums of their items, float32 [users, items]: the newest counts 1, the one before it
    `decay`, and so on."""
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    ages = np.concatenate([np.arange(len(row) - 1, -1, -1) for row in rows])
    weights = (decay**ages).astype(np.float32)
    return sp.csr_matrix((weights, (users, np.concatenate(rows))), (len(rows), items))


@dataclass(frozen=True)
class ItemStatistics:
    """Counts over pairs of items, float32 [items, items] each, without the diagonal."""

    # How often each item occurs, and how many users have it.
    popularity: NDArray[np.int64]
    owners: NDArray[np.int64]
    # Users who have both.
    both: Sparse
    # The same, each user counting 1 / log2(1 + length): who has everything says little of a pair.
    weighted: Sparse
    # How often the column followed the row within a few steps; each step further counts less.
    follows: Sparse

    @classmethod
    def of(cls, histories: Histories) -> "ItemStatistics":
        matrix = interactions(histories)
        return cls(
            histories.popularity,
            histories.owners,
            _pairs(matrix.T @ matrix),
            _pairs(matrix.T @ _by_length(matrix)),
            _pairs(_follows(histories)),
        )

    def cosines(self, *, weighted: bool = True, shrinkage: float = _SHRINKAGE) -> Sparse:
        """Similarity of items, float32 [items, items]: the cosine of their columns of users, shrunk
        where few users have both (Koren, "Factorization Meets the Neighborhood", 2008)."""
        scale = _scale(self.owners)
        return _similar(self.weighted if weighted else self.both, scale, scale, shrinkage)

    @cached_property
    def shrunk(self) -> Sparse:
        return self.cosines()

    @cached_property
    def times(self) -> Floats:
        """When each item is had, as far as the order of histories tells, which have no times:
        float32 [items], in steps of a history; 0 where nothing tells.

        The numbers whose differences are nearest to 1 for every pair that follows within a few
        steps, by least squares with a ridge: HodgeRank (Jiang, Lim, Yao and Ye, "Statistical
        ranking and combinatorial Hodge theory", 2011).
        """
        steps = (self.follows + self.follows.T).astype(np.float64)
        degrees = np.asarray(steps.sum(axis=1)).ravel() + _RIDGE
        later = self.follows.sum(axis=0) - self.follows.sum(axis=1).T
        laplacian = (sp.diags(degrees) - steps).tocsr()
        found, _ = cg(laplacian, np.asarray(later, np.float64).ravel(), rtol=1e-6)
        return np.asarray(found, np.float32)

    @cached_property
    def transitions(self) -> Sparse:
        """How likely the column comes soon after the row, float32 [items, items], popular items
        counting less: neither a probability nor a cosine, but between both."""
        popularity = np.maximum(self.popularity, 1)
        return (
            sp.diags((1.0 / popularity**0.5).astype(np.float32))
            @ self.follows
            @ sp.diags((1.0 / popularity**0.3).astype(np.float32))
        ).tocsr()

    def pairs(self, events: Numbers, candidates: Numbers) -> Floats:
        """`PAIR_FEATURES` of events with candidates.

        Args:
            events: int64 [users, events].
            candidates: int64 [users, candidates].

        Returns:
            float32 [users, events, candidates, features]; where no user has both, zeros in all
            but popularities and time.
        """
        keys, values = self._table
        wanted = events[:, :, None] * len(self.popularity) + candidates[:, None, :]
        if len(keys):
            places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found = values[places]
            found[keys[places] != wanted] = 0.0
        else:  # nobody has two
            found = np.zeros((*wanted.shape, values.shape[1]), np.float32)
        popularity = np.log1p(self.popularity).astype(np.float32)
        shape = wanted.shape
        alone = [
            np.broadcast_to(popularity[events][:, :, None], shape),
            np.broadcast_to(popularity[candidates][:, None, :], shape),
            self.times[candidates][:, None, :] - self.times[events][:, :, None],
        ]
        return np.concatenate([found, np.stack(alone, axis=-1)], axis=-1)

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], Floats]:
        """Every pair that occurs as row × items + column, rising, and its features."""
        keys = _keys(self.both)
        columns = [
            np.log1p(self.both.data),
            np.log1p(_at(keys, self.weighted)),
            np.log1p(_at(keys, self.follows)),
            np.log1p(_at(keys, self.follows.T.tocsr())),
            np.sqrt(_at(keys, self.shrunk)),
        ]
        return keys, np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Counts:
    """What is known of items and of pairs from earlier histories."""

    # Users who have each, float32 [items].
    owners: Floats
    # As `ItemStatistics.weighted`, float32 [items, items].
    weighted: Sparse

    @classmethod
    def of(cls, owners: Floats, similar: Sparse) -> "Counts":
        """The counts that have these similarities: what `_similar` does, undone.

        Args:
            owners: float32 [items].
            similar: float32 [items, items]; of a pair that is in it once, both ways.
        """
        scale = sp.diags(np.sqrt(np.maximum(owners, 1.0)))
        weighted = (scale @ similar.maximum(similar.T) @ scale).tocsr().astype(np.float32)
        # w x w / (w + _SHRINKAGE) is known.
        known = weighted.data
        weighted.data = (known + np.sqrt(known * (known + 4.0 * _SHRINKAGE))) / 2.0
        return cls(owners, weighted)

    def times(self, share: float) -> "Counts":
        return Counts(self.owners * np.float32(share), self.weighted * np.float32(share))


def strongest(
    histories: Histories,
    count: int,
    earlier: Counts | None = None,
    given: Histories | None = None,
) -> tuple[Numbers, Floats]:
    """Of each item the ones that are most similar to it, as `ItemStatistics.cosines` has it, the
    most similar first; of equals, the first by number. Items are counted some at a time, so that
    the memory that it takes does not grow with the pairs that there are.

    Args:
        earlier: is added to what the histories count.
        given: the same users with those of their items that `earlier` has counted already: neither
            they nor pairs of two of them count again.

    Returns:
        int64 [items, count], -1: no more; float32 [items, count].
    """
    matrix = interactions(histories)
    weighted, columns = _by_length(matrix).tocsr(), matrix.T.tocsr()
    known: tuple[Sparse, Sparse] | None = None
    if given is not None:
        # A user's pairs: of a new item with all of theirs, and of a given one with the new.
        before = interactions(given)
        new = matrix - before
        new.eliminate_zeros()
        known, columns = (before.T.tocsr(), weighted.multiply(new).tocsr()), new.T.tocsr()
    owners = new_owners(histories, given).astype(np.float32)
    if earlier is not None:
        owners += earlier.owners
    scale = _scale(owners)
    items = len(histories.items)
    found = np.full((items, count), -1, np.int64)
    near = np.zeros((items, count), np.float32)
    for start in range(0, items, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        pairs = (columns[some] @ weighted).tocsr()
        if known is not None:
            pairs = pairs + known[0][some] @ known[1]
        if earlier is not None:
            pairs = pairs + earlier.weighted[some]
        similar = _similar(pairs, scale[some], scale, _SHRINKAGE)
        similar.sort_indices()
        for item, (begin, end) in enumerate(pairwise(similar.indptr.tolist()), start):
            others, values = similar.indices[begin:end], similar.data[begin:end]
            other = others != item
            others, values = others[other], values[other]
            best = np.argsort(-values, kind="stable")[:count]
            found[item, : len(best)], near[item, : len(best)] = others[best], values[best]
    return found, near


def new_owners(histories: Histories, given: Histories | None = None) -> NDArray[np.int64]:
    """How many users have each item, int64 [items], without those who had it before."""
    return histories.owners - given.owners if given is not None else histories.owners


def _similar(counts: Sparse, rows: Floats, columns: Floats, shrinkage: float) -> Sparse:
    """Counts as cosines, shrunk, float32 as the counts are.

    Args:
        counts: of pairs, of some items with all.
        rows, columns: `_scale` of either.
    """
    similar = (sp.diags(rows) @ counts @ sp.diags(columns)).tocsr()
    trust = counts.copy()
    trust.data = trust.data / (trust.data + shrinkage)
    return similar.multiply(trust).tocsr().astype(np.float32)


def _by_length(matrix: Sparse) -> Sparse:
    """Users who have much count less: 1 / log2(1 + length)."""
    weights = 1.0 / np.log2(1.0 + np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0))
    return sp.diags(weights.astype(np.float32)) @ matrix


def _scale(owners: NDArray[np.integer] | Floats) -> Floats:
    return np.asarray(1.0 / np.sqrt(np.maximum(owners, 1)), np.float32)


def _follows(histories: Histories) -> Sparse:
    rows, columns, weights = [], [], []
    for row in histories.rows:
        for gap in range(1, min(_REACH, len(row) - 1) + 1):
            rows.append(row[:-gap])
            columns.append(row[gap:])
            weights.append(np.full(len(row) - gap, _STEP ** (gap - 1), np.float32))
    items = len(histories.items)
    if not rows:
        return sp.csr_matrix((items, items), dtype=np.float32)
    return sp.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (items, items)
    )


def _pairs(matrix: Sparse) -> Sparse:
    matrix = matrix.tocsr().astype(np.float32)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _keys(matrix: Sparse) -> NDArray[np.int64]:
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return rows * matrix.shape[1] + matrix.indices


def _at(keys: NDArray[np.int64], matrix: Sparse) -> Floats:
    """The matrix's values at keys, which hold all of its own; 0 where it has none."""
    values = np.zeros(len(keys), np.float32)
    values[np.searchsorted(keys, _keys(matrix))] = matrix.data
    return values

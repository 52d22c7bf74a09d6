"""Items that the same users had: what a personal ranker's bundle knows beside its network.

Item-to-item collaborative filtering: Sarwar et al., "Item-Based Collaborative Filtering
Recommendation Algorithms" (2001); Linden, Smith and York, "Amazon.com Recommendations" (2003). Of
each item the bundle keeps the few that are had by the same users most. Their sums over what a user
did find what no vector of texts is near to.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from neuralrank.bundles.bundle import Bundle
from neuralrank.errors import InvalidBundle

__all__ = ["FILES", "ItemKnn"]

_IDS: Final = "item_knn.json"
_TABLE: Final = "item_knn.npy"
# What a bundle calls those that it needs.
FILES: Final = (_IDS, _TABLE)
# Of each item, how many users have it: what training further weighs new users against. A bundle
# may lack it.
_OWNERS: Final = "item_knn_owners.npy"
# Of each item its neighbours, the nearest first: their places in the list of ids, -1 where there is
# none, and how near they are.
_ROW: Final = np.dtype([("item", "<i4"), ("weight", "<f4")])
# What an event counts relative to the one after it.
_DECAY: Final = 0.8
# Closeness is a logarithm of how many times this a sum is; cosines of rare pairs begin there.
_LEAST: Final = 1e-3


class ItemKnn:
    """The neighbours of items. Safe to use from several threads."""

    def __init__(
        self,
        ids: Sequence[str],
        items: NDArray[np.integer],
        weights: NDArray[np.floating],
        owners: NDArray[np.floating] | None = None,
    ) -> None:
        """
        Args:
            ids: of the items, those that most users have first.
            items: integers [items, neighbours], places in `ids`; -1: none.
            weights: [items, neighbours], above 0 where there is one.
            owners: how many users have each item, [items], those of earlier rounds counting less;
                None: not known.
        """
        self.ids = tuple(ids)
        self.owners = None if owners is None else owners.astype(np.float32)
        self.table = np.zeros(items.shape, _ROW)
        self.table["item"], self.table["weight"] = items, weights
        self._places = {name: place for place, name in enumerate(self.ids)}

    @classmethod
    def read(cls, bundle: Bundle) -> Self | None:
        """None: the bundle has none.

        Raises:
            InvalidBundle: what it has is damaged.
        """
        if not set(FILES) <= set(bundle.manifest.files):
            return None
        try:
            ids = orjson.loads((bundle.path / _IDS).read_bytes())
            table = np.load(bundle.path / _TABLE, allow_pickle=False)
            owners = None
            if _OWNERS in bundle.manifest.files:
                owners = np.load(bundle.path / _OWNERS, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InvalidBundle(f"{bundle.path / _TABLE} can't be read: {error}.") from error
        fits = (
            isinstance(ids, list)
            and all(isinstance(name, str) for name in ids)
            and table.dtype == _ROW
            and table.ndim == 2
            and len(table) == len(ids)
            and bool(((table["item"] >= -1) & (table["item"] < len(ids))).all())
            and bool(np.isfinite(table["weight"]).all())
        )
        if not fits:
            raise InvalidBundle(
                f"{bundle.path / _TABLE} is no table of neighbours of the ids of {_IDS}."
            )
        if owners is not None and not (
            owners.dtype == np.float32
            and owners.shape == (len(ids),)
            and bool((np.isfinite(owners) & (owners >= 0)).all())
        ):
            raise InvalidBundle(f"{bundle.path / _OWNERS} is no count for each id of {_IDS}.")
        return cls(ids, table["item"], table["weight"], owners)

    def write(self, folder: Path) -> None:
        """Puts its files beside a bundle's others."""
        (folder / _IDS).write_bytes(orjson.dumps(self.ids))
        np.save(folder / _TABLE, self.table, allow_pickle=False)
        if self.owners is not None:
            np.save(folder / _OWNERS, self.owners, allow_pickle=False)

    def likely(self, items: Sequence[str], most: int, without: Collection[str] = ()) -> list[str]:
        """What those who did the same have, likeliest first, none of the items themselves; none
        where nobody did. For somebody who has done nothing: what most have.

        Args:
            items: ids of what a user did, oldest first; unknown ones say nothing.
            most: how many at most.
            without: ids that are left out, too.
        """
        out = {*items, *without}
        if not items:
            return list(islice((name for name in self.ids if name not in out), max(most, 0)))
        found, sums = self._sums(items)
        other = ~np.isin(found, [self._places.get(name, -1) for name in out])
        found, sums = found[other], sums[other]
        # Of equals, the one that more users have.
        best = np.argsort(-sums, kind="stable")[: max(most, 0)]
        return [self.ids[place] for place in found[best].tolist()]

    def closeness(self, items: Sequence[str], candidates: Sequence[str]) -> NDArray[np.float32]:
        """How much those who did the same have each candidate, float32 [candidates]: 0 for who has
        none of it, rising with the logarithm of the sum.

        Args:
            items: as of `likely`.
            candidates: ids; unknown ones have 0.
        """
        found, sums = self._sums(items)
        if not len(found):
            return np.zeros(len(candidates), np.float32)
        wanted = np.array([self._places.get(name, -1) for name in candidates], np.int64)
        at = np.minimum(np.searchsorted(found, wanted), len(found) - 1)
        near = np.where(found[at] == wanted, sums[at], 0.0)
        return np.asarray(np.log1p(near / _LEAST), np.float32)

    def _sums(self, items: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """What is near to any of the items, by place, rising, and how near to all of them."""
        places = [self._places.get(name, -1) for name in items]
        known = np.array([place for place in places if place >= 0], np.int64)
        ages = [len(places) - 1 - at for at, place in enumerate(places) if place >= 0]
        rows = self.table[known]
        near = rows["weight"] * (_DECAY ** np.array(ages, np.float32))[:, None]
        there = rows["item"] >= 0
        found, owner = np.unique(rows["item"][there], return_inverse=True)
        sums = np.bincount(owner, near[there], len(found))
        return found, np.asarray(sums, np.float64)

"""What the users of a behaviour had together, as the table that serves beside the ranker."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neuralrank.personal.item_knn import ItemKnn
from trainer.personal.behaviour import Behaviour, History
from trainer.personal.sequences import Histories, Numbers
from trainer.personal.shop import Shop
from trainer.personal.statistics import Counts, new_owners, strongest

__all__ = ["together"]

# Neighbours of an item that are kept: with 20, 30 and 50 of them 0.27, 0.29 and 0.30 of next games
# are found among a hundred, with all of them 0.32 (docs/decisions/026-collaborative-recall.md).
_KEPT: Final = 30
# Items of a user that are taken together. Who has ten thousand things says little of any two, and
# a hundred million pairs.
_ITEMS: Final = 50
# Users who have the last item of a table that does not say how many; of those before it, more. With
# fewer, a small window outweighs all that was known.
_OWNERS: Final = 10.0
# Items that most have and that have no neighbours, for users who have done nothing yet.
_POPULAR: Final = 1_000


def together(behaviour: Behaviour, before: ItemKnn | None = None) -> ItemKnn | None:
    """The neighbours of the items, from the train part alone; None: nobody had two.

    Args:
        before: of the bundle that is trained further. What it counted of items that are still in
            the catalogue fades by as much as is new, and that is added. What users had before
            the window was counted when it came.
    """
    ids = behaviour.shop.ids
    users = (*behaviour.train.histories, *behaviour.train.single)
    pieces = list(_pieces(users, counted=before is not None))
    # Without anybody, one who has nothing.
    pieces = pieces or [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    numbered = tuple(map(str, range(len(pieces))))
    histories, given = (Histories(ids, numbered, rows) for rows in zip(*pieces, strict=True))
    new = new_owners(histories, given)
    earlier = _faded(_counts(behaviour.shop, before), new) if before else None
    found, near = strongest(histories, _KEPT, earlier, given)
    kept = np.flatnonzero((found >= 0).any(axis=1))
    if not len(kept):
        return None
    owners = new + (earlier.owners if earlier else np.float32(0.0))
    most = np.argsort(-owners, kind="stable")[:_POPULAR]
    # Only of items that have some or that most have, numbered anew. One that is a neighbour has a
    # neighbour, unless it is too far from all of its own.
    used = np.unique(np.concatenate([kept, found[found >= 0], most[owners[most] > 0]]))
    used = used[np.argsort(-owners[used], kind="stable")]
    numbers = np.full(len(ids) + 1, -1, np.int64)
    numbers[used] = np.arange(len(used))
    return ItemKnn([ids[item] for item in used], numbers[found[used]], near[used], owners[used])


def _pieces(users: Iterable[History], *, counted: bool) -> Iterator[tuple[Numbers, Numbers]]:
    """What each user has, in pieces, and what of it they had before the window. An item is in one
    of them, where it was had last, so that it counts once a user.

    Args:
        counted: whether what was had before is; then pieces without anything new are left out.
    """
    for history in users:
        given = history.items[: history.given if counted else 0]
        newest_first = history.items[::-1]
        places = np.unique(newest_first, return_index=True)[1]
        items = newest_first[np.sort(places)]
        for start in range(0, len(items), _ITEMS):
            piece = items[start : start + _ITEMS]
            known = piece[np.isin(piece, given)]
            if len(known) < len(piece):
                yield piece, known


def _counts(shop: Shop, before: ItemKnn) -> Counts:
    """What a table had counted, of the items that are still there."""
    size = len(shop.ids)
    theirs = np.array([shop.numbers.get(name, -1) for name in before.ids], np.int64)
    owners = np.zeros(size, np.float32)
    counted = _guessed(len(before.ids)) if before.owners is None else before.owners
    owners[theirs[theirs >= 0]] = counted[theirs >= 0]
    rows = np.broadcast_to(theirs[:, None], before.table.shape)
    columns = np.where(before.table["item"] >= 0, theirs[before.table["item"]], -1)
    there = (rows >= 0) & (columns >= 0)
    similar = sp.csr_matrix(
        (before.table["weight"][there], (rows[there], columns[there])), (size, size)
    )
    return Counts.of(owners, similar)


def _guessed(items: int) -> NDArray[np.float32]:
    """Users who have each item of a table that says their order alone, float32 [items]."""
    places = np.arange(1, items + 1, dtype=np.float32)
    return np.asarray(_OWNERS * np.sqrt(items / places), np.float32)


def _faded(counts: Counts, new: NDArray[np.int64]) -> Counts:
    """By as much as is new: what is known is forgotten when as many have come again, in however
    many rounds, so that many small ones do not wear it away."""
    known, learned = float(counts.owners.sum()), float(new.sum())
    return counts.times(known / max(known + learned, 1.0))

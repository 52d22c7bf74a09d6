"""What the users of a behaviour had together, as the table that serves beside the ranker."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from neuralrank.item_knn import ItemKnn
from trainer.personal.behaviour import Behaviour
from trainer.personal.sequences import Histories, Numbers
from trainer.personal.statistics import strongest

__all__ = ["together"]

# Neighbours of an item that are kept: with 20, 30 and 50 of them 0.27, 0.29 and 0.30 of next games
# are found among a hundred, with all of them 0.32 (docs/decisions/026-collaborative-recall.md).
_KEPT: Final = 30
# Steps of a user that are taken together. Who has done ten thousand things says little of any two,
# and a hundred million pairs.
_STEPS: Final = 50
# What is left of an earlier table, where a bundle is trained further: what is not seen again fades.
_FADE: Final = 0.9


def together(behaviour: Behaviour, before: ItemKnn | None = None) -> ItemKnn | None:
    """The neighbours of the items, from the train part alone; None: nobody had two.

    Args:
        before: of the bundle that is trained further. What it knows of items that are still in the
            catalogue stays, faded, where it is more than what is seen now.
    """
    ids = behaviour.shop.ids
    rows = tuple(_pieces(behaviour))
    if rows:
        found, near = strongest(Histories(ids, tuple(map(str, range(len(rows)))), rows), _KEPT)
    else:
        found = np.full((len(ids), _KEPT), -1, np.int64)
        near = np.zeros((len(ids), _KEPT), np.float32)
    if before is not None:
        _remember(behaviour, before, found, near)
    kept = np.flatnonzero((found >= 0).any(axis=1))
    if not len(kept):
        return None
    # Only of items that have some, numbered anew. One that is a neighbour has a neighbour, unless
    # it is too far from all of its own.
    used = _popular_first(behaviour, before, np.unique(np.concatenate([kept, found[found >= 0]])))
    numbers = np.full(len(ids) + 1, -1, np.int64)
    numbers[used] = np.arange(len(used))
    return ItemKnn([ids[item] for item in used], numbers[found[used]], near[used])


def _popular_first(behaviour: Behaviour, before: ItemKnn | None, items: Numbers) -> Numbers:
    """By how often they occur; of equals, in the order of before."""
    earlier = {name: place for place, name in enumerate(before.ids)} if before else {}
    ids = behaviour.shop.ids
    places = np.array([earlier.get(ids[item], len(earlier)) for item in items], np.int64)
    return items[np.lexsort((places, -behaviour.counts()[items]))]


def _pieces(behaviour: Behaviour) -> Iterator[Numbers]:
    for history in behaviour.train.histories:
        for start in range(0, len(history), _STEPS):
            yield history.items[start : start + _STEPS]


def _remember(behaviour: Behaviour, before: ItemKnn, found: Numbers, near: np.ndarray) -> None:
    """Puts what was known into what is, in place."""
    numbers = behaviour.shop.numbers
    theirs = [numbers.get(name, -1) for name in before.ids]
    for item, row in zip(theirs, before.table, strict=True):
        if item < 0:
            continue
        values = dict(zip(found[item].tolist(), near[item].tolist(), strict=True))
        for place, weight in row.tolist():
            other = theirs[place] if place >= 0 else -1
            if other >= 0:
                values[other] = max(values.get(other, 0.0), _FADE * weight)
        values.pop(-1, None)
        best = sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[: found.shape[1]]
        found[item], near[item] = -1, 0.0
        for at, (other, weight) in enumerate(best):
            found[item, at], near[item, at] = other, weight

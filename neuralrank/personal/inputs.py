"""What a personal ranker reads, put together for training and for serving alike.

In comments l is the number of events, n of candidates, k of an item's categories.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACTIONS",
    "FEATURES",
    "HEADS",
    "PAIRS",
    "Columns",
    "Event",
    "action_numbers",
    "features",
    "pairs",
    "says_most",
    "steps",
]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# What is clicked after a search, and what is clicked without one.
HEADS: Final = ("search", "recommendation")
# From the one that says least; "" is any other.
ACTIONS: Final = ("", "view", "click", "watch", "add_to_cart", "purchase")
FEATURES: Final = ("retrieval", "log price")
PAIRS: Final = ("same brand", "shared categories", "near price")


@dataclass(frozen=True, slots=True)
class Event:
    """What a user did with an item."""

    item_id: str
    action: str


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of items beside their vectors, as numbers that are equal where names are.

    `brand` int64 [n], -1: unknown; `categories` int64 [n, k], -1: no more; `price` float64 [n],
    NaN: unknown.
    """

    brand: Ints
    categories: Ints
    price: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        brands: Sequence[str | None],
        categories: Sequence[Iterable[str]],
        prices: Sequence[float] | NDArray[np.float64],
        names: dict[str, int],
    ) -> Self:
        """
        Args:
            names: the numbers of names so far, in lower case; new ones are added. Columns that are
                compared must share it.
        """

        def number(name: str) -> int:
            return names.setdefault(name.casefold(), len(names))

        paths = [[number(name) for name in path] for path in categories]
        table = np.full((len(paths), max(map(len, paths), default=0)), -1, np.int64)
        for row, path in zip(table, paths, strict=True):
            row[: len(path)] = path
        return cls(
            np.array([number(brand) if brand else -1 for brand in brands], np.int64),
            table,
            np.asarray(prices, np.float64),
        )

    def __getitem__(self, rows: Any) -> "Columns":
        return Columns(self.brand[rows], self.categories[rows], self.price[rows])


def steps(events: Iterable[Event]) -> list[Event]:
    """Events, in whatever order of time, with those on one item in a row as one: the one that says
    most (`says_most`). So is what `neuralrank train dataset` makes of logs, and so must be what
    serves."""
    found: list[Event] = []
    for event in events:
        if found and found[-1].item_id == event.item_id:
            found[-1] = Event(event.item_id, says_most(found[-1].action, event.action))
        else:
            found.append(event)
    return found


def says_most(*actions: str) -> str:
    """The one that stands last in ACTIONS; of equals, the first."""
    return max(actions, key=_action)


def features(retrieval: Floats, price: NDArray[np.float64]) -> Floats:
    """FEATURES of candidates, float32 [..., n, 2]; NaN: absent.

    Args:
        retrieval: in [0, 1], as `sidecar.ranking.blend.retrieval` has it.
    """
    prices = np.log1p(np.maximum(price, 0.0)).astype(np.float32)
    return np.stack([retrieval.astype(np.float32), prices], axis=-1)


def pairs(events: Columns, candidates: Columns) -> Floats:
    """PAIRS of events with candidates, float32 [..., l, n, 3]; 0 where something is unknown.

    same brand: 1 or 0. shared categories: the share of the candidate's that the event's item has.
    near price: 1 for equal prices, 1/2 for twice or half.
    """
    brand = events.brand[..., :, None]
    same = (brand == candidates.brand[..., None, :]) & (brand >= 0)
    own = candidates.categories[..., None, :, :]  # [..., 1, n, k]
    # One after the other: compared at once, items with a hundred categories would take gigabytes.
    shared = np.zeros(np.broadcast_shapes((*brand.shape, 1), own.shape), bool)
    for column in np.moveaxis(events.categories, -1, 0):  # [..., l]
        shared |= own == column[..., None, None]
    shared &= own >= 0
    count = np.maximum((own >= 0).sum(-1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(np.log(events.price[..., :, None]) - np.log(candidates.price[..., None, :]))
    near = np.where(np.isfinite(apart), np.exp(-apart), 0.0)
    parts = np.broadcast_arrays(same, shared.sum(-1) / count, near)
    return np.stack(parts, axis=-1).astype(np.float32)


def action_numbers(actions: Iterable[str]) -> Ints:
    """Places in ACTIONS, int64 [n]."""
    return np.array([_action(name) for name in actions], np.int64)


def _action(name: str) -> int:
    return ACTIONS.index(name) if name in ACTIONS else 0

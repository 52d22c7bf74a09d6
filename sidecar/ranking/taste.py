"""What a user likes, from what they did: pure functions on a profile and the vectors it refers to.

In comments m is the number of interactions that have a vector, d the encoder's dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from neuralrank.personal.affinity import action_weight
from neuralrank.personal.inputs import Event, steps
from sidecar.domain import Floats, Item, Profile

__all__ = ["Recent", "Taste", "done", "query_texts", "taste"]

# Queries without a click that are encoded: the newest. More costs a model run each.
_MAX_QUERIES: Final = 8
_DAY_MS: Final = 86_400_000.0


@dataclass(frozen=True, slots=True)
class Recent:
    """What a user did with items that have a vector, oldest first: what a personal ranker reads."""

    events: tuple[Event, ...]
    # Of each event its place in `Taste.vectors`, int64 [l], and what is known of its item.
    rows: npt.NDArray[np.int64]
    brands: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    prices: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Taste:
    """A user's interest in numbers; `interest` is None where no interaction has a vector.

    `weights` sum to 1 over the rows of `vectors`. `brands` and `categories` hold shares of the
    user's attention in [0, 1], over all interactions that count, by lower-case name.
    """

    # float32 [d], of length 1.
    interest: Floats | None
    # Of each row: the item, or "" for a query.
    item_ids: tuple[str, ...]
    # float32 [m, d] and float32 [m].
    vectors: Floats
    weights: Floats
    brands: Mapping[str, float]
    categories: Mapping[str, float]
    recent: Recent

    @property
    def size(self) -> int:
        """Roughly the bytes that it takes in memory, with the events that it is found by."""
        names = sum(len(name) + 120 for name in chain(self.brands, self.categories))
        # The texts of the events' items and queries, and the objects that hold them.
        rows = sum(len(name) + 400 for name in self.item_ids) + 300 * len(self.recent.events)
        return 1_500 + self.vectors.nbytes + self.weights.nbytes + names + rows


def query_texts(profile: Profile) -> list[str]:
    """The newest queries that led to no item, once each; their vectors go into `taste`."""
    queries = (row.query.strip() for row in profile.interactions if not row.item_id)
    return list(dict.fromkeys(query for query in queries if query))[:_MAX_QUERIES]


def taste(
    profile: Profile,
    items: Mapping[str, Item],
    query_vectors: Mapping[str, Floats],
    half_life_days: float,
    dimensions: int,
) -> Taste:
    """Interest is the mean of the vectors of what a user touched, weighted by action and recency.

    An interaction's weight is its action's times 0.5 ^ (age / half life), age counted from the
    user's newest interaction: someone who comes back after a year is not forgotten.
    Interactions whose item is not in `items` and whose query is not in `query_vectors` don't count,
    nor do those with what the user blocks.
    Of an item whose vector has not so many `dimensions` as the encoder's, brand and category do.
    """
    rows = profile.interactions
    weights = _weights(profile, half_life_days)
    names: list[str] = []
    vectors: list[Floats] = []
    kept: list[float] = []
    brands: dict[str, float] = {}
    categories: dict[str, float] = {}
    total = 0.0
    for row, weight in zip(rows, weights.tolist(), strict=True):
        if weight <= 0.0 or row.item_id in profile.blocked_items:
            continue
        item = items.get(row.item_id) if row.item_id else None
        vector = item.vector_of(dimensions) if item is not None else None
        if not row.item_id:
            vector = query_vectors.get(row.query.strip())
        if item is None and vector is None:
            continue
        total += weight
        if item is not None:
            if item.brand:
                brand = item.brand.casefold()
                brands[brand] = brands.get(brand, 0.0) + weight
            for category in {value.casefold() for value in item.category}:
                categories[category] = categories.get(category, 0.0) + weight
        if vector is not None:
            names.append(row.item_id)
            vectors.append(vector)
            kept.append(weight)
    # Of each other, however long ago: what was done since with items that have no vector is no
    # reason to forget them.
    shares = (np.array(kept) / (sum(kept) or 1.0)).astype(np.float32)
    matrix = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
    return Taste(
        interest=_unit(np.asarray(shares @ matrix, np.float32)) if vectors else None,
        item_ids=tuple(names),
        vectors=matrix,
        weights=shares,
        brands={name: weight / total for name, weight in brands.items()},
        categories={name: weight / total for name, weight in categories.items()},
        recent=_recent(profile, items, names),
    )


def done(profile: Profile) -> tuple[Event, ...]:
    """What a user did with items, oldest first, whether or not an index knows these."""
    return tuple(steps(_acts(profile)))


def _acts(profile: Profile) -> Iterator[Event]:
    """What counts as done, oldest first: nothing with what the user blocks, as no ranker has
    learned from that."""
    for row in reversed(profile.interactions):
        wanted = row.item_id and row.item_id not in profile.blocked_items
        if wanted and action_weight(row.action) > 0:
            yield Event(row.item_id, row.action)


def _recent(profile: Profile, items: Mapping[str, Item], names: Sequence[str]) -> Recent:
    """
    Args:
        names: of the rows of the vectors.
    """
    place = {name: number for number, name in enumerate(names) if name}
    found = steps(event for event in _acts(profile) if event.item_id in place)
    touched = [items[event.item_id] for event in found]
    return Recent(
        tuple(found),
        np.array([place[event.item_id] for event in found], np.int64),
        tuple(item.brand for item in touched),
        tuple(item.category for item in touched),
        np.array([item.price for item in touched], np.float64),
    )


def _weights(profile: Profile, half_life_days: float) -> npt.NDArray[np.float64]:
    """float64 [interactions]."""
    if not profile.interactions:
        return np.zeros(0, np.float64)
    times = np.array([row.timestamp_ms for row in profile.interactions], np.float64)
    actions = np.array([action_weight(row.action) for row in profile.interactions])
    ages = (times.max() - times) / _DAY_MS
    return np.asarray(actions * np.exp2(-ages / half_life_days))


def _unit(vector: Floats) -> Floats | None:
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if norm > 1e-9 else None

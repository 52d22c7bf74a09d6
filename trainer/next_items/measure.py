"""How well systems guess the next item: HitRate@10 and nDCG@10 over the full catalogue.

Each user has one next item. With r the number of items ahead of it, HitRate@10 is 1 if r < 10 and
nDCG@10 is then 1 / log2(2 + r); both are 0 else. Every item of the catalogue is ranked: sampled
negatives can turn an order round (Krichene and Rendle, "On Sampled Metrics for Item
Recommendation", 2020).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.personal.sequences import UNKNOWN, Histories, Numbers

__all__ = ["CUTOFF", "Guessed", "Interval", "System", "difference", "guess", "ranks"]

CUTOFF: Final = 10
# Users scored at once: float32 [users, items] of 17,000 items takes 17 MB.
_AT_ONCE: Final = 256
_RESAMPLES: Final = 2_000
_SEED: Final = 20_260

Scores = NDArray[np.float32]


class System(Protocol):
    """What guesses next items."""

    def scores(self, histories: Histories, places: Sequence[int]) -> Scores:
        """Of every item for some users, float32 [users, items]; higher is better. -inf: never.

        Args:
            histories: those that the system was made from.
            places: of the users.
        """


@dataclass(frozen=True)
class Guessed:
    """A system's metrics of each user, float64 [users]."""

    hit: NDArray[np.float64]
    ndcg: NDArray[np.float64]

    @classmethod
    def of(cls, ranks: NDArray[np.int64]) -> "Guessed":
        """
        Args:
            ranks: how many items were ahead of the next one, int64 [users].
        """
        hit = (ranks < CUTOFF).astype(np.float64)
        return cls(hit, hit / np.log2(2.0 + ranks))

    def summary(self) -> dict[str, float]:
        return {
            "HitRate@10": round(float(self.hit.mean()), 6),
            "nDCG@10": round(float(self.ndcg.mean()), 6),
        }


@dataclass(frozen=True)
class Interval:
    """The mean difference of two systems on the same users, with its 95% interval."""

    mean: float
    low: float
    high: float


def guess(
    system: System,
    histories: Histories,
    places: Sequence[int],
    targets: Numbers,
    *,
    exclude_seen: bool,
    progress: Callable[[int], None] | None = None,
) -> Guessed:
    """Measures a system on some users.

    A user without a history gets what is popular, whatever the system; an item that is not in the
    catalogue is guessed by none.

    Args:
        places: of the users; UNKNOWN: without a history.
        targets: int64 [users]; UNKNOWN: not in the catalogue.
        exclude_seen: whether what a user has had is never the answer.
        progress: called with the number of users done since the last call.
    """
    # What nothing below ranks is behind every item, and no hit where a catalogue is tiny.
    found = np.full(len(places), len(histories.items) + CUTOFF, np.int64)
    priority = _priority(histories.popularity)
    listed, old = targets != UNKNOWN, np.array(places, np.int64) != UNKNOWN
    new = listed & ~old
    found[new] = priority[targets[new]]
    known = np.flatnonzero(listed & old)
    if progress and len(known) < len(places):
        progress(len(places) - len(known))
    # Of near lengths: models that pad have less to do.
    lengths = np.array([len(histories.rows[places[at]]) for at in known.tolist()], np.int64)
    order = known[np.argsort(lengths, kind="stable")]
    for start in range(0, len(order), _AT_ONCE):
        chunk = order[start : start + _AT_ONCE]
        users = [places[at] for at in chunk]
        scores = system.scores(histories, users)
        if exclude_seen:
            for row, user in enumerate(users):
                scores[row, histories.rows[user]] = -np.inf
        found[chunk] = ranks(scores, targets[chunk], priority)
        if progress:
            progress(len(chunk))
    return Guessed.of(found)


def ranks(scores: Scores, targets: Numbers, priority: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many items are ahead of each target, int64 [users]. Among equals, priority decides.

    Args:
        scores: float32 [users, items]. A target of -inf (or NaN) is behind all that is not.
        targets: int64 [users].
        priority: int64 [items]; lower comes first.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    ahead = scores > own
    ahead |= (scores == own) & (priority[None, :] < priority[targets][:, None])
    return ahead.sum(axis=1).astype(np.int64)


def difference(system: Guessed, baseline: Guessed) -> dict[str, Interval]:
    """By how much a system is better, by bootstrap over users."""
    generator = np.random.default_rng(_SEED)
    users = len(system.hit)
    pairs = np.stack([system.hit - baseline.hit, system.ndcg - baseline.ndcg])  # [2, users]
    means = np.stack(
        [pairs[:, generator.integers(0, users, users)].mean(axis=1) for _ in range(_RESAMPLES)]
    )
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {
        name: Interval(float(pairs[at].mean()), float(low[at]), float(high[at]))
        for at, name in enumerate(("HitRate@10", "nDCG@10"))
    }


def _priority(popularity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places by popularity, and by item number (that of a hash) among equals, int64 [items]."""
    order = np.argsort(-popularity, kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places

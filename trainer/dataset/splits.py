"""Which part a query is in.

Logs are split by time: what happened before `train_until` may be learned from, what came after
measures. A query that comes again and again is in one part only, the one in which it came first;
what it did later is left out. So that the queries which everybody asks are measured too, some are
kept for dev and some for test, chosen by a hash of their text: they are in that part alone, with
what they did in its time. They are the same ones in every dataset, so a model that is trained on
the next one has not seen what the last one was measured with.

Judgments have no time. Their queries are split by the same hash, so that what is trained on logs
has not seen the queries that judgments measure with.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuralrank.errors import InvalidInput
from trainer.dataset.checks import iso, milliseconds
from trainer.dataset.format import SPLITS, Split

__all__ = ["Shares", "Times", "by_hash", "by_time", "place", "times_of"]

_BITS: Final = 48


@dataclass(frozen=True)
class Shares:
    """How much of the data is kept back, each in [0, 1) and together below 1."""

    dev: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if min(self.dev, self.test) < 0 or self.dev + self.test >= 1:
            raise InvalidInput(
                f"--dev {self.dev:g} and --test {self.test:g}: allowed are shares from 0, together "
                "below 1."
            )


@dataclass(frozen=True)
class Times:
    """Where parts end, ms since 1970."""

    train_until: int
    dev_until: int

    def part(self, time: int) -> str:
        return SPLITS[(time >= self.train_until) + (time >= self.dev_until)]

    def split(self) -> Split:
        return Split(train_until=iso(self.train_until), dev_until=iso(self.dev_until))


def times_of(
    moments: Sequence[int], shares: Shares, train_until: str = "", dev_until: str = ""
) -> Times:
    """The ends of parts: as given (ISO 8601), else so that the shares of all moments lie behind.

    Args:
        moments: ms since 1970, in order.
    """
    after = moments[-1] + 1
    # The first moment of a part: those that share it are all in that part.
    first = [
        moments[round(len(moments) * share)]
        if round(len(moments) * share) < len(moments)
        else after
        for share in (1.0 - shares.dev - shares.test, 1.0 - shares.test)
    ]
    times = Times(
        milliseconds(train_until, "--train-until") if train_until else first[0],
        milliseconds(dev_until, "--dev-until") if dev_until else first[1],
    )
    if times.dev_until < times.train_until:
        raise InvalidInput(
            f"--train-until is {iso(times.train_until)} and --dev-until "
            f"{iso(times.dev_until)}; the first must not be after the second."
        )
    return times


def place(key: str, salt: int | str = 0) -> float:
    """A number in [0, 1) that hangs on a text alone."""
    digest = hashlib.sha256(f"{salt}:{key}".encode()).digest()
    return int.from_bytes(digest[: _BITS // 8], "big") / 2**_BITS


def by_time(seen: Mapping[str, Iterable[str]], shares: Shares, salt: int = 0) -> dict[str, str]:
    """The part of each query; without those that are kept for a part in whose time they did not
    come.

    Args:
        seen: the parts in whose times each query came.
    """
    found: dict[str, str] = {}
    for key, came in seen.items():
        parts = set(came)
        kept = _kept(place(key, salt), shares)
        if kept == "train":
            found[key] = min(parts, key=SPLITS.index)
        elif kept in parts:
            found[key] = kept
    return found


def by_hash(keys: Iterable[str], shares: Shares, salt: int = 0) -> dict[str, str]:
    """The part of each query. A part that was asked for and that the hash gives nothing gets the
    query that is nearest to it, so that small files have all parts."""
    places = {key: place(key, salt) for key in keys}
    found = {key: _kept(at, shares) for key, at in places.items()}
    for part, share in (("test", shares.test), ("dev", shares.dev)):
        train = [key for key, of in found.items() if of == "train"]
        if share and part not in found.values() and len(train) > 1:
            found[min(train, key=lambda key: places[key])] = part
    return found


def _kept(at: float, shares: Shares) -> str:
    """The part that a hash is kept for."""
    if at < shares.test:
        return "test"
    return "dev" if at < shares.test + shares.dev else "train"


def segments(pages: Mapping[str, int]) -> dict[str, str]:
    """head, torso or tail: the queries that make the first, the second and the last third of all
    pages, the most frequent first."""
    ordered = sorted(pages, key=lambda key: (-pages[key], key))
    counts = np.array([pages[key] for key in ordered], np.int64)
    before = (np.cumsum(counts) - counts) / max(int(counts.sum()), 1)
    names = ("head", "torso", "tail")
    return {key: names[min(int(3 * at), 2)] for key, at in zip(ordered, before, strict=True)}

"""Which shapes an engine is built for, and which of them a request's texts go to. Pure logic.

Every run has one of a few shapes (buckets): a CUDA graph is bound to its shape, and kernels for a
fixed length are faster. There is one optimisation profile a length, whose batch is dynamic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput

__all__ = ["Bucket", "Profile", "Router", "described", "lengths_up_to", "profiles_for"]

_LENGTHS: Final = (16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192)
# The steps are small where requests are: a page of 100 candidates fills 104 rows.
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 48, 64, 80, 104, 128, 192, 256)
# Tokens in one run. More gains nothing on a GPU that is full, and takes memory.
_TOKENS: Final = 32_768
# What a run costs beside its tokens, in tokens: below that, two runs are dearer than padding.
_LAUNCH: Final = 512

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A shape that runs: rows, and tokens in each (0 for models without an axis for them)."""

    batch: int
    length: int


@dataclass(frozen=True, slots=True)
class Profile:
    """An optimisation profile: for one length, from one row to the most.

    Raises:
        InvalidInput: not 1 <= least <= best <= most, or the length is negative.
    """

    length: int
    least: int
    best: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.best <= self.most:
            raise InvalidInput(
                f"Profile of batches least {self.least}, best {self.best}, most {self.most}; "
                "allowed is 1 <= least <= best <= most."
            )
        if self.length < 0:
            raise InvalidInput(f"Profile of length {self.length}; allowed is 0 or more.")

    def shape(self, of: Sequence[int | None], batch: int) -> Shape:
        """An input's shape at a batch: None at first is the batch, None elsewhere the length."""
        return tuple(
            size if size is not None else (batch if axis == 0 else self.length)
            for axis, size in enumerate(of)
        )


def lengths_up_to(max_tokens: int) -> tuple[int, ...]:
    """The lengths for inputs of at most `max_tokens`; the last one is just that: the model may have
    no position behind it."""
    return (*(length for length in _LENGTHS if length < max_tokens), max_tokens)


def profiles_for(lengths: Sequence[int], max_batch: int = _BATCHES[-1]) -> tuple[Profile, ...]:
    """One profile a length; longer texts in smaller batches. `lengths` () is one without any."""
    made = []
    for length in lengths or (0,):
        most = max(1, min(max_batch, _TOKENS // length if length else max_batch))
        made.append(Profile(length, 1, min(most, 104), most))
    return tuple(made)


class Router:
    """From texts to buckets."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self._profiles = tuple(sorted(profiles, key=lambda profile: profile.length))

    @property
    def longest(self) -> int:
        return self._profiles[-1].length

    def profile(self, length: int) -> int:
        """The position of the profile for inputs of a length.

        Raises:
            InvalidInput: they are longer than every profile.
        """
        for position, profile in enumerate(self._profiles):
            if length <= profile.length:
                return position
        raise InvalidInput(
            f"Inputs of {length} tokens; the engine takes at most {self.longest}. Cut them at the "
            "bundle's max_tokens."
        )

    def bucket(self, rows: int, length: int) -> Bucket:
        """The smallest bucket that holds `rows` rows (at most the profile's) of a length."""
        profile = self._profiles[self.profile(length)]
        sizes = [batch for batch in _BATCHES if batch < profile.most] + [profile.most]
        return Bucket(next(batch for batch in sizes if rows <= batch), profile.length)

    def most(self, length: int) -> int:
        """How many rows of a length one run takes."""
        return self._profiles[self.profile(length)].most

    def batches(self, lengths: Sequence[int] | NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Positions of the texts of each run, shortest first.

        Texts of one length bucket run together. Where a run of their own would cost more than the
        padding, they join the next longer ones.
        """
        sizes = np.asarray(lengths, np.int64)
        order = np.argsort(sizes, kind="stable")
        groups: list[list[int]] = [[] for _ in self._profiles]
        for row in order.tolist():
            groups[self.profile(int(sizes[row]))].append(row)
        for position, (group, profile) in enumerate(zip(groups, self._profiles, strict=True)):
            later = next((p for p in range(position + 1, len(groups)) if groups[p]), None)
            if later is not None and len(group) < self._profiles[later].most:
                padding = len(group) * (self._profiles[later].length - profile.length)
                if padding < _LAUNCH:
                    groups[later] = group + groups[later]
                    continue
            for start in range(0, len(group), profile.most):
                yield np.array(group[start : start + profile.most], np.int64)


def described(profiles: Sequence[Profile]) -> str:
    """The profiles in words, for the key of a cached engine: lengths with their batches."""
    return " ".join(f"{p.length}:{p.least}-{p.best}-{p.most}" for p in profiles)

"""Batches of users with histories of near length: padding them to the longest wastes little."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.personal.sequences import Numbers

__all__ = ["Buckets", "padded"]


@dataclass(frozen=True)
class Buckets:
    """Places of users, in groups; one group is one example of a training."""

    groups: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, lengths: Sequence[int], positions: int, seed: int) -> "Buckets":
        """
        Args:
            lengths: of the histories, after whatever cuts them.
            positions: about how many places of histories a group has, padding among them.
        """
        shuffled = np.random.default_rng(seed).permutation(len(lengths))
        order = shuffled[np.argsort(np.asarray(lengths)[shuffled], kind="stable")]
        groups: list[NDArray[np.int64]] = []
        start = 0
        for end in range(1, len(order) + 1):
            longest = lengths[order[end - 1]]
            if (end - start) * longest >= positions or end == len(order):
                groups.append(order[start:end].astype(np.int64))
                start = end
        return cls(tuple(groups))


def padded(rows: Sequence[Numbers], length: int, fill: int, *, behind: bool = False) -> Numbers:
    """The last `length` of each, filled to the longest, in front or behind: int64 [rows, l]."""
    cut = [row[-length:] for row in rows]
    longest = max(map(len, cut))
    out = np.full((len(cut), longest), fill, np.int64)
    for at, row in enumerate(cut):
        first = 0 if behind else longest - len(row)
        out[at, first : first + len(row)] = row
    return out

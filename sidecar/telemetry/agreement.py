"""How far two orders of the same candidates agree; two scores: `neuralrank.agreement`."""

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["kendall_distance"]

# Up to here every pair is compared at once, which numpy does faster than the loop over bits.
_SMALL: Final = 250


def kendall_distance(places: npt.NDArray[np.intp]) -> float:
    """The share of pairs that one order has the other way round, in [0, 1].

    0: the same order; 1: the reverse. Kendall's τ, for orders without ties, is 1 - 2 x this
    (Kendall, A New Measure of Rank Correlation, 1938). O(n log n).

    Args:
        places: intp [n], all different: the place in the first order of what comes 1st, 2nd, … in
            the second. Places may be missing, as those of candidates that were dropped.
    """
    count = len(places)
    if count < 2:
        return 0.0
    pairs = count * (count - 1) // 2
    if count <= _SMALL:
        turned = int(np.count_nonzero(np.tril(places[:, None] < places)))
    else:
        turned = _turned(_ranks(places))
    return turned / pairs


def _ranks(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The same order by numbers without gaps, intp [n]."""
    ranks = np.empty_like(places)
    ranks[np.argsort(places)] = np.arange(len(places))
    return ranks


def _turned(ranks: npt.NDArray[np.intp]) -> int:
    """Pairs in which the larger of 0…n-1 comes first.

    A radix sort from the highest bit: two numbers that agree above a bit and differ in it are
    turned if the one with the bit comes first, and each pair differs first in exactly one bit.
    """
    turned = 0
    for bit in range(len(ranks).bit_length() - 1, -1, -1):
        # Numbers that agree above the bit stand side by side, and start at the smallest of them.
        start = (ranks >> (bit + 1)) << (bit + 1)
        high = (ranks >> bit) & 1
        # high_before[i]: numbers with the bit among the first i.
        high_before = np.concatenate(([0], np.cumsum(high)))
        in_group = high_before[:-1] - high_before[start]
        low = high == 0
        turned += int(in_group[low].sum())
        if bit == 0:
            break
        here = np.arange(len(ranks))
        target = np.where(low, here - in_group, start + (1 << bit) + in_group)
        sorted_ranks = np.empty_like(ranks)
        sorted_ranks[target] = ranks
        ranks = sorted_ranks
    return turned

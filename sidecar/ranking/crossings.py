"""Sums over all that a row has overtaken, or was overtaken by, without comparing each with each."""

from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.domain import Floats

__all__ = ["crossings"]

# Rows that are compared each with each; of more, halves are merged.
_BLOCK: Final = 256


def crossings(
    scores: Floats, values: Floats
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each row the sum of the values of the rows before it that have a lower score, and of the
    rows behind it that have a higher one.

    A merge sort from the bottom up: where two halves are merged, what of the first half is lower
    is added to each row of the second, and what of the second is higher to each of the first.
    O(n log n), every level in numpy.

    Args:
        scores: float32 [n].
        values: float32 [n, c].

    Returns:
        float64 [n, c] twice.
    """
    count, columns = values.shape
    block = min(_BLOCK, max(1, count))
    size = -(-count // block) * block
    # What fills up the last block counts nothing.
    score = np.full(size, np.inf, np.float32)
    score[:count] = scores
    value = np.zeros((size, columns))
    value[:count] = values
    below, above = _within_blocks(score, value, block)
    ascending = np.argsort(score, kind="stable")
    places = np.arange(size)
    width = block
    while width < size:
        # Rows by the pair of halves that they are in, within it by score. 16 bits hold the pairs of
        # eight million rows, and are sorted in linear time.
        pairs = (ascending // (2 * width)).astype(np.uint16)
        rows = ascending[np.argsort(pairs, kind="stable")]
        begins = places // (2 * width) * (2 * width)
        first = (rows // width % 2 == 0)[:, None]
        ordered, value_of = score[rows], value[rows]
        other = np.r_[True, (ordered[1:] != ordered[:-1]) | (begins[1:] != begins[:-1])]
        # Where the rows of the same pair and score begin and end, each in place.
        runs = np.flatnonzero(other)
        run = np.cumsum(other) - 1
        start, end = runs[run], np.r_[runs[1:], size][run]
        firsts = _summed(np.where(first, value_of, 0.0))
        seconds = _summed(np.where(first, 0.0, value_of))
        ends = np.minimum(begins + 2 * width, size)
        below[rows] += np.where(first, 0.0, firsts[start] - firsts[begins])
        above[rows] += np.where(first, seconds[ends] - seconds[end], 0.0)
        width *= 2
    return below[:count], above[:count]


def _within_blocks(
    score: Floats, value: npt.NDArray[np.float64], block: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    blocks = score.reshape(-1, block)
    lower = blocks[:, None, :] < blocks[:, :, None]  # [blocks, row, other]
    lower &= np.tri(block, k=-1, dtype=bool)
    counted = lower.astype(np.float32)
    parts = value.reshape(len(blocks), block, value.shape[1]).astype(np.float32)
    return tuple(  # type: ignore[return-value]
        (crossed @ parts).astype(np.float64).reshape(value.shape)
        for crossed in (counted, counted.transpose(0, 2, 1))
    )


def _summed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The sums of so many of the first rows: [n + 1, c]."""
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums

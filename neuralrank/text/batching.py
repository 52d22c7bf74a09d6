"""Cuts texts of different lengths into batches that waste little on padding."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BATCH_TOKENS", "token_batches"]

# Padded tokens in a batch. On CPUs 512 to 1,024 was fastest: larger batches fall out of the cache.
BATCH_TOKENS = 1_024


def token_batches(
    lengths: Sequence[int] | NDArray[np.int64], budget: int = BATCH_TOKENS
) -> Iterator[NDArray[np.int64]]:
    """Positions of the texts of each batch, shortest texts first.

    Longest × count is at most `budget` in each batch; a text longer than that is alone in its own.
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted, so that the next text would be the longest of the batch.
        if end == len(order) or int(lengths[order[end]]) * (end + 1 - start) > budget:
            yield order[start:end]
            start = end

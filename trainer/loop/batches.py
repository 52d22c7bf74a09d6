"""Which examples are in a batch: a function of seed and position alone, so that a run that goes on
sees what it would have seen.

Epochs follow each other without a gap: a batch may hold the last examples of one and the first of
the next. So all batches have one size, no example is left out, and few examples do as well.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["generator", "rows", "seed_torch"]


def rows(examples: int, batch_size: int, seed: int, index: int) -> NDArray[np.int64]:
    """The examples of batch number `index`, int64 [batch_size]; within an epoch each comes once."""
    first = index * batch_size
    places = np.arange(first, first + batch_size)
    epochs = places // examples
    return np.concatenate(
        [
            _order(examples, seed, int(epoch))[places[epochs == epoch] % examples]
            for epoch in np.unique(epochs)
        ]
    )


def generator(seed: int, index: int, process: int) -> np.random.Generator:
    """Randomness for making batch number `index` in one of the processes."""
    return np.random.default_rng([seed, 1, index, process])


def seed_torch(seed: int, index: int, process: int) -> None:
    """Sets torch's randomness (dropout) for batch number `index`, so that none need be saved."""
    state = np.random.SeedSequence([seed, 2, index, process]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> np.uint64(1)))


@lru_cache(maxsize=4)
def _order(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(examples)

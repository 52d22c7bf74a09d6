"""What a user likes, told apart: several vectors where one mean would lie between them."""

from typing import Final

import numpy as np

from sidecar.domain import Floats, Interest

__all__ = ["interests"]

# Of more things, the ones that weigh most: 200 take half a millisecond, 500 take ten.
_READ: Final = 200
# Most that is gained of 1 by a further interest and is rounding.
_NOTHING: Final = 1e-6


def interests(vectors: Floats, weights: Floats, most: int) -> tuple[Interest, ...]:
    """At most so many interests, the largest first; none where nothing has a weight.

    Several vectors of a user find what their mean misses (Pal et al., "PinnerSage: Multi-Modal User
    Embedding Framework for Recommendations at Pinterest", 2020). Those that stand for the others
    best are chosen one by one: each makes the weighted sum of everyone's nearness to the nearest
    chosen one grow the most, which is at least 1 - 1/e of what the best choice would have
    (facility location; Nemhauser, Wolsey and Fisher, 1978). An interest is then the weighted mean
    of those that are nearest to it.

    Args:
        vectors: float32 [m, d] of length 1: what the user touched.
        weights: float32 [m], ≥ 0: how much each counts.
        most: at least 1.
    """
    if not weights.any():
        return ()
    if len(weights) > _READ:
        heaviest = np.argsort(-weights, kind="stable")[:_READ]
        vectors, weights = vectors[heaviest], weights[heaviest]
    shares = (weights / weights.sum()).astype(np.float64)
    near = (vectors @ vectors.T).astype(np.float64)
    # To what stands for it, each: nothing does yet, and nothing is farther than the opposite.
    nearest = np.full(len(near), -1.0)
    chosen: list[int] = []
    for _ in range(min(most, len(near))):
        gains = shares @ np.maximum(near - nearest[:, None], 0.0)
        best = int(gains.argmax())
        if chosen and gains[best] < _NOTHING:
            break
        chosen.append(best)
        nearest = np.maximum(nearest, near[:, best])
    owner = near[:, chosen].argmax(axis=1)
    # [chosen, m]: what each interest is made of.
    parts = np.where(owner == np.arange(len(chosen))[:, None], shares, 0.0)
    means = parts @ vectors
    found = []
    for mean, share in zip(means, parts.sum(axis=1).tolist(), strict=True):
        length = float(np.linalg.norm(mean))
        if share > 0.0 and length > 0.0:
            found.append(Interest((mean / length).astype(np.float32), share))
    return tuple(sorted(found, key=lambda interest: -interest.share))

"""How well items fit a user, where no personal ranker says it: what serves then, and what a first
ranker is measured against.

Pure functions on float32 arrays, one column or number a candidate; NaN means "absent".
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACTION_WEIGHTS", "action_weight", "affinity", "as_others", "bounded", "interest",
    "weighted_mean",
]  # fmt: skip

Floats = NDArray[np.float32]

# How much an action says about what its user wants, relative to a click. An impression says that
# something was shown, which is not the user's doing.
ACTION_WEIGHTS: Final[Mapping[str, float]] = {
    "purchase": 5.0,
    "add_to_cart": 3.0,
    "watch": 1.5,
    "click": 1.0,
    "view": 1.0,
    "query": 1.0,
    "search": 1.0,
    "impression": 0.0,
}
_OTHER_ACTION: Final = ACTION_WEIGHTS["view"]
# Measured: docs/decisions/004-blend.md.
_SHARPNESS: Final = np.float32(6.0)
# What vector, category and brand count within affinity, over those that are present.
_VECTOR_SHARE: Final = 0.5
_CATEGORY_SHARE: Final = 0.4
_BRAND_SHARE: Final = 0.1


def action_weight(action: str) -> float:
    """Of ACTION_WEIGHTS; any other action says as much as a view."""
    return ACTION_WEIGHTS.get(action, _OTHER_ACTION)


def interest(near: Floats, weights: Floats) -> Floats:
    """How near a user's interests each candidate is, float32 [n] in [0, 1].

    A user likes several things, and their mean is none of them: what is near to one counts, by how
    much of the user's attention that one has. A log-mean-exp lies between the mean, which a small
    sharpness gives, and the nearest alone, which a large one does (docs/decisions/004-blend.md).

    Args:
        near: float32 [m, n] in [0, 1]: calibrated cosine of each interaction and candidate.
        weights: float32 [m] above 0, of the interactions.
    """
    shares = weights / weights.sum()
    pooled = np.log(shares @ np.exp(_SHARPNESS * near)) / _SHARPNESS
    return bounded(np.asarray(pooled, np.float32))


def affinity(user_match: Floats, category: Floats, brand: Floats) -> Floats:
    """How well a candidate fits the user: a mean of what is known, by fixed shares.

    One without brand or category has in its place what the others have on average.

    Args:
        user_match: of `interest`; NaN: no vector. Without it there is no affinity: brand and
            category alone say too little.
        category: share of the user's attention that the candidate's categories have; NaN: unknown.
        brand: the same of its brand.
    """
    parts = [user_match, as_others(category), as_others(brand)]
    shares = np.array([_VECTOR_SHARE, _CATEGORY_SHARE, _BRAND_SHARE], np.float32)
    mixed, _ = weighted_mean(parts, shares)
    return np.where(np.isnan(user_match), np.float32("nan"), mixed)


def as_others(part: Floats) -> Floats:
    """A part where those who lack it have the mean of the others, float32 [n], so that it says
    nothing of them. Were its weight left out instead, who lacks it would pass all to whom it gives
    less than their other parts do.

    Args:
        part: NaN: absent; it stays so where no other has it.
    """
    known = ~np.isnan(part)
    if known.all() or not known.any():
        return part
    # In float64: of equals the mean must be the same to the last digit, or ties would be broken.
    return np.where(known, part, np.float32(np.mean(part[known], dtype=np.float64)))


def weighted_mean(parts: Sequence[Floats], weights: Floats) -> tuple[Floats, Floats]:
    """Means over the parts that are present, and the shares that each part had.

    Plain ufuncs, not `clip`, `stack` and `nan_to_num`: for a hundred candidates what those do
    beside computing is most of their time.

    Args:
        parts: p of float32 [n], NaN: absent.
        weights: float32 [p], ≥ 0.

    Returns:
        float32 [n], NaN where nothing present weighs anything; float32 [n, p].
    """
    given = np.array(parts, np.float32)
    absent = np.isnan(given)
    shares = np.where(absent, np.float32(0.0), weights[:, None])
    total = np.add.reduce(shares)
    weighed = total > 0
    shares /= np.where(weighed, total, np.float32(1.0))
    means = np.add.reduce(np.where(absent, np.float32(0.0), given) * shares)
    return np.where(weighed, bounded(means), np.float32("nan")), shares.T


def bounded(values: Floats) -> Floats:
    """Cut to [0, 1]."""
    return np.minimum(np.maximum(values, np.float32(0.0)), np.float32(1.0))

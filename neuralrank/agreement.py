"""How far two lists of scores of the same things agree in their order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["kendall_tau", "top_overlap"]

Scores = NDArray[np.floating[Any]]


def kendall_tau(first: Scores, second: Scores) -> float:
    """Kendall's tau-b of two scores of the same things, floats [n], in [-1, 1]; it knows of ties
    (Kendall, The Treatment of Ties in Ranking Problems, 1945). 1 where neither has an order, 0
    where only one has. O(n²), for some hundreds; scipy has it, but serving does not load scipy."""
    one = np.sign(first[:, None] - first)
    two = np.sign(second[:, None] - second)
    ordered_one, ordered_two = np.count_nonzero(one), np.count_nonzero(two)
    if not ordered_one or not ordered_two:
        return float(ordered_one == ordered_two)
    return float((one * two).sum() / np.sqrt(float(ordered_one) * float(ordered_two)))


def top_overlap(first: Scores, second: Scores, count: int) -> float:
    """The share of the best `count` that two scores have in common, in [0, 1]. Of equals, the
    earlier is the better."""
    count = min(count, len(first))
    best = [set(np.argsort(-scores, kind="stable")[:count].tolist()) for scores in (first, second)]
    return len(best[0] & best[1]) / count if count else 1.0

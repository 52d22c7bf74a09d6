"""Whether a lower precision still says what float32 says: same order, same numbers.

A half-precision engine is accepted only on evidence, and refused with the numbers otherwise.
"""

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.agreement import kendall_tau, top_overlap

__all__ = ["TOLERANCE", "Agreement", "Tolerance", "agreement"]

_TOP: Final = 10


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is still the same.

    Scores are compared relative to the spread (standard deviation) of float32's own, so that one
    number serves logits of a range of 20 as well as cosines of a range of 0.2.
    """

    # The lowest Kendall tau-b between the orders.
    kendall: float = 0.98
    # The lowest share of float32's first ten that are still among the first ten.
    top: float = 0.9
    # The largest difference of a score, in spreads.
    difference: float = 0.1


TOLERANCE: Final = Tolerance()


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two lists of scores of the same texts compare."""

    scores: int
    kendall: float
    top: float
    difference: float
    # The largest difference in the scores' own unit.
    absolute: float

    def within(self, tolerance: Tolerance = TOLERANCE) -> bool:
        """False also where any number is not finite."""
        return (
            self.kendall >= tolerance.kendall
            and self.top >= tolerance.top
            and self.difference <= tolerance.difference
        )

    def __str__(self) -> str:
        return (
            f"Kendall {self.kendall:.4f}, first ten {self.top:.2f}, largest difference "
            f"{self.absolute:.5f} ({self.difference:.4f} of the spread) over {self.scores} scores"
        )

    def as_dict(self) -> dict[str, float]:
        return {name: round(float(value), 6) for name, value in asdict(self).items()}


def agreement(exact: NDArray[np.float32], other: NDArray[np.float32]) -> Agreement:
    """Compares scores [n], or, of vectors [n, d], the cosines of every pair.

    Raises:
        ValueError: the shapes differ.
    """
    if exact.shape != other.shape:
        raise ValueError(f"shapes {exact.shape} and {other.shape} can't be compared")
    first, second = _scores(exact), _scores(other)
    if not np.isfinite(second).all():
        return Agreement(len(first), float("nan"), 0.0, float("inf"), float("inf"))
    absolute = float(np.abs(first - second).max())
    spread = max(float(first.std()), 1e-6)
    return Agreement(
        len(first),
        kendall_tau(first, second),
        top_overlap(first, second, _TOP),
        absolute / spread,
        absolute,
    )


def _scores(output: NDArray[np.float32]) -> NDArray[np.float64]:
    values = output.astype(np.float64)
    if values.ndim == 2 and values.shape[1] > 1:
        cosines: NDArray[np.float64] = (values @ values.T)[np.triu_indices(len(values), 1)]
        return cosines
    return values.reshape(-1)

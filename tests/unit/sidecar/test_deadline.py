"""How much time a request is given, and from when it counts."""

import math

import pytest

from sidecar.deadline import Allowance
from tests.unit.sidecar.parts import Clock


@pytest.mark.parametrize(
    ("asked", "left", "gone", "remaining"),
    [
        (0.1, math.inf, 0.0, 0.09),
        (9.0, math.inf, 0.0, 0.99),  # the most that is allowed
        (math.inf, 0.5, 0.0, 0.49),
        (0.02, math.inf, 0.0, 0.015),  # a quarter at most is kept back
        # What is kept back is of the whole, whatever is left of it.
        (0.1, math.inf, 0.08, 0.01),
        (0.1, math.inf, 0.095, 0.0),
        (0.1, 0.03, 0.02, 0.03 - 0.01),
        (0.1, -0.5, 0.6, 0.0),
        (0.1, 0.0, 0.0, 0.0),
    ],
)
def test_the_earlier_holds_from_the_arrival_less_what_is_kept_back(
    asked: float, left: float, gone: float, remaining: float
) -> None:
    clock = Clock()
    deadline = Allowance(1.0, 0.01, clock).deadline(asked, left, gone)
    assert deadline.remaining() == pytest.approx(remaining)
    assert deadline.passed == (remaining == 0.0)

"""Kendall's distance, against the definition and against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from sidecar.telemetry.agreement import kendall_distance


@pytest.mark.parametrize(
    ("places", "expected"),
    [([], 0.0), ([7], 0.0), ([0, 1, 2], 0.0), ([2, 1, 0], 1.0), ([1, 0, 2], 1 / 3), ([9, 4], 1.0)],
)
def test_the_share_of_pairs_that_are_turned(places: list[int], expected: float) -> None:
    assert kendall_distance(np.array(places, np.intp)) == pytest.approx(expected)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=40, unique=True))
def test_it_is_kendalls_tau_on_another_scale(places: list[int]) -> None:
    tau = kendalltau(range(len(places)), places).statistic
    assert 1 - 2 * kendall_distance(np.array(places, np.intp)) == pytest.approx(tau, abs=1e-9)


@pytest.mark.parametrize("count", [251, 256, 257, 1_000, 10_000])
def test_so_it_is_for_long_lists(count: int) -> None:
    places = np.random.default_rng(count).permutation(3 * count)[:count]
    tau = kendalltau(np.arange(count), places).statistic
    assert 1 - 2 * kendall_distance(places) == pytest.approx(tau, abs=1e-9)
    assert kendall_distance(np.sort(places)) == 0.0
    assert kendall_distance(np.sort(places)[::-1]) == 1.0

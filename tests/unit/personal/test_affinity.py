"""How well items fit a user: bounds, absence, and that of several interests each counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.personal.affinity import action_weight, affinity, interest
from tests.unit.sidecar.test_blend import NAN, Floats, floats, in_unit, parts


def test_brand_and_category_alone_make_no_affinity() -> None:
    assert np.isnan(affinity(floats(NAN), floats(1), floats(1))).all()


def test_no_brand_is_neither_a_liked_one_nor_another() -> None:
    # As near, of the same categories: of the user's brand, of another, of none.
    fits = affinity(floats(0.6, 0.6, 0.6), floats(0.5, 0.5, 0.5), floats(1, 0, NAN))
    assert fits[0] > fits[2] > fits[1]
    # By hand: (0.5 · 0.6 + 0.4 · 0.5 + 0.1 · brand), the mean of whose brands is 0.5.
    assert fits == pytest.approx([0.6, 0.5, 0.55], abs=1e-6)


def test_where_no_brand_is_known_it_counts_nothing() -> None:
    fits = affinity(floats(0.6, 0.3), floats(NAN, NAN), floats(NAN, NAN))
    assert fits == pytest.approx([0.6, 0.3], abs=1e-6)


@given(parts())
def test_affinity_is_bounded(rows: Floats) -> None:
    assert in_unit(affinity(rows[:, 0], rows[:, 1], rows[:, 2]))


def test_of_one_event_the_nearness_is_the_interest() -> None:
    near = floats(0.0, 0.3, 1.0)
    assert interest(near[None, :], floats(0.2)) == pytest.approx(near, abs=1e-6)


def test_two_interests_are_two_and_not_their_mean() -> None:
    # Of the first each event is half as near as of the second its own one is.
    near = np.array([[0.5, 1.0], [0.5, 0.0]], np.float32)
    found = interest(near, floats(0.3, 0.3))
    assert found[0] == pytest.approx(0.5, abs=1e-6)
    # By hand: log((e^6 + e^0) / 2) / 6.
    assert found[1] == pytest.approx(0.8849, abs=1e-4)
    # Who looked three times as often at the other thing: log((e^6 + 3 e^0) / 4) / 6.
    assert interest(near, floats(0.1, 0.3))[1] == pytest.approx(0.7702, abs=1e-4)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_interest_lies_between_the_mean_and_the_nearest(m: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    near = random.uniform(0, 1, (m, n)).astype(np.float32)
    weights = random.uniform(1e-6, 5, m).astype(np.float32)
    found = interest(near, weights)
    mean = (weights / weights.sum()) @ near
    assert (found >= mean - 1e-5).all()
    assert (found <= near.max(axis=0) + 1e-5).all()
    assert in_unit(found)
    # No order of events, and no scale of what they weigh.
    turned = random.permutation(m)
    assert interest(near[turned], weights[turned] * 7) == pytest.approx(found, abs=1e-5)


def test_an_action_that_nobody_knows_says_as_much_as_a_view() -> None:
    assert action_weight("share") == action_weight("view") < action_weight("purchase")
    assert action_weight("impression") == 0.0

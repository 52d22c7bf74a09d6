"""What a user likes, told apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain import Floats, Interest
from sidecar.ranking.interests import interests

DIMENSIONS = 6


def of_length_1(rows: list[list[float]]) -> Floats:
    matrix = np.array(rows, np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def about(axis: int, *wobble: float) -> list[list[float]]:
    """Vectors near to an axis, one for each wobble."""
    rows = []
    for amount in wobble:
        row = [0.0] * DIMENSIONS
        row[axis], row[(axis + 3) % DIMENSIONS] = 1.0, amount
        rows.append(row)
    return rows


def weights(*values: float) -> Floats:
    return np.array(values, np.float32)


def test_things_of_a_kind_are_one_interest_and_the_largest_comes_first() -> None:
    vectors = of_length_1([*about(0, 0.1, -0.1), *about(1, 0.1, 0.0, -0.1), *about(2, 0.0)])
    found = interests(vectors, weights(1, 1, 1, 1, 1, 4), 3)
    assert [one.share for one in found] == pytest.approx([4 / 9, 3 / 9, 2 / 9])
    for one, axis in zip(found, (2, 1, 0), strict=True):
        assert one.vector[axis] == pytest.approx(1.0, abs=0.01)


def test_one_interest_is_the_mean_by_weight() -> None:
    vectors = of_length_1([*about(0, 0.0), *about(1, 0.0)])
    (only,) = interests(vectors, weights(3, 1), 1)
    assert only.share == pytest.approx(1.0)
    assert only.vector[:2] == pytest.approx(np.array([3, 1]) / np.sqrt(10))


def test_what_weighs_little_is_left_to_its_nearest() -> None:
    vectors = of_length_1([*about(0, 0.0), *about(1, 0.0), *about(1, 0.3)])
    found = interests(vectors, weights(10, 10, 0.1), 2)
    assert [one.share for one in found] == pytest.approx([10.1 / 20.1, 10 / 20.1])


def test_the_same_thing_many_times_is_one_interest() -> None:
    (only,) = interests(of_length_1(about(4, *[0.2] * 50)), weights(*[1.0] * 50), 8)
    assert only.share == pytest.approx(1.0)


def test_of_very_many_things_those_that_weigh_most_are_read() -> None:
    light, heavy = about(1, *[0.1] * 300), about(0, *[0.0, 0.1] * 100)
    found = interests(of_length_1(light + heavy), weights(*[0.1] * 300, *[1.0] * 200), 2)
    assert sum(one.share for one in found) == pytest.approx(1.0)
    assert all(one.vector[0] > 0.99 for one in found)


def test_of_nothing_that_counts_there_is_no_interest() -> None:
    assert interests(of_length_1(about(0, 0.0)), weights(0.0), 5) == ()
    assert interests(np.zeros((0, 0), np.float32), weights(), 5) == ()


def test_opposites_have_no_mean_and_are_no_interest() -> None:
    opposite = of_length_1([[1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]])
    assert interests(opposite, weights(1, 1), 1) == ()
    assert len(interests(opposite, weights(1, 1), 2)) == 2


@given(st.data())
def test_whatever_there_is(data: st.DataObject) -> None:
    """Never more than asked for, of length 1, the largest first, and together the whole attention;
    every interest is near to something that the user touched."""
    count = data.draw(st.integers(1, 40))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    vectors = of_length_1(np.abs(random.normal(size=(count, DIMENSIONS))).tolist())
    parts = random.uniform(0, 1, count).astype(np.float32)
    most = data.draw(st.integers(1, 8))
    found = interests(vectors, parts, most)
    assert 1 <= len(found) <= min(most, count)
    shares = [one.share for one in found]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    for one in found:
        assert one.vector.dtype == np.float32
        assert np.linalg.norm(one.vector) == pytest.approx(1.0, abs=1e-5)
    assert (
        _covered(found, vectors, parts)
        >= _covered(interests(vectors, parts, 1), vectors, parts) - 1e-5
    )


def _covered(found: tuple[Interest, ...], vectors: Floats, parts: Floats) -> float:
    """How near the user's things are to the nearest interest, on average."""
    near = vectors @ np.stack([one.vector for one in found]).T
    return float((near.max(axis=1) * parts).sum() / parts.sum())

"""The numbers that accept or refuse a precision."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from neuralrank.backends.tensorrt.agreement import Tolerance, agreement

RANDOM = np.random.default_rng(3)
SCORES = RANDOM.normal(0, 4, (60, 1)).astype(np.float32)


def test_the_same_scores_agree_wholly() -> None:
    found = agreement(SCORES, SCORES)
    assert (found.kendall, found.top, found.difference, found.absolute) == (1.0, 1.0, 0.0, 0.0)
    assert found.within()


def test_kendall_is_scipys_with_ties_too() -> None:
    other = np.round(SCORES + RANDOM.normal(0, 2, SCORES.shape), 0).astype(np.float32)
    expected = kendalltau(SCORES[:, 0], other[:, 0]).statistic
    assert agreement(SCORES, other).kendall == pytest.approx(expected, abs=1e-9)


def test_one_score_for_all_is_no_order() -> None:
    assert agreement(SCORES, np.zeros_like(SCORES)).kendall == 0.0
    assert agreement(np.zeros_like(SCORES), np.zeros_like(SCORES)).kendall == 1.0


def test_a_small_difference_passes_and_a_large_one_is_refused_with_its_numbers() -> None:
    assert agreement(SCORES, SCORES + np.float32(0.01)).within()
    far = agreement(SCORES, SCORES + np.float32(1.0))
    assert not far.within()
    assert far.kendall == 1.0
    assert "largest difference 1.00000" in str(far)


def test_another_order_is_refused_however_near_the_numbers_are() -> None:
    near = np.linspace(0, 1, 50, dtype=np.float32)[:, None]
    turned = near.copy()
    turned[-12:] = near[-12:][::-1]
    found = agreement(near, turned)
    assert found.top < 1
    assert not found.within(Tolerance(difference=10.0))


def test_what_is_not_finite_is_refused() -> None:
    broken = SCORES.copy()
    broken[3] = np.nan
    assert not agreement(SCORES, broken).within()


def test_vectors_are_compared_by_their_cosines() -> None:
    vectors = RANDOM.normal(0, 1, (12, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    turned = vectors @ np.linalg.qr(RANDOM.normal(0, 1, (32, 32)))[0].astype(np.float32)
    found = agreement(vectors, turned)
    # A rotation changes every number and no cosine.
    assert found.scores == 12 * 11 // 2
    assert found.within()


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="can't be compared"):
        agreement(SCORES, SCORES[:10])

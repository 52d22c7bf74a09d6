"""Labels by hand."""

import numpy as np
import pytest

from trainer.dataset.labels import label

ALL = np.ones(4, np.bool_)


def test_labels_by_hand() -> None:
    """All: 8 of 20 looks, a mean of 0.4. Drawn to it by one look: (5 + 0.4) / (9 + 1) = 0.54, and
    (3 + 0.4) / (4.5 + 1). Nothing in 6 looks is 0; nothing in half a look says nothing."""
    made = label(np.array([9.0, 4.5, 6.0, 0.5]), np.array([5.0, 3.0, 0.0, 0.0]), ALL)
    assert made.label == pytest.approx([0.54, 3.4 / 5.5, 0.0, 0.0])
    assert made.usable.tolist() == [True, True, True, False]
    # Looks over the mean of the three that are used, 6.5.
    assert made.weight[:3] == pytest.approx([9 / 6.5, 4.5 / 6.5, 6 / 6.5])


def test_a_click_below_is_worth_more_than_one_on_top() -> None:
    """Each shown 100 times and clicked 10 times, at θ = 1 and at θ = 0.2."""
    looks = np.array([100.0, 20.0])
    made = label(looks, np.array([10.0, 10.0]), ALL[:2])
    assert made.label[1] > 4 * made.label[0]
    plain = label(np.array([100.0, 100.0]), np.array([10.0, 10.0]), ALL[:2])
    assert plain.label[0] == plain.label[1]


def test_labels_stay_in_the_scale_and_weights_within_bounds() -> None:
    looks, gain = np.ones(32), np.zeros(32)
    looks[:2], gain[:2] = (0.01, 1_000.0), (3.0, 1.0)
    made = label(looks, gain, np.ones(32, bool))
    assert made.label.max() == 1.0
    assert (made.weight.min(), made.weight.max()) == (0.1, 10.0)


def test_means_are_of_train_alone() -> None:
    train = np.array([True, False])
    made = label(np.array([10.0, 10.0]), np.array([1.0, 10.0]), train)
    assert made.label[0] == pytest.approx((1 + 0.1) / 11)

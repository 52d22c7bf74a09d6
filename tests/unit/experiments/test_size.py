"""Sample sizes against figures that are in textbooks, and against simulated experiments."""

import numpy as np
import pytest
from scipy import stats

from neuralrank.errors import InvalidInput
from neuralrank.experiments import users_for_lift, users_for_preference


def test_textbook_sizes() -> None:
    # 10 % against 12 %: (1.95996 + 0.84162)² · (0.09 + 0.1056) / 0.02² = 3838.1
    assert users_for_lift(0.1, 0.2) == 3839
    # (1.95996 + 1.28155)² · 0.1956 / 0.0004 = 5138.1
    assert users_for_lift(0.1, 0.2, power=0.9) == 5139
    # 16 s² / d² is the rule of thumb.
    assert users_for_lift(2.0, 0.1, deviation=1.0) == pytest.approx(16 / 0.2**2, rel=0.02)
    # ((0.97998 + 0.84162 · √0.2475) / 0.05)² = 782.5
    assert users_for_preference(0.55) == users_for_preference(0.45) == 783
    # Five who agree are not significant (p 0.0625), six are (0.031).
    assert users_for_preference(1.0) == 6


@pytest.mark.parametrize("share", [0.55, 0.7])
def test_so_many_find_the_preference_as_often_as_promised(share: float) -> None:
    users = users_for_preference(share)
    wins = np.arange(users + 1)
    found = [stats.binomtest(int(won), users).pvalue < 0.05 for won in wins]
    power = stats.binom.pmf(wins, users, share)[found].sum()
    assert power == pytest.approx(0.8, abs=0.04)


def test_so_many_find_the_lift_as_often_as_promised() -> None:
    users, rng = users_for_lift(0.3, 0.3), np.random.default_rng(7)
    a, b = (rng.binomial(1, rate, (2_000, users)) for rate in (0.3, 0.39))
    p = stats.ttest_ind(b, a, axis=1, equal_var=False).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("rate", "lift", "more", "words"),
    [
        (0.0, 0.1, {}, "rate is 0"),
        (float("nan"), 0.1, {}, "rate is nan"),
        (0.1, 0.0, {}, "not the same"),
        (0.1, -1.0, {}, "lift -1"),
        (0.9, 0.2, {}, "The rate is 0.9, with the lift 1.08; a share of users is below 1"),
        (0.9, 0.2, {"deviation": 0.0}, "deviation is 0"),
        (0.1, 0.2, {"power": 1.0}, "power is 1 and alpha 0.05; allowed is between 0 and 1"),
        (0.1, 0.2, {"alpha": 0.0}, "alpha 0"),
    ],
)
def test_numbers_out_of_their_range(
    rate: float, lift: float, more: dict[str, float], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        users_for_lift(rate, lift, **more)


@pytest.mark.parametrize("share", [0.5, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(InvalidInput, match=r"not 0\.5, which is chance"):
        users_for_preference(share)

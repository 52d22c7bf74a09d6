"""What pages of an experiment say, against numbers counted by hand and against scipy."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from neuralrank.experiments import Page, Tally


def page(user: str, arm: str = "", **done: int) -> Page:
    """`clicks=2` on a page of an arm; `clicks_a=1` on an interleaved one."""
    counts: Counter[tuple[str, str]] = Counter()
    for name, count in done.items():
        action, _, owner = name.partition("_")
        counts[action, owner.upper() or arm] = count
    return Page(user, arm, counts)


def tally(*pages: Page) -> Tally:
    made = Tally()
    made.add(pages)
    return made


def test_a_user_is_one_value_however_many_pages_they_had() -> None:
    compared = tally(
        page("a1", "A", clicks=1), page("a1", "A"),  # 0.5 clicks a page
        page("a2", "A"),  # 0
        page("b1", "B", clicks=3, purchases=1), page("b1", "B", clicks=1),  # 2 clicks
        page("b2", "B", clicks=1), *[page("b2", "B")] * 3,  # 0.25
    ).compared()  # fmt: skip
    assert compared is not None
    assert (compared.users, compared.pages) == ((2, 2), (3, 6))
    by_name = {row.measure: row for row in compared.differences}
    assert list(by_name) == ["ctr", "clicks", "carts", "purchases"]
    clicks, ctr = by_name["clicks"], by_name["ctr"]
    assert (clicks.a, clicks.b, clicks.difference) == (0.25, 1.125, 0.875)
    assert (ctr.a, ctr.b) == (0.25, 0.625)
    expected = stats.ttest_ind([2, 0.25], [0.5, 0], equal_var=False)
    assert clicks.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (clicks.low, clicks.high) == pytest.approx((interval.low, interval.high))
    # (1.95996 + 0.84162)² · (1.53125 + 0.125) / 0.875² = 16.98
    assert clicks.users_needed == 17
    assert by_name["purchases"].b == 0.25
    # Nobody put anything into a cart: nothing to tell.
    assert (by_name["carts"].p, by_name["carts"].users_needed) == (None, None)


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    rng = np.random.default_rng(3)
    pages = [
        page(f"{arm}{user}", arm, clicks=int(rng.random() < rate), carts=int(rng.random() < 0.2))
        for arm, rate in (("A", 0.2), ("B", 0.35))
        for user in range(600)
    ]
    compared = tally(*pages).compared()
    assert compared is not None
    by_name = {row.measure: row for row in compared.differences}
    clicks, carts = by_name["clicks"], by_name["carts"]
    assert clicks.p is not None
    assert clicks.p < 1e-4
    assert clicks.low is not None
    assert clicks.low > 0
    assert carts.p is not None
    assert carts.p > 0.05
    assert not compared.is_lopsided
    assert compared.halves_p == pytest.approx(1.0)


def test_halves_that_chance_does_not_make_are_seen() -> None:
    pages = [
        page(f"{arm}{n}", arm) for arm, users in (("A", 400), ("B", 300)) for n in range(users)
    ]
    compared = tally(*pages).compared()
    assert compared is not None
    assert compared.halves_p == pytest.approx(stats.binomtest(400, 700).pvalue)
    assert compared.is_lopsided


def test_who_saw_both_arms_takes_no_part() -> None:
    made = tally(page("x", "A"), page("x", "B"), page("y", "A"), page("z", "B"))
    compared = made.compared()
    assert made.turncoats == 1
    assert compared is not None
    assert (compared.users, compared.pages) == ((1, 1), (1, 1))
    assert all(row.p is None for row in compared.differences)


def test_one_arm_alone_is_no_comparison_but_no_failure() -> None:
    compared = tally(page("x", "A", clicks=1), page("y", "A")).compared()
    assert compared is not None
    assert compared.users == (2, 0)
    assert {row.b for row in compared.differences} == {None}
    assert all(row.p is None for row in compared.differences)
    assert Tally().compared() is None
    assert Tally().preferred() is None


def test_users_of_interleaved_pages_prefer_whom_they_take_more_of() -> None:
    pages = [
        page("both", clicks_a=1, clicks_b=1),  # prefers none
        page("first", clicks_a=2, clicks_b=1),
        page("second", clicks_a=1), page("second", clicks_b=3),  # B by 3 to 1
        *[page(f"third-{n}", clicks_b=1) for n in range(8)],
        page("none"),
    ]  # fmt: skip
    preferred = tally(*pages).preferred()
    assert preferred is not None
    assert (preferred.users, preferred.pages) == (12, 13)
    clicks, carts, purchases = preferred.preferences
    assert (clicks.measure, clicks.a, clicks.b) == ("clicks", 4, 13)
    assert (clicks.prefer_a, clicks.prefer_b) == (1, 9)
    # 2 · (1 + 10) / 2**10
    assert clicks.p == pytest.approx(22 / 1024)
    assert clicks.share == 0.9
    assert clicks.low is not None
    assert clicks.high is not None
    assert 0.5 < clicks.low < 0.9 < clicks.high < 1
    assert clicks.users_needed is not None
    assert clicks.users_needed <= 10
    assert (carts.share, carts.p, purchases.users_needed) == (None, None, None)


def test_both_kinds_of_pages_are_kept_apart() -> None:
    made = tally(page("x", "A", clicks=1), page("x", clicks_b=1), page("y", "B"))
    compared, preferred = made.compared(), made.preferred()
    assert compared is not None
    assert preferred is not None
    assert (compared.users, preferred.users) == ((1, 1), 1)
    assert preferred.preferences[0].b == 1

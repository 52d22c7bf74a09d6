"""Exposure by hand: who is shown where, against what is merited."""

import numpy as np
import pytest

from trainer.evaluation.exposure import exposure
from trainer.evaluation.held_back import Item, Judged

SECOND = 1 / np.log2(3)
ITEMS = {
    name: Item(name, name, name, brand, department, popularity)
    for name, brand, department, popularity in [
        ("a", "X", "shoes", 9),
        ("b", "X", "shoes", 0),
        ("c", "Y", "bags", 1),
        ("d", "", "", 0),
        ("unasked", "Z", "hats", 2),
    ]
}


def judged(**labels: dict[str, float]) -> Judged:
    same = dict.fromkeys(labels, "")
    return Judged("judgment", same, same, same, labels, 0)


def test_a_brand_gets_what_its_places_are_looked_at() -> None:
    found = exposure(judged(q={"a": 0.0, "c": 1.0}), {"q": {"a": 2.0, "c": 1.0}}, ITEMS)
    given = 1 + SECOND
    assert found.brands == (
        ("X", pytest.approx(1 / given), 0.0),
        ("Y", pytest.approx(SECOND / given), 1.0),
    )
    assert found.brand_gap == pytest.approx(1 / given)
    assert found.popular_exposure == pytest.approx(1 / given)  # a is the one in five
    assert found.popular_merit == 0.0
    assert found.coverage == pytest.approx(2 / 5)
    assert found.shown_coverage == 1.0
    assert found.gini == pytest.approx((1 - SECOND) / (2 * given))
    assert found.category_diversity == 1.0


def test_what_is_merited_is_not_away_from_merit() -> None:
    found = exposure(judged(q={"a": 1.0}), {"q": {"a": 0.5}}, ITEMS)
    assert found.brand_gap == 0.0
    assert found.gini == 0.0
    assert found.category_diversity is None  # one item is no pair


def test_pairs_differ_or_are_not_known() -> None:
    scores = {"q": {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0}}
    found = exposure(judged(q=dict.fromkeys("abcd", 1.0)), scores, ITEMS)
    assert found.category_diversity == pytest.approx(2 / 3)  # ab, ac, bc; d has none
    assert ("(not known)", pytest.approx(1 / np.log2(5) / 2.5616, rel=1e-3), 0.25) in found.brands


def test_only_ten_places_are_looked_at() -> None:
    items = {f"{n:02}": Item(f"{n:02}", "", "", "X", "", 0) for n in range(20)}
    scores = {"q": {name: -float(name) for name in items}}
    found = exposure(judged(q=dict.fromkeys(items, 1.0)), scores, items)
    assert found.coverage == 0.5
    assert found.popular_exposure is None  # nobody used anything

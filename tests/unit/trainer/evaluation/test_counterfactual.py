"""Estimators against numbers computed by hand, and against users whose taste is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.evaluation.counterfactual import (
    Attraction,
    Logged,
    cross_fitted,
    estimates,
    reranked,
)

EXAMINATION = np.array([1.0, 0.5, 0.25])


def logged(
    pages: list[str], clicks: list[str], queries: list[str] | None = None, **changes: object
) -> Logged:
    """One letter an item: pages "ab", "ba" with the clicked ones "a", ""."""
    rows = [(n, place + 1, item) for n, page in enumerate(pages) for place, item in enumerate(page)]
    position = np.array([place for _, place, _ in rows])
    fields: dict[str, object] = {
        "page": np.array([n for n, _, _ in rows]),
        "query": [(queries or ["q"] * len(pages))[n] for n, _, _ in rows],
        "item": [item for _, _, item in rows],
        "position": position,
        "clicked": np.array([float(item in clicks[n]) for n, _, item in rows]),
        "propensity": EXAMINATION[position - 1],
        "examination": EXAMINATION,
    }
    return Logged(**(fields | changes))  # type: ignore[arg-type]


def values(
    log: Logged, order: str, attraction: float = 0.0, clip: float = 10.0
) -> dict[str, float]:
    scores = np.array([-float(order.index(item)) for item in log.item])
    found = estimates(log, reranked(log, scores), np.full(len(log), attraction), clip)
    return {name: estimate.value for name, estimate in found.items()}


def test_a_page_keeps_its_places_and_equal_scores_their_order() -> None:
    log = logged(["abc", "ba"], ["", ""])
    assert reranked(log, np.array([0.0, 0.0, 1.0, 0.0, 0.0])).tolist() == [2, 3, 1, 1, 2]
    second_page = logged(["ab"], [""], position=np.array([11, 12]))
    assert reranked(second_page, np.array([0.0, 1.0])).tolist() == [12, 11]


def test_moving_a_clicked_item_up_is_worth_the_ratio_of_its_places() -> None:
    # c was clicked at place 3 (looked at by a quarter of all); at place 1 all look: 4 clicks. a was
    # clicked at place 1 and goes to 2: half a click. Two pages: (4 + 0.5) / 2.
    assert values(logged(["abc", "abc"], ["c", "a"]), "cab")["IPS"] == pytest.approx(2.25)
    assert values(logged(["abc", "abc"], ["c", "a"]), "cab", clip=2.0)["IPS"] == pytest.approx(1.25)


def test_the_ranking_that_was_shown_gets_the_clicks_that_were_made() -> None:
    log = logged(["abc", "abc", "abc"], ["c", "a", "ab"])
    assert values(log, "abc", attraction=0.3) == pytest.approx(
        {
            "IPS": 4 / 3,
            "DR": 4 / 3,
            "IPS item-position": 4 / 3,
            "SNIPS item-position": 4 / 3,
            "DR item-position": 4 / 3,
        }
    )


def test_doubly_robust_by_hand() -> None:
    # Page "ab", a clicked; ranked "ba". Attraction 0.4 of both.
    # Direct: 0.4 * 0.5 + 0.4 * 1 = 0.6.
    # a: weight 0.5 / 1, (1 - 0.4 * 1) = 0.6 -> 0.3. b: weight 1 / 0.5, (0 - 0.4 * 0.5) -> -0.4.
    assert values(logged(["ab"], ["a"]), "ba", attraction=0.4)["DR"] == pytest.approx(0.5)


def test_item_position_by_hand() -> None:
    # "ab" three times (a clicked in two), "ba" once (b clicked). Ranked "ab": only the first three
    # have the items there, each of weight 4 / 3.
    log = logged(["ab", "ab", "ab", "ba"], ["a", "a", "", "b"])
    found = values(log, "ab")
    assert found["IPS item-position"] == pytest.approx((4 / 3 * 2) / 4)
    assert found["SNIPS item-position"] == pytest.approx(2 / 3)
    # Ranked "ba": one page of weight 4, with one click.
    assert values(log, "ba")["IPS item-position"] == pytest.approx(1.0)
    # Clipped to 2, half of it is lost; normalised by its weights, nothing is.
    assert values(log, "ba", clip=2.0)["IPS item-position"] == pytest.approx(0.5)
    assert values(log, "ba", clip=2.0)["SNIPS item-position"] == pytest.approx(1.0)


def test_support_and_clipping_are_said() -> None:
    log = logged(["abc", "abc"], ["c", "a"])
    scores = np.array([0.0, -1.0, 1.0] * 2)
    found = estimates(log, reranked(log, scores), np.zeros(6), clip=2.0)
    assert found["IPS"].numbers()["clipped"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["IPS"].support == 1.0
    assert found["IPS item-position"].support == 0.0  # nothing stays where it was
    numbers = found["IPS"].numbers()
    assert numbers["low"] <= numbers["value"] <= numbers["high"]


def test_attraction_is_clicks_by_looks_and_begins_with_what_is_known_beside_it() -> None:
    log = logged(["ab"] * 40, ["a"] * 20 + [""] * 20)
    rates = Attraction(log).of(["q", "q", "other", "other"], ["a", "b", "a", "z"])
    mean = 20 / 60  # 40 looks at place 1, 20 at place 2
    item = (20 + 10 * mean) / 50
    assert rates[0] == pytest.approx((20 + 10 * item) / 50)
    assert rates[1] == pytest.approx(10 * (10 * mean / 30) / 30)
    assert rates[2] == pytest.approx((0 + 10 * item) / 10)
    assert rates[3] == pytest.approx(mean)
    assert Attraction(log, np.zeros(len(log), bool)).of(["q"], ["a"]).tolist() == [0.0]


def test_no_page_teaches_what_is_expected_of_itself() -> None:
    log = logged(["a", "a", "a"], ["a", "", ""])
    expected = cross_fitted(log, np.array([False, False, True]))
    # Page 0 is taught by pages 1 and 2, of no click; page 1 by 0 and 2; page 2 is only a teacher.
    assert expected[0] == 0.0
    assert expected[1] == pytest.approx(0.5)
    assert expected[2] == 0.0


# Users whose taste is known: four items, places looked at by 1, 1/2, 1/3, 1/4.
TASTE = {"a": 0.1, "b": 0.7, "c": 0.4, "d": 0.55}
LOOK = 1 / np.arange(1, 5)
TRUTH = {
    order: sum(TASTE[item] * float(look) for item, look in zip(order, LOOK, strict=True))
    for order in ("bdca", "acdb")
}


def visits(chance: np.random.Generator, pages: int, shuffled: bool) -> Logged:
    shown = [
        "".join(chance.permutation(list("abcd"))) if shuffled else "acdb" for _ in range(pages)
    ]
    position = np.tile(np.arange(1, 5), pages)
    items = [item for page in shown for item in page]
    taste = np.array([TASTE[item] for item in items])
    clicked = chance.random(len(items)) < taste * LOOK[position - 1]
    return Logged(
        page=np.repeat(np.arange(pages), 4),
        query=["q"] * len(items),
        item=items,
        position=position,
        clicked=clicked.astype(float),
        propensity=LOOK[position - 1],
        examination=LOOK,
    )


def mean_of(name: str, *, attraction: float | None, shuffled: bool) -> float:
    """The mean of an estimate of "bdca" over 40 logs of 100 pages."""
    found: list[float] = []
    for seed in range(40):
        log = visits(np.random.default_rng(seed), 100, shuffled)
        scores = np.array([-float("bdca".index(item)) for item in log.item])
        rates = np.array([TASTE[i] if attraction is None else attraction for i in log.item])
        places = reranked(log, scores)
        found.append(_values_only(log, places, rates)[name])
    return float(np.mean(found))


def _values_only(
    log: Logged, places: NDArray[np.int64], rates: NDArray[np.float64]
) -> dict[str, float]:
    found = estimates(log, places, rates, clip=100.0)
    return {name: estimate.value for name, estimate in found.items()}


def test_every_estimator_finds_the_clicks_of_a_ranking_that_was_not_shown() -> None:
    truth = TRUTH["bdca"]
    assert truth - TRUTH["acdb"] > 0.3  # a ranking that differs
    for name in ("IPS", "DR", "IPS item-position", "SNIPS item-position", "DR item-position"):
        found = mean_of(name, attraction=0.5, shuffled=True)
        assert found == pytest.approx(truth, abs=0.04), name


def test_position_based_weights_need_no_variation_in_what_was_shown() -> None:
    assert mean_of("IPS", attraction=0.5, shuffled=False) == pytest.approx(TRUTH["bdca"], abs=0.04)
    # Item-position weights do: nothing that moves was seen where it goes.
    assert mean_of("IPS item-position", attraction=0.5, shuffled=False) < 0.6 * TRUTH["bdca"]


def test_clicks_without_weights_would_be_wrong() -> None:
    """What the position is worth is the point: the clicks as they came tell of another ranking."""
    plain = np.mean(
        [visits(np.random.default_rng(s), 100, False).clicked.sum() / 100 for s in range(40)]
    )
    assert plain == pytest.approx(TRUTH["acdb"], abs=0.04)
    assert abs(plain - TRUTH["bdca"]) > 0.3


def test_an_item_that_stood_at_several_places_weighs_by_how_it_was_looked_at_on_average() -> None:
    # Once at place 1, once at 2: looked at by 0.75 of all on average. At place 1: 1 / 0.75 a click.
    # Page "ba", a clicked; attraction 0.4: direct 0.6 a page; a: (1 - 0.4 * 0.5) / 0.75,
    # b: (0 - 0.4 * 1) * 0.5 / 0.75; of page "ab", nothing clicked: -0.4 / 0.75 and -0.1 / 0.75.
    log = logged(["ba", "ab"], ["a", ""])
    assert values(log, "ab")["IPS"] == pytest.approx(1 / 0.75 / 2)
    by_hand = (0.6 + (0.8 - 0.2) / 0.75 + 0.6 + (-0.4 - 0.1) / 0.75) / 2
    assert values(log, "ab", attraction=0.4)["DR"] == pytest.approx(by_hand)


def test_doubly_robust_fills_in_what_was_never_shown() -> None:
    known = np.mean([_at_one_order(seed, TASTE) for seed in range(40)], axis=0)
    assert known[1] == pytest.approx(TRUTH["bdca"], abs=0.02)
    assert known[0] < 0.6 * TRUTH["bdca"]  # IPS counts what stayed where it was


def _at_one_order(seed: int, attraction: dict[str, float]) -> list[float]:
    log = visits(np.random.default_rng(seed), 100, False)
    scores = np.array([-float("bdca".index(item)) for item in log.item])
    rates = np.array([attraction[item] for item in log.item])
    found = _values_only(log, reranked(log, scores), rates)
    return [found["IPS item-position"], found["DR item-position"]]


def test_doubly_robust_is_right_where_weights_are_cut_and_the_attraction_is_not_wrong() -> None:
    log = visits(np.random.default_rng(1), 4_000, True)
    scores = np.array([-float("bdca".index(item)) for item in log.item])
    rates = np.array([TASTE[item] for item in log.item])
    found = estimates(log, reranked(log, scores), rates, clip=1.0)
    assert found["IPS"].value < TRUTH["bdca"] - 0.2
    assert found["DR"].value == pytest.approx(TRUTH["bdca"], abs=0.03)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(40):
        log = visits(np.random.default_rng(seed), 60, True)
        scores = np.array([-float("bdca".index(item)) for item in log.item])
        rates = np.full(len(log), 0.4)
        low, high = estimates(log, reranked(log, scores), rates, 100.0)["DR"].interval()
        held += low <= TRUTH["bdca"] <= high
    assert 34 <= held <= 40

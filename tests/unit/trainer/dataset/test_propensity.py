"""Both estimators against numbers worked out by hand, and against users whose looks are known."""

import numpy as np
import pytest

from neuralrank.errors import InvalidInput
from trainer.dataset.propensity import Seen, _expect, estimate, harvest, regression_em

POSITIONS = 8
TRUE = 1.0 / np.arange(1, POSITIONS + 1)


def seen(*rows: tuple[int, int, int, int]) -> Seen:
    """Rows of pair, position, shown, clicked."""
    pair, position, shown, clicked = (
        np.array(column, np.int64) for column in zip(*rows, strict=True)
    )
    return Seen(pair, position, shown, clicked)


def test_impressions_are_counted() -> None:
    counted = Seen.of(
        np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1]), np.array([True, False, True, False])
    )
    assert counted.pair.tolist() == [0, 0, 1]
    assert counted.position.tolist() == [1, 2, 1]
    assert counted.shown.tolist() == [2, 1, 1]
    assert counted.clicked.tolist() == [1, 1, 0]


def test_harvest_by_hand() -> None:
    """Two items were seen at both positions. v = 100·100/200 = 50 and 200·50/250 = 40; ĉ_1 =
    50·0.4 + 40·0.1 = 24 and ĉ_2 = 50·0.2 + 40·0.1 = 14, of 90: θ_2 / θ_1 = 14/24. The third was
    seen at one only and says nothing, whatever it got."""
    logs = seen((0, 1, 100, 40), (0, 2, 100, 20), (1, 1, 200, 20), (1, 2, 50, 5), (2, 2, 99, 99))
    found = harvest(logs)
    assert found.values == pytest.approx([1.0, 14 / 24], abs=1e-4)
    assert found.at(np.array([1, 2, 7])) == pytest.approx([1.0, 14 / 24, 14 / 24], abs=1e-4)
    assert found.note.startswith("2 pairs")


def test_harvest_goes_over_positions_between() -> None:
    """1 and 3 share no item: 3 is half of 2, which is half of 1."""
    logs = seen((0, 1, 100, 80), (0, 2, 100, 40), (1, 2, 100, 40), (1, 3, 100, 20))
    assert harvest(logs).values == pytest.approx([1.0, 0.5, 0.25], abs=1e-3)


def test_harvest_needs_items_at_several_positions() -> None:
    logs = seen((0, 1, 1000, 400), (1, 2, 1000, 100), (2, 1, 10, 5), (2, 2, 10, 5))
    with pytest.raises(InvalidInput, match="Use --propensities regression-em"):
        harvest(logs)


def test_a_place_that_is_seldom_seen_is_taken_for_the_one_above() -> None:
    """One page went on to the places 4, 5 and 7, where nobody clicked."""
    rows = [(0, 1, 100, 80), (0, 2, 100, 40), (1, 2, 100, 40), (1, 3, 100, 20)]
    deep = seen(*rows, (2, 1, 9, 5), *((2, place, 1, 0) for place in (4, 5, 7)))
    found = estimate(deep, np.arange(3.0).reshape(-1, 1))
    assert found.estimator == "harvest"
    assert found.values[:3] == pytest.approx(harvest(seen(*rows)).values, abs=1e-6)
    assert found.values[3:].tolist() == [found.values[2]] * 4
    assert found.note.endswith("one above: 4 to 5, 7")
    # Where they are a fifth of what was shown or more, that would be too rough.
    rows += [(2, place, 60, 1) for place in (4, 5)]
    assert estimate(seen(*rows), np.arange(3.0).reshape(-1, 1)).estimator == "regression-em"


def rarely_read_on(first: int = 1) -> Seen:
    """Looks fall as 1 / place, from the first on; places behind the tenth are shown a hundredth as
    often. At each pair of neighbours, three items are seen."""
    rows = []
    for at in range(1, 40):
        for item in range(3):
            for place in (at, at + 1):
                shown = 40_000 if place <= 10 else 400
                clicked = round(shown * (0.2 + 0.3 * item) / place)
                rows.append((3 * at + item, place + first - 1, shown, clicked))
    return seen(*rows)


def test_places_that_are_seldom_seen_are_estimated_as_well() -> None:
    """They were taken for up to nine times as likely: the search for θ ended before it came to
    them."""
    assert harvest(rarely_read_on()).values == pytest.approx(1 / np.arange(1, 41), rel=0.15)


@pytest.mark.parametrize("stray", [(), ((500, 1, 40, 8),)])
def test_the_first_place_need_not_be_among_what_is_compared(
    stray: tuple[tuple[int, int, int, int], ...],
) -> None:
    """Such as where it belongs to an advertisement that is not logged, or not by all."""
    moved = rarely_read_on(first=2)
    rows = zip(moved.pair, moved.position, moved.shown, moved.clicked, strict=True)
    found = estimate(seen(*rows, *stray), np.arange(501.0).reshape(-1, 1))
    assert found.estimator == "harvest"
    assert found.values[1:] == pytest.approx(harvest(rarely_read_on()).values)
    assert found.values[0] == 1.0  # as the second
    assert ("not compared, and taken for as likely as place 2: 1" in found.note) == bool(stray)


def test_a_first_place_with_many_of_the_clicks_is_not_taken_for_the_second() -> None:
    """No item of it is ever seen elsewhere."""
    rows = [(0, 2, 100, 80), (0, 3, 100, 40), (1, 3, 100, 40), (1, 4, 100, 20), (2, 1, 90, 80)]
    assert estimate(seen(*rows), np.arange(3.0).reshape(-1, 1)).estimator == "regression-em"


def test_the_expectations_of_em_by_hand() -> None:
    """θ = 0.5 and γ = 0.4, shown 10 times, clicked 2: of the 8 without a click, 1 − θγ = 0.8, a
    look and no liking 0.5·0.6/0.8 = 0.375, liking and no look 0.4·0.5/0.8 = 0.25. So there were
    2 + 3 = 5 looks, and 2 + 2 = 4 of 10 times it was liked."""
    looked, liked, weight = _expect(seen((0, 2, 10, 2)), np.array([0.5]), np.array([0.4]), 1)
    assert looked == pytest.approx([5.0])
    assert liked == pytest.approx([0.4])
    assert weight == pytest.approx([10.0])


def simulated(noise: float, queries: int = 40, times: int = 200) -> tuple[Seen, np.ndarray]:
    """Users of the position-based model. Each query has 16 items and shows 8: those that what is
    known of them puts first, about; with noise in another order each time."""
    chance = np.random.default_rng(3)
    liking = chance.uniform(0, 1, (queries, 16)) ** 2
    feature = liking + chance.normal(0, 0.15, liking.shape)
    fixed = feature + chance.normal(0, 0.1, feature.shape)
    shape = (queries, times, 16)
    order = np.argsort(-(fixed[:, None] + chance.normal(0, noise, shape)))[..., :POSITIONS]
    pair = order + 16 * np.arange(queries)[:, None, None]
    clicked = chance.uniform(0, 1, pair.shape) < TRUE * liking.ravel()[pair]
    position = np.broadcast_to(np.arange(1, POSITIONS + 1), pair.shape)
    logs = Seen.of(pair.ravel(), position.ravel(), clicked.ravel())
    return logs, feature.reshape(-1, 1)


def test_harvest_finds_how_users_look() -> None:
    logs, features = simulated(noise=0.5)
    found = estimate(logs, features)
    assert found.estimator == "harvest"
    assert found.values == pytest.approx(TRUE, rel=0.15)


def test_regression_em_finds_it_where_each_query_has_one_ranking() -> None:
    """Where the click rate, which takes what stands first for what is looked at, is far off."""
    logs, features = simulated(noise=0.0)
    found = estimate(logs, features)
    assert found.estimator == "regression-em"
    assert found.values == pytest.approx(TRUE, rel=0.2)
    shown = np.bincount(logs.position - 1, logs.shown)
    rates = np.bincount(logs.position - 1, logs.clicked) / shown
    off = np.abs(found.values / TRUE - 1).mean()
    assert off < 0.4 * np.abs(rates / rates[0] / TRUE - 1).mean()


def test_places_that_nobody_clicks_are_still_looked_at_a_little() -> None:
    logs = seen(*((pair, place, 50, 10 * (place == 2)) for pair in range(4) for place in (1, 2, 3)))
    for found in (harvest(logs), regression_em(logs, np.arange(4.0).reshape(-1, 1))):
        assert found.values.min() >= 1e-3
        assert found.values.max() == 1.0
    assert harvest(logs).values == pytest.approx([1e-3, 1.0, 1e-3], abs=1e-3)


def test_without_correction_every_position_counts_the_same() -> None:
    logs, features = simulated(noise=0.0, queries=2, times=20)
    assert estimate(logs, features, "none").values.tolist() == [1.0] * POSITIONS


def test_what_can_not_be_estimated_is_said() -> None:
    with pytest.raises(InvalidInput, match="Nobody clicked anything"):
        seen((0, 1, 10, 0))
    logs, features = simulated(noise=0.0, queries=2, times=20)
    with pytest.raises(InvalidInput, match="needs features that tell items apart"):
        regression_em(logs, np.zeros_like(features))
    with pytest.raises(InvalidInput, match="needs features that tell items apart"):
        estimate(logs, np.zeros_like(features), "regression-em")
    # Who names no estimator gets what there is.
    found = estimate(logs, np.zeros_like(features))
    assert (found.estimator, found.values.tolist()) == ("none", [1.0] * POSITIONS)

"""What a user likes, from what they did."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.personal.affinity import ACTION_WEIGHTS
from neuralrank.personal.inputs import Event
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Interaction, Profile
from sidecar.ranking.score import centroid_match, similarities
from sidecar.ranking.taste import Taste, done, query_texts, taste
from sidecar.rpc.wire import read_candidates
from tests.unit.sidecar.parts import DIMENSIONS, WordEncoder, item, shop, vector

DAY = 86_400_000
ITEMS = shop().contents


def of(*interactions: Interaction) -> Taste:
    return taste(Profile(interactions=interactions), ITEMS, {}, 7.0, DIMENSIONS)


def near(found: Taste, name: str) -> float:
    assert found.interest is not None
    stored = ITEMS[name].vector
    assert stored is not None
    return float(found.interest @ stored)


def test_a_purchase_counts_more_than_a_click() -> None:
    found = of(Interaction("B", "click", DAY), Interaction("C", "purchase", DAY))
    assert near(found, "C") > near(found, "B")


def test_what_was_done_lately_counts_more() -> None:
    found = of(Interaction("C", "click", 30 * DAY), Interaction("B", "click", DAY))
    assert near(found, "C") > near(found, "B")


def test_a_half_life_later_it_counts_half() -> None:
    found = of(Interaction("C", "click", 8 * DAY), Interaction("B", "click", DAY))
    assert found.weights == pytest.approx([2 / 3, 1 / 3])


def test_who_comes_back_after_years_is_remembered() -> None:
    assert near(of(Interaction("A", "view", DAY)), "A") == pytest.approx(1.0)


def test_who_comes_back_to_an_item_without_a_vector_is_remembered_too() -> None:
    items = {**ITEMS, "new": item("new", "acme lamp", vector=None)}
    rows = (Interaction("new", "view", 1_500 * DAY), Interaction("A", "purchase", DAY))
    found = taste(Profile(interactions=rows), items, {}, 7.0, DIMENSIONS)
    assert near(found, "A") == pytest.approx(1.0)
    assert found.weights == pytest.approx([1.0])
    assert found.brands["acme"] == pytest.approx(1.0)


def test_each_cosine_is_calibrated_as_what_it_compares() -> None:
    encoder = WordEncoder()
    packed = vector("apple computer").tobytes()
    candidates = read_candidates([pb.Candidate(id="x", vector=packed)], frozenset(), 100)
    apple, cosine = vector("apple"), 0.5**0.5
    found = similarities(candidates, encoder, apple, None)
    similar = similarities(candidates, encoder, apple, None, query_is_item=True)
    assert found.query_match == pytest.approx(cosine)
    assert similar.query_match == pytest.approx(cosine**2)
    assert centroid_match(candidates, encoder, apple) == pytest.approx(cosine**0.5)
    # Of the user's event with D, an apple phone.
    liked = similarities(candidates, encoder, None, of(Interaction("D", "click", DAY)))
    assert liked.event_match == pytest.approx(np.array([[0.5**2]]))


def test_an_impression_says_nothing() -> None:
    assert of(Interaction("A", "impression", DAY)).interest is None


def test_an_unknown_action_weighs_as_a_view() -> None:
    pair = of(Interaction("A", "share", DAY), Interaction("C", "view", DAY))
    assert pair.weights == pytest.approx([0.5, 0.5])


def test_an_item_that_is_gone_counts_nothing() -> None:
    found = of(Interaction("gone", "purchase", DAY), Interaction("A", "view", DAY))
    assert near(found, "A") == pytest.approx(1.0)


def test_of_an_item_whose_vector_has_another_length_the_brand_counts() -> None:
    items = {**ITEMS, "short": item("short", "dell computer", vector=vector("dell")[:4])}
    rows = (Interaction("short", "click", DAY), Interaction("C", "click", DAY))
    found = taste(Profile(interactions=rows), items, {}, 7.0, DIMENSIONS)
    assert near(found, "C") == pytest.approx(1.0)
    assert found.brands == pytest.approx({"dell": 0.5, "huawei": 0.5})


def test_a_query_without_item_counts_by_its_vector() -> None:
    profile = Profile(interactions=(Interaction("", "search", DAY, " red kettle "),))
    assert query_texts(profile) == ["red kettle"]
    found = taste(profile, {}, {"red kettle": vector("red kettle")}, 7.0, DIMENSIONS)
    assert found.interest == pytest.approx(vector("red kettle"))
    assert found.item_ids == ("",)


def test_of_many_queries_the_newest_count() -> None:
    rows = tuple(Interaction("", "search", (20 - n) * DAY, f"query {n % 12}") for n in range(20))
    assert query_texts(Profile(interactions=rows)) == [f"query {n}" for n in range(8)]


def test_a_category_that_an_item_names_twice_counts_once() -> None:
    items = {"x": item("x", "red lamp", category=("Lamps", "lamps"))}
    found = taste(
        Profile(interactions=(Interaction("x", "view", DAY),)), items, {}, 7.0, DIMENSIONS
    )
    assert found.categories == pytest.approx({"lamps": 1.0})


def test_brands_and_categories_are_shares_of_attention() -> None:
    found = of(Interaction("A", "click", DAY), Interaction("C", "click", DAY))
    assert found.brands == pytest.approx({"apple": 0.5, "huawei": 0.5})
    assert found.categories == pytest.approx({"digital": 1.0, "computer": 0.5, "phone": 0.5})


def test_nothing_was_done_with_what_is_blocked() -> None:
    rows = (
        Interaction("B", "click", 4 * DAY),
        Interaction("A", "view", 3 * DAY),
        Interaction("B", "dislike", 2 * DAY),
        Interaction("A", "click", DAY),
    )
    profile = Profile(interactions=rows, blocked_items=frozenset({"B"}))
    # What stands on both sides of it is one step then, as in a dataset.
    assert done(profile) == (Event("A", "click"),)
    found = taste(profile, ITEMS, {}, 7.0, DIMENSIONS)
    assert found.recent.events == (Event("A", "click"),)
    assert set(found.item_ids) == {"A"}
    assert found.brands == {"apple": pytest.approx(1.0)}


INTERACTIONS = st.builds(
    Interaction,
    st.sampled_from(["A", "B", "C", "D", "gone", ""]),
    st.sampled_from([*ACTION_WEIGHTS, "other"]),
    st.integers(0, 10**13),
)


@given(st.lists(INTERACTIONS, max_size=20))
def test_interest_has_length_one_and_shares_stay_in_bounds(rows: list[Interaction]) -> None:
    found = of(*rows)
    if found.interest is not None:
        assert np.linalg.norm(found.interest) == pytest.approx(1.0, abs=1e-5)
        assert found.weights.sum() <= 1.0 + 1e-5
    shares = [*found.brands.values(), *found.categories.values()]
    assert all(0 <= share <= 1 + 1e-9 for share in shares)

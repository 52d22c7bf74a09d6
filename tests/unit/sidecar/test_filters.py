"""Hard filters: what is dropped, why, and that nothing else is."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain import AttributeRule, Candidates, DropReason, Filters, Profile
from sidecar.ranking.filters import apply_filters, unchecked

NOBODY = Profile()


def candidates(count: int = 3, **columns: object) -> Candidates:
    made = Candidates(
        ids=[f"i{n}" for n in range(count)],
        item_ids=[f"i{n}" for n in range(count)],
        indexes=[""] * count,
        texts=[None] * count,
        retrieval=np.full(count, np.nan, np.float32),
        vectors=np.zeros((count, 0), np.float32),
        has_vector=np.zeros(count, bool),
        brands=["Apple", "dell", ""][:count] + [None] * (count - 3),
        prices=np.array([10.0, 20.0, math.nan] + [math.nan] * count)[:count],
        in_stock=np.array([1, 0, -1] + [-1] * count, np.int8)[:count],
        categories=[()] * count,
        attributes=[{}] * count,
        versions=[None] * count,
    )
    return replace(made, **columns)  # type: ignore[arg-type]


def drops(
    filters: Filters, profile: Profile = NOBODY, same: str = "", **columns: object
) -> dict[str, str]:
    _, dropped = apply_filters(candidates(**columns), filters, profile, same)  # type: ignore[arg-type]
    return {drop.id: drop.reason.value for drop in dropped}


def test_without_filters_all_stay() -> None:
    kept, dropped = apply_filters(candidates(), Filters(), NOBODY)
    assert kept.tolist() == [0, 1, 2]
    assert dropped == []


def test_purchases_are_dropped_only_where_asked() -> None:
    user = Profile(purchased=frozenset({"i1"}))
    assert drops(Filters(exclude_purchased=True), user) == {"i1": "purchased"}
    assert drops(Filters(), user) == {}


def test_what_the_user_blocked_is_dropped_unasked() -> None:
    user = Profile(blocked_items=frozenset({"i0"}), blocked_brands=frozenset({"dell"}))
    assert drops(Filters(), user) == {"i0": "blocked_item", "i1": "blocked_brand"}


def test_brands_are_compared_without_case() -> None:
    assert drops(Filters(exclude_brands=frozenset({"apple", "dell"}))) == {
        "i0": "blocked_brand",
        "i1": "blocked_brand",
    }


def test_a_brand_is_the_same_with_a_sharp_s_and_with_two() -> None:
    rows = {"count": 2, "brands": ["Weiß", "WEIẞ"]}
    both = {"i0": "blocked_brand", "i1": "blocked_brand"}
    assert drops(Filters(), Profile(blocked_brands=frozenset({"weiss"})), **rows) == both
    assert drops(Filters(exclude_brands=frozenset({"weiss"})), **rows) == both


def test_a_brand_in_full_width_is_the_same() -> None:
    rows = {"count": 2, "brands": ["ＳＫ－Ⅱ", "SK-II"]}
    both = {"i0": "blocked_brand", "i1": "blocked_brand"}
    for name in ("sk-ii", "ｓｋ－ⅱ"):
        assert drops(Filters(), Profile(blocked_brands=frozenset({name})), **rows) == both
        assert drops(Filters(exclude_brands=frozenset({name})), **rows) == both


def test_of_several_brands_none_may_be_excluded() -> None:
    several = [{"brand": ("Apple", "Beats")}, {"brand": ("dell",)}, None]
    excluded = Filters(exclude_brands=frozenset({"beats"}))
    assert drops(excluded, attributes=several) == {"i0": "blocked_brand"}
    blocked = Profile(blocked_brands=frozenset({"apple", "beats", "dell"}))
    assert drops(Filters(), blocked, attributes=several) == {
        "i0": "blocked_brand",
        "i1": "blocked_brand",
    }


def test_unknown_stock_and_price_pass() -> None:
    assert drops(Filters(in_stock_only=True)) == {"i1": "out_of_stock"}
    assert drops(Filters(min_price=100)) == {"i0": "price_range", "i1": "price_range"}
    assert drops(Filters(max_price=5)) == {"i0": "price_range", "i1": "price_range"}


def test_bounds_belong_to_the_range() -> None:
    assert drops(Filters(min_price=10, max_price=20)) == {}


def test_a_rule_keeps_only_what_has_the_value_and_an_exclusion_drops_it() -> None:
    attributes = [{"color": ("Red", "blue")}, {"color": ("green",)}, {}]
    keep = AttributeRule("color", frozenset({"red"}))
    drop = AttributeRule("color", frozenset({"red"}), exclude=True)
    assert drops(Filters(attributes=(keep,)), attributes=attributes) == {
        "i1": "attribute_rule",
        "i2": "attribute_rule",
    }
    assert drops(Filters(attributes=(drop,)), attributes=attributes) == {"i0": "attribute_rule"}


@pytest.mark.parametrize(("has", "asked"), [("５００ＭＬ", "500ml"), ("500ml", "５００ｍｌ")])
def test_rules_compare_without_case_and_width(has: str, asked: str) -> None:
    rule = AttributeRule("size", frozenset({asked}))
    attributes = [{"size": (has,)}, {}, {}]
    assert "i0" not in drops(Filters(attributes=(rule,)), attributes=attributes)


def test_brand_and_category_can_be_ruled_on() -> None:
    rules = (AttributeRule("brand", frozenset({"apple"})),)
    assert drops(Filters(attributes=rules)) == {"i1": "attribute_rule", "i2": "attribute_rule"}
    rules = (AttributeRule("category", frozenset({"phones"}), exclude=True),)
    assert drops(Filters(attributes=rules), categories=[("Phones",), (), ()]) == {
        "i0": "attribute_rule"
    }


def test_a_rule_does_not_drop_what_could_not_be_read() -> None:
    attributes = [{"color": ("green",)}, None, None]
    wanted = Filters(attributes=(AttributeRule("color", frozenset({"red"})),))
    rows = candidates(attributes=attributes)
    kept, dropped = apply_filters(rows, wanted, NOBODY, unread={0, 1})
    # Of i0 it came that it is green; the index, which was read, says nothing of i2.
    assert kept.tolist() == [1]
    assert [drop.id for drop in dropped] == ["i0", "i2"]
    assert unchecked(rows, wanted, NOBODY, {0, 1}, kept) == 1


def test_what_was_not_held_to_a_filter_is_counted_once() -> None:
    rows = candidates(brands=["Apple", None, None], attributes=[None, None, None])
    strict = Filters(
        exclude_brands=frozenset({"dell"}),
        max_price=50,
        in_stock_only=True,
        attributes=(AttributeRule("category", frozenset({"phone"}), exclude=True),),
    )
    every = np.arange(3)
    assert unchecked(rows, strict, NOBODY, {0, 1, 2}, every) == 3
    assert unchecked(rows, strict, NOBODY, {2}, every) == 1
    assert unchecked(rows, Filters(), NOBODY, {0, 1, 2}, every) == 0
    blocks = Profile(blocked_brands=frozenset({"dell"}))
    assert unchecked(rows, Filters(), blocks, {0, 1, 2}, every) == 2
    assert unchecked(rows, Filters(max_price=50), NOBODY, {0, 1, 2}, every) == 1


def test_the_item_itself_is_no_similar_item() -> None:
    assert drops(Filters(), same="i2") == {"i2": "same_item"}


@pytest.mark.parametrize(
    ("price", "bounds", "said"),
    [
        (20.0, Filters(max_price=15), "price 20 is above max_price 15"),
        (1e6, Filters(max_price=999_999.5), "price 1000000 is above max_price 999999.5"),
        (19.99, Filters(min_price=1_234_567), "price 19.99 is below min_price 1234567"),
    ],
)
def test_a_detail_says_what_was_and_what_is_allowed(
    price: float, bounds: Filters, said: str
) -> None:
    _, dropped = apply_filters(candidates(1, prices=np.array([price])), bounds, NOBODY)
    assert [drop.detail for drop in dropped] == [said]


NAMES = st.sampled_from([f"i{n}" for n in range(8)])
SETS = st.frozensets(NAMES, max_size=4)
BRANDS = st.sampled_from(["Apple", "Dell", "", None])
PRICES = st.one_of(st.just(math.nan), st.floats(0, 100))


@st.composite
def any_candidates(draw: st.DrawFn) -> Candidates:
    count = draw(st.integers(0, 8))
    return candidates(
        count,
        brands=[draw(BRANDS) for _ in range(count)],
        prices=np.array([draw(PRICES) for _ in range(count)], np.float64),
        in_stock=np.array([draw(st.integers(-1, 1)) for _ in range(count)], np.int8),
        attributes=[draw(st.sampled_from([{}, {"color": ("red",)}])) for _ in range(count)],
    )


ANY_FILTERS = st.builds(
    Filters,
    exclude_purchased=st.booleans(),
    exclude_items=SETS,
    exclude_brands=st.frozensets(st.sampled_from(["apple", "dell"])),
    min_price=st.one_of(st.none(), st.floats(0, 50)),
    max_price=st.one_of(st.none(), st.floats(50, 100)),
    in_stock_only=st.booleans(),
    attributes=st.sampled_from(
        [
            (),
            (AttributeRule("color", frozenset({"red"})),),
            (AttributeRule("color", frozenset({"red"}), exclude=True),),
        ]
    ),
)
ANY_PROFILE = st.builds(
    Profile,
    purchased=SETS,
    blocked_items=SETS,
    blocked_brands=st.frozensets(st.sampled_from(["apple", "dell"])),
)


@given(any_candidates(), ANY_FILTERS, ANY_PROFILE)
def test_each_candidate_is_either_kept_or_dropped_once_for_a_reason(
    rows: Candidates, filters: Filters, profile: Profile
) -> None:
    kept, dropped = apply_filters(rows, filters, profile)
    positions = [drop.position for drop in dropped]
    assert sorted([*kept.tolist(), *positions]) == list(range(len(rows)))
    assert positions == sorted(positions)
    assert all(rows.ids[drop.position] == drop.id and drop.detail for drop in dropped)
    for position in kept.tolist():
        assert rows.ids[position] not in profile.blocked_items | filters.exclude_items
        assert not (filters.exclude_purchased and rows.ids[position] in profile.purchased)
        assert not (filters.max_price is not None and rows.prices[position] > filters.max_price)
        assert not (filters.in_stock_only and rows.in_stock[position] == 0)


@given(any_candidates(), ANY_FILTERS, ANY_PROFILE)
def test_what_was_kept_once_is_kept_again(
    rows: Candidates, filters: Filters, profile: Profile
) -> None:
    kept, _ = apply_filters(rows, filters, profile)
    places = kept.tolist()
    again = replace(
        rows,
        ids=[rows.ids[n] for n in places],
        item_ids=[rows.item_ids[n] for n in places],
        brands=[rows.brands[n] for n in places],
        prices=rows.prices[kept],
        in_stock=rows.in_stock[kept],
        attributes=[rows.attributes[n] for n in places],
        categories=[rows.categories[n] for n in places],
    )
    assert apply_filters(again, filters, profile)[1] == []


def test_every_reason_of_the_contract_is_known() -> None:
    from neuralrank.v1 import ranking_pb2 as pb

    names = {name.removeprefix("DROP_REASON_") for name in pb.DropReason.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED"} == {reason.name for reason in DropReason}

"""The worked case of the design: two users, four products, on the real stack.

A searched 电脑, viewed the MacBook (A) and the Dell (B), and bought the MacBook. B searched 手机,
viewed the iPhone (D) and the 华为 (C), and bought the 华为.
"""

import pytest

from neuralrank.settings import Settings
from tests.e2e.shop import INDEX, Shop, ids, in_department, open_shop

COMPUTERS = ("电脑", "Computers")
PHONES = ("手机", "Phones")


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    return open_shop(stack)


@pytest.mark.parametrize("user", ["A", "B"])
@pytest.mark.parametrize(("query", "above", "below"), [("电脑", "AB", "CD"), ("手机", "CD", "AB")])
def test_the_query_comes_before_the_taste(
    shop: Shop, user: str, query: str, above: str, below: str
) -> None:
    page = shop.json("search", INDEX, query, "--user", user, "--size", "100")
    assert page["reranked"] is True
    order = ids(page)
    # Both on the first page, and above what was not asked for, wherever that stands.
    assert max(order.index(item) for item in above) < 10
    last = len(order)
    places = {item: order.index(item) if item in order else last for item in "ABCD"}
    assert max(places[item] for item in above) < min(places[item] for item in below)


@pytest.mark.parametrize(("user", "names"), [("A", COMPUTERS), ("B", PHONES)])
def test_without_a_query_the_list_starts_with_what_the_user_likes(
    shop: Shop, user: str, names: tuple[str, ...]
) -> None:
    page = shop.json("recommend", INDEX, "--user", user)
    assert page["reranked"] is True
    assert in_department(page, names)[:3] == [True] * 3, ids(page)


@pytest.mark.parametrize(("user", "first", "then"), [("A", "B", "CD"), ("B", "D", "AB")])
def test_without_a_query_the_four_products_are_in_the_order_of_taste(
    shop: Shop, user: str, first: str, then: str
) -> None:
    order = ids(shop.json("recommend", INDEX, "--user", user, "--size", "100"))
    last = len(order)
    places = {item: order.index(item) if item in order else last for item in "ABCD"}
    assert places[first] < min(places[item] for item in then)


@pytest.mark.parametrize(("user", "bought"), [("A", "A"), ("B", "C")])
def test_what_was_just_bought_is_dropped_with_its_reason(
    shop: Shop, user: str, bought: str
) -> None:
    page = shop.json("recommend", INDEX, "--user", user)
    assert bought not in ids(page)
    assert {"id": bought, "reason": "purchased"}.items() <= page["dropped"][0].items()
    kept = shop.json("recommend", INDEX, "--user", user, "--include-purchased", "--size", "20")
    assert bought in ids(kept)


def test_a_search_drops_what_was_bought_only_if_told_to(shop: Shop) -> None:
    assert "A" in ids(shop.json("search", INDEX, "电脑", "--user", "A"))
    page = shop.json("search", INDEX, "电脑", "--user", "A", "--exclude-purchased")
    assert "A" not in ids(page)
    assert [item["reason"] for item in page["dropped"] if item["id"] == "A"] == ["purchased"]


def test_the_affinity_of_the_same_products_differs_by_user(shop: Shop) -> None:
    """The Dell fits A better than the iPhone does, though A bought from Apple; B is the reverse."""
    for user, first, second in (("A", "B", "D"), ("B", "D", "B")):
        affinity = {
            hit["id"]: hit["parts"]["affinity"]
            for hit in shop.json("search", INDEX, "数码", "--user", user, "--size", "100")["hits"]
            if "affinity" in hit["parts"]
        }
        assert affinity[first] > affinity[second]

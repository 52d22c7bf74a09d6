"""A click or a purchase changes the very next query."""

import math
import uuid
from pathlib import Path

import pytest

from neuralrank.settings import Settings
from tests.e2e.shop import INDEX, Shop, event, eventually, ids, in_department, open_shop


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    return open_shop(stack)


@pytest.fixture
def user() -> str:
    return f"user-{uuid.uuid4()}"


def test_a_purchase_moves_the_user_to_the_item_and_away_from_others(
    shop: Shop, user: str, tmp_path: Path
) -> None:
    shop.load(tmp_path, event(user, "view", "book-dune"), event(user, "view", "shoe-nike-pegasus"))
    assert eventually(lambda: not math.isnan(shop.similarity(user, "head-sony-xm5")))
    before = shop.similarity(user, "head-sony-xm5")
    unrelated = shop.similarity(user, "book-dune")

    shop.load(tmp_path, event(user, "purchase", "head-sony-xm5"))

    assert eventually(lambda: shop.similarity(user, "head-sony-xm5") > before + 0.02)
    assert shop.similarity(user, "book-dune") < unrelated - 0.01


def test_the_other_way_round_for_another_item(shop: Shop, user: str, tmp_path: Path) -> None:
    shop.load(tmp_path, event(user, "view", "head-sony-xm5"), event(user, "view", "book-dune"))
    assert eventually(lambda: not math.isnan(shop.similarity(user, "book-dune")))
    before = shop.similarity(user, "book-dune")
    unrelated = shop.similarity(user, "head-sony-xm5")

    shop.load(tmp_path, event(user, "purchase", "book-dune"))

    assert eventually(lambda: shop.similarity(user, "book-dune") > before + 0.02)
    assert shop.similarity(user, "head-sony-xm5") < unrelated - 0.01


def test_recommendations_follow_the_newest_purchase(shop: Shop, user: str, tmp_path: Path) -> None:
    shop.load(tmp_path, event(user, "purchase", "serum-estee"))
    beauty, shoes = ("美妆", "Beauty"), ("鞋靴", "Shoes")
    assert eventually(
        lambda: all(in_department(shop.json("recommend", INDEX, "--user", user), beauty)[:2])
    )
    shop.load(
        tmp_path,
        event(user, "purchase", "shoe-asics-kayano"),
        event(user, "purchase", "shoe-nike-pegasus"),
    )
    assert eventually(
        lambda: in_department(shop.json("recommend", INDEX, "--user", user), shoes)[0]
    )


def test_a_search_is_personal_after_one_purchase(shop: Shop, user: str, tmp_path: Path) -> None:
    cold = shop.json("search", INDEX, "耳机", "--user", user)
    assert "no_user" in [note["reason"] for note in cold["degraded"]]
    assert not any("affinity" in hit["parts"] for hit in cold["hits"])

    shop.load(tmp_path, event(user, "purchase", "buds-sport-bone"))

    def personal() -> bool:
        page = shop.json("search", INDEX, "耳机", "--user", user)
        return "no_user" not in [note["reason"] for note in page["degraded"]]

    assert eventually(personal)
    page = shop.json("search", INDEX, "耳机", "--user", user, "--exclude-purchased")
    assert any("affinity" in hit["parts"] for hit in page["hits"])
    assert "buds-sport-bone" in ids(cold)
    assert "buds-sport-bone" not in ids(page)

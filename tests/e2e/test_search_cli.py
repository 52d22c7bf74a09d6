"""`neuralrank search`, `recommend` and `similar`, run as a person or a script runs them."""

import json
import socket

import pytest

from neuralrank.settings import Settings
from tests.e2e.shop import INDEX, Shop, ids, in_department, open_shop


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    return open_shop(stack)


def test_search_prints_json_with_id_score_and_parts(shop: Shop) -> None:
    page = shop.json("search", INDEX, "noise cancelling headphones", "--user", "emil")
    assert page["query"] == "noise cancelling headphones"
    assert page["user"] == "emil"
    assert page["reranked"] is True
    assert page["took_ms"] > 0
    assert len(page["hits"]) == 10
    scores = [hit["score"] for hit in page["hits"]]
    assert scores == sorted(scores, reverse=True)
    first = page["hits"][0]
    assert first["id"] in {"head-sony-xm5", "head-bose-qc"}
    assert first["title"]
    assert first["brand"] in {"Sony", "Bose"}
    assert first["price"] > 0
    assert 0 <= first["parts"]["relevance"] <= 1
    assert 0 <= first["parts"]["affinity"] <= 1
    assert first["parts"]["summary"]


def test_a_query_in_one_language_finds_products_in_the_other(shop: Shop) -> None:
    # Words alone find nothing here. Not every query does: docs/decisions/006-languages-apart.md.
    assert "perfume-chanel" in ids(shop.json("search", INDEX, "perfume"))[:5]


def test_size_and_from_give_pages_that_follow_each_other(shop: Shop) -> None:
    whole = ids(shop.json("search", INDEX, "跑步鞋", "--size", "8"))
    first = ids(shop.json("search", INDEX, "跑步鞋", "--size", "4"))
    second = ids(shop.json("search", INDEX, "跑步鞋", "--size", "4", "--from", "4"))
    assert first + second == whole


def test_an_unknown_user_is_no_error(shop: Shop) -> None:
    done = shop.run("search", INDEX, "电脑", "--user", "nobody-knows", "--json")
    assert done.returncode == 0
    assert "no_user" in [note["reason"] for note in json.loads(done.stdout)["degraded"]]
    assert "no_user" in done.stderr


def test_filters_leave_out_what_they_should(shop: Shop) -> None:
    page = shop.json(
        "search", INDEX, "手机", "--min-price", "500", "--max-price", "1100", "--size", "50"
    )
    prices = [hit["price"] for hit in page["hits"] if hit["price"] is not None]
    assert prices
    assert all(500 <= price <= 1100 for price in prices)
    # They are the query's own: all that meets them is counted and nothing else.
    assert page["total"] < shop.json("search", INDEX, "手机")["total"]
    assert page["dropped_count"] == 0
    brands = {
        hit["brand"] for hit in shop.json("search", INDEX, "手机", "--filter", "brand=华为")["hits"]
    }
    assert brands == {"华为"}
    brands = {
        hit["brand"]
        for hit in shop.json("search", INDEX, "手机", "--filter", "brand!=华为")["hits"]
    }
    assert "华为" not in brands
    assert "turntable-at" in ids(shop.json("search", INDEX, "record player"))
    assert "turntable-at" not in ids(shop.json("search", INDEX, "record player", "--in-stock"))


def test_similar_items_are_of_the_same_kind_without_the_item_itself(shop: Shop) -> None:
    page = shop.json("similar", INDEX, "head-sony-xm5", "--size", "4")
    assert "head-sony-xm5" not in ids(page)
    assert ids(page)[0] == "head-bose-qc"
    assert sum(in_department(page, ("影音", "Audio"))) >= 3, ids(page)


def test_compare_prints_all_three_orders(shop: Shop) -> None:
    pages = shop.json("search", INDEX, "电脑", "--user", "A", "--compare")
    assert list(pages) == ["lexical", "with_vectors", "reranked"]
    assert [page["reranked"] for page in pages.values()] == [False, True, True]
    assert pages["reranked"]["user"] == "A"
    done = shop.run("search", INDEX, "电脑", "--user", "A", "--compare")
    assert done.returncode == 0
    for heading in ("lexical", "recall with vectors", "re-ranked for A"):
        assert heading in done.stdout


def test_a_person_gets_a_table_and_with_explain_the_reasons(shop: Shop) -> None:
    plain = shop.run("search", INDEX, "电脑", "--user", "B")
    assert plain.returncode == 0
    assert "笔记本电脑" in plain.stdout
    assert "affinity" not in plain.stdout
    explained = shop.run("search", INDEX, "电脑", "--user", "B", "--explain")
    assert "affinity" in explained.stdout
    assert "re-ranked" in explained.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("search", "no-such-index", "电脑"), 4, "neuralrank index CATALOGUE"),
        (("recommend", "no-such-index", "--user", "A"), 4, "no-such-index"),
        (("similar", INDEX, "no-such-item"), 4, "no-such-item"),
        (("search", INDEX, " "), 3, "query is empty"),
        (("search", INDEX, "电脑", "--filter", "color"), 3, "NAME=VALUE"),
        (("search", INDEX, "电脑", "--min-price", "9", "--max-price", "1"), 3, "above"),
        (("search", INDEX, "电脑", "--size", "0"), 2, "--size"),
        (("search", INDEX, "x" * 5000), 3, "characters"),
    ],
)
def test_an_error_says_what_to_do_and_has_its_exit_code(
    shop: Shop, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = shop.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_opensearch_that_is_down_is_said_with_its_address(shop: Shop) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = shop.run("search", INDEX, "电脑", NEURALRANK_OPENSEARCH_URL=url)
    assert (done.returncode, done.stdout) == (5, "")
    assert url in done.stderr

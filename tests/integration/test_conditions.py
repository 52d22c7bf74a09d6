"""What a query finds under our conditions is what the sidecar's filters would keep of all."""

from collections.abc import Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.opensearch.conditions import conditions, filtered
from opensearch_config import product_index
from tests.e2e.shop import TOO_LATE, eventually

INDEX = "conditions_test"
ALL: dict[str, Any] = {"match_all": {}}
PIPELINE = {
    "request_processors": [{"neural_recall": {"vector": False, "timeout_ms": 5_000}}],
    "response_processors": [{"neural_rank": {"bundle": "none"}}],
}
PRODUCTS: dict[str, dict[str, Any]] = {
    "plain": {
        "brand": "Nike",
        "price": 10,
        "in_stock": True,
        "color": "Red",
        "category": ["Shoes"],
    },
    "loud": {"brand": "NIKE", "price": 20.5, "in_stock": False, "category": ["Home", "shoes"]},
    "wide": {"brand": "ＮＩＫＥ", "price": [30, 5], "attributes": {"size": "５００ｍｌ"}},
    "longer": {"brand": "Nike Golf", "price": [30, 40], "in_stock": [False, True]},
    "several": {"brand": ["Adidas", "nike"], "in_stock": [False]},
    "accent": {"brand": "ÉCLAT", "attributes": {"size": "500ML", "color": ["Blue", "Red"]}},
    "sharp": {"brand": "Weiß", "color": "red", "attributes": {"color": "Rot"}},
    "sharper": {"brand": "WEISS", "attributes": {"Size": "500ml", "w (cm)": "a+b", "a.b": "1"}},
    "numbers": {"attributes": {"size": 500, "w (cm)": "aab", "a_b": 1, "new": True}},
    "bare": {},
}
FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"min_price": 10}, PRODUCTS.keys() - {"wide"}),
    ({"max_price": 20}, PRODUCTS.keys() - {"loud", "longer"}),
    ({"min_price": 20.5, "max_price": 20.5}, PRODUCTS.keys() - {"plain", "wide", "longer"}),
    ({"in_stock_only": True}, PRODUCTS.keys() - {"loud", "several"}),
]
# A rule's name and value, and whose it is.
RULES: list[tuple[str, str, set[str]]] = [
    ("brand", "nike", {"plain", "loud", "wide", "several"}),
    ("brand", "ｎｉｋｅ", {"plain", "loud", "wide", "several"}),
    ("brand", "éclat", {"accent"}),
    ("brand", "weiß", {"sharp", "sharper"}),
    ("brand", "nike golf", {"longer"}),
    ("category", "SHOES", {"plain", "loud"}),
    ("color", "red", {"plain", "accent"}),
    ("color", "rot", {"sharp"}),
    ("size", "500ml", {"wide", "accent"}),
    ("size", "500", {"numbers"}),
    ("w (cm)", "A+B", {"sharper"}),
    ("a.b", "1", {"sharper"}),
    ("new", "true", {"numbers"}),
    ("nothing", "of it", set()),
]


@pytest.fixture(scope="module")
def client(opensearch: OpenSearch) -> Iterator[OpenSearch]:
    opensearch.indices.create(index=INDEX, body=product_index())
    for name, product in PRODUCTS.items():
        body = {"title": "a thing", **product}
        opensearch.index(index=INDEX, id=name, body=body, params={"refresh": "true"})
    yield opensearch
    opensearch.indices.delete(index=INDEX)


def found(client: OpenSearch, filters: dict[str, Any]) -> set[str]:
    clauses, left = conditions(client, INDEX, filters)
    assert not left
    body = {"query": filtered(ALL, clauses), "size": 100}
    answer = client.search(index=INDEX, body=body, params={"search_pipeline": "_none"})
    return {hit["_id"] for hit in answer["hits"]["hits"]}


def kept(client: OpenSearch, filters: dict[str, Any]) -> set[str]:
    """What the sidecar keeps."""
    ext = {"neural_rank": {"filters": filters}}
    body = {"query": ALL, "size": 100, "ext": ext, "search_pipeline": PIPELINE}
    answer: dict[str, Any] = {}

    def in_time() -> bool:
        answer.update(client.search(index=INDEX, body=body))
        notes = answer["ext"]["neural_rank"]["degraded"]
        return not TOO_LATE & {note["reason"] for note in notes}

    assert eventually(in_time, 30), answer["ext"]
    assert answer["ext"]["neural_rank"]["reranked"], answer["ext"]
    return {hit["_id"] for hit in answer["hits"]["hits"]}


@pytest.mark.parametrize(("filters", "those"), FILTERS, ids=str)
def test_prices_and_stock(client: OpenSearch, filters: dict[str, Any], those: set[str]) -> None:
    assert found(client, filters) == kept(client, filters) == those


@pytest.mark.parametrize(("name", "value", "those"), RULES)
def test_rules(client: OpenSearch, name: str, value: str, those: set[str]) -> None:
    for exclude in (False, True):
        filters = {"attributes": [{"name": name, "values": [value], "exclude": exclude}]}
        wanted = PRODUCTS.keys() - those if exclude else those
        assert found(client, filters) == kept(client, filters) == wanted


def test_what_meets_conditions_is_found_behind_the_window_too(client: OpenSearch) -> None:
    rule = {"name": "brand", "values": ["weiß"], "exclude": False}
    clauses, _ = conditions(client, INDEX, {"attributes": [rule]})
    ext = {"neural_rank": {"window": 1, "user_id": "A"}}
    body = {"query": filtered(ALL, clauses), "ext": ext, "search_pipeline": PIPELINE}
    answer = client.search(index=INDEX, body=body)
    assert answer["hits"]["total"]["value"] == 2
    assert {hit["_id"] for hit in answer["hits"]["hits"]} == {"sharp", "sharper"}

"""Whatever a search shows of its hits, the ranker and the log of experiments have their fields."""

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

import opensearch_config
from neuralrank.errors import NotFound
from tests.e2e.shop import eventually

INDEX = "fields-test"
PIPELINE = "fields-test"
NAMES: dict[str, Any] = {"text_fields": ["name"], "fields": {"price": "list_price"}}
SOURCES: list[Any] = [None, ["name"], False, {"excludes": ["list_price", "sku"]}]
# As feeds write what has one value or several.
TEAPOTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dear": {"list_price": [5_000]},
    "sold out": {"in_stock": [False]},
    "of Bad": {"maker": [{"name": "Bad"}]},
    "of both": {"maker": {"name": ["Good", "Bad"]}},
    "in variants": {"list_price": [5_000, 15], "in_stock": [False, True]},
}


@pytest.fixture(scope="module")
def client(opensearch: OpenSearch) -> Iterator[OpenSearch]:
    properties = {
        "name": {"type": "text"},
        "list_price": {"type": "float"},
        "sku": {"type": "keyword"},
    }
    body = {"settings": {"number_of_replicas": 0}, "mappings": {"properties": properties}}
    opensearch.indices.delete(index=INDEX, params={"ignore_unavailable": "true"})
    opensearch.indices.create(index=INDEX, body=body)
    for number in range(1, 5):
        kettle = {"name": f"kettle {number}", "list_price": 10 * number, "sku": f"sku-{number}"}
        opensearch.index(index=INDEX, id=str(number), body=kettle, params={"refresh": "true"})
    for name, odd in TEAPOTS.items():
        teapot = {"name": "teapot", "list_price": 10, "in_stock": True, "maker": {"name": "Good"}}
        opensearch.index(index=INDEX, id=name, body=teapot | odd, params={"refresh": "true"})
    yield opensearch
    opensearch.indices.delete(index=INDEX)
    with suppress(NotFound):
        opensearch.search_pipeline.delete(id=PIPELINE)


def search(
    client: OpenSearch,
    recall: Any,
    rank: Any,
    source: Any,
    ubi: Any = None,
    text: str = "kettle",
    **options: Any,
) -> dict[str, Any]:
    pipeline = {
        "request_processors": [{"neural_recall": {"vector": False, "timeout_ms": 5_000, **recall}}],
        "response_processors": [{"neural_rank": {"bundle": "none", **rank}}],
    }
    client.search_pipeline.put(id=PIPELINE, body=pipeline)
    body: dict[str, Any] = {
        "query": {"match": {"name": text}},
        "ext": {"neural_rank": options} | ({} if ubi is None else {"ubi": ubi}),
    }
    if source is not None:
        body["_source"] = source
    answer = dict(client.search(index=INDEX, body=body, params={"search_pipeline": PIPELINE}))
    assert answer["ext"]["neural_rank"]["reranked"], answer["ext"]
    return answer


def said(answer: dict[str, Any]) -> str:
    return " | ".join(
        f"{note['reason']}: {note['detail']}" for note in answer["ext"]["neural_rank"]["degraded"]
    )


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_filters_hold_by_fields_that_neural_recall_names(client: OpenSearch, source: Any) -> None:
    answer = search(client, NAMES, {}, source, filters={"max_price": 20})
    assert {hit["_id"] for hit in answer["hits"]["hits"]} == {"1", "2"}
    assert said(answer) == ""


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"max_price": 20}, TEAPOTS.keys() - {"dear"}),
        ({"min_price": 20}, {"dear"}),
        ({"in_stock_only": True}, TEAPOTS.keys() - {"sold out"}),
        ({"exclude_brands": ["bad"]}, TEAPOTS.keys() - {"of Bad", "of both"}),
        ({"attributes": [{"name": "brand", "values": ["bad"]}]}, {"of Bad", "of both"}),
    ],
    ids=str,
)
def test_filters_hold_for_fields_that_are_arrays(
    client: OpenSearch, filters: dict[str, Any], kept: set[str]
) -> None:
    names = {"fields": {"price": "list_price", "brand": "maker.name"}}
    answer = search(client, names, {}, False, text="teapot", filters=filters)
    assert {hit["_id"] for hit in answer["hits"]["hits"]} == kept


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_fields_that_only_neural_rank_names_are_missed_aloud(
    client: OpenSearch, source: Any
) -> None:
    answer = search(client, {}, NAMES, source, filters={"max_price": 20})
    if source is None:
        assert {hit["_id"] for hit in answer["hits"]["hits"]} == {"1", "2"}
        assert said(answer) == ""
    else:
        assert "features_unavailable: not fetched, so that the ranker can't read them" in (
            said(answer)
        )
        assert "list_price; name them at neural_recall" in said(answer)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_pages_of_an_experiment_are_logged_by_the_ids_of_events(
    client: OpenSearch, source: Any
) -> None:
    if not client.indices.exists(index="ubi_queries"):
        folder = Path(opensearch_config.__file__).parent
        made = json.loads((folder / "ubi" / "ubi_queries.json").read_text(encoding="utf-8"))
        client.indices.create(index="ubi_queries", body=made)
    query_id = f"fields-test-{uuid.uuid4()}"
    experiment = {"name": "fields", "arms": {"A": {}, "B": {"weights": {"affinity": 1}}}}
    answer = search(
        client,
        {},
        {"experiment": experiment},
        source,
        {"query_id": query_id, "client_id": "phone", "object_id_field": "sku"},
    )
    shown = [f"sku-{hit['_id']}" for hit in answer["hits"]["hits"]]
    pages: list[list[str]] = []

    def logged() -> bool:
        client.indices.refresh(index="ubi_queries")
        query = {"term": {"query_id": query_id}}
        found = client.search(
            index="ubi_queries", body={"query": query}, params={"search_pipeline": "_none"}
        )
        pages[:] = [hit["_source"]["query_response_hit_ids"] for hit in found["hits"]["hits"]]
        return bool(pages)

    assert eventually(logged, 20)
    assert pages == [shown]
    if source is not None:
        for hit in answer["hits"]["hits"]:
            assert "sku" not in hit.get("_source", {})


def test_the_health_of_nodes_that_there_are_not_is_red(client: OpenSearch) -> None:
    for nodes, status in (("_local", "green"), ("nosuchnode", "red")):
        found = client.transport.perform_request("GET", f"/_plugins/_neural_rank/{nodes}/health")
        assert found["status"] == status

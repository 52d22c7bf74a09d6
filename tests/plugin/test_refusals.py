"""What a search engineer gets wrong on a real node: an answer that says so, never a lost page."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound

INDEX = "refusals-test"
PIPELINE = "refusals-test"
PRODUCTS = {"a": "red kettle", "b": "blue kettle", "c": "kettle for two"}
# A bundle that no sidecar has.
NOBODYS = "nowhere@000000000001"


@pytest.fixture(scope="module")
def client(opensearch: OpenSearch) -> Iterator[OpenSearch]:
    vector = {
        "type": "knn_vector",
        "dimension": 3,
        "method": {"name": "hnsw", "engine": "lucene", "space_type": "innerproduct"},
    }
    body = {
        "settings": {"index": {"knn": True, "number_of_replicas": 0}},
        "mappings": {
            "_meta": {"neuralrank": {"encoder": NOBODYS, "dimensions": 3}},
            "properties": {"title": {"type": "text"}, "text_vector": vector},
        },
    }
    opensearch.indices.delete(index=INDEX, params={"ignore_unavailable": "true"})
    opensearch.indices.create(index=INDEX, body=body)
    for name, title in PRODUCTS.items():
        document = {"title": title, "text_vector": [1, 0, 0]}
        opensearch.index(index=INDEX, id=name, body=document, params={"refresh": "true"})
    yield opensearch
    opensearch.indices.delete(index=INDEX)
    with suppress(NotFound):
        opensearch.search_pipeline.delete(id=PIPELINE)


def search(client: OpenSearch, options: Any = None) -> dict[str, Any]:
    body = {
        "query": {"match": {"title": "kettle"}},
        "_source": ["title"],
        "ext": {"neural_rank": {} if options is None else options},
    }
    return dict(client.search(index=INDEX, body=body, params={"search_pipeline": PIPELINE}))


def notes(answer: dict[str, Any]) -> str:
    found = answer["ext"]["neural_rank"].get("degraded", [])
    return " | ".join(f"{note['reason']}: {note.get('detail', '')}" for note in found)


def put(client: OpenSearch, recall: dict[str, Any], rank: dict[str, Any]) -> None:
    body = {
        "request_processors": [{"neural_recall": {"timeout_ms": 5_000, **recall}}],
        "response_processors": [{"neural_rank": {"bundle": "none", **rank}}],
    }
    client.search_pipeline.put(id=PIPELINE, body=body)


def test_a_pipeline_on_an_index_without_the_fields_it_names_keeps_the_page(
    client: OpenSearch,
) -> None:
    recall = {"vector_field": "nowhere", "text_fields": ["nope"], "fields": {"brand": "no.brand"}}
    put(client, recall, {})
    answer = search(client)
    assert {hit["_id"] for hit in answer["hits"]["hits"]} == PRODUCTS.keys()
    assert "not_applicable: no vector leg: no index of this search has a knn_vector field " in (
        notes(answer)
    )
    assert "[nowhere]" in notes(answer)


def test_an_index_of_an_encoder_that_the_sidecar_lacks_keeps_the_page_and_is_named(
    client: OpenSearch,
) -> None:
    put(client, {}, {})
    answer = search(client)
    assert {hit["_id"] for hit in answer["hits"]["hits"]} == PRODUCTS.keys()
    said = notes(answer)
    assert "encoder_mismatch" in said
    assert f"holds vectors of {NOBODYS}" in said
    # What there is, and what to do.
    assert "multilingual-e5-small@" in said.partition("Served: ")[2]
    assert "neuralrank models" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"usr": "A"}, "unknown key [usr]; allowed are [bundle, collaborative, deadline_ms,"),
        (
            {"weights": {"relevence": 1}},
            "[relevence]; allowed are [affinity, cross_encoder, diversity, relevance, retrieval",
        ),
        ({"filters": {"price": 1}}, "unknown key [price]; allowed are [attributes, exclude_brands"),
        ({"window": "wide"}, "window is [wide] (string); allowed is an integer from 1 to 10000"),
        ({"user_id": ["A"]}, "user_id is [[A]] (list); allowed is a string"),
        ({"explain": 1}, "explain is [1] (number); allowed is true or false"),
        ({"fusion": "sum"}, "fusion is [sum] (string); allowed is one of [weights, rrf]"),
        ({"ef_search": 0}, "ef_search is [0] (number); allowed is an integer from 1 to 10000"),
        ({"weights": {"affinity": -1}}, "weights.affinity is [-1] (number); allowed is a number"),
        ({"weights": {"relevance": 0, "affinity": 0, "retrieval": 0}}, "weights are all zero"),
        (5, "ext.neural_rank is [VALUE_NUMBER]; allowed is an object"),
    ],
)
def test_a_request_that_asks_for_what_there_is_not_is_400_with_what_is_allowed(
    client: OpenSearch, options: Any, words: str
) -> None:
    put(client, {}, {})
    with pytest.raises(InvalidInput) as refused:
        search(client, options)
    assert "(400)" in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("recall", "rank", "words"),
    [
        ({}, {"weights": {"retrieval": -0.1}}, "neural_rank.weights.retrieval is [-0.1]"),
        ({}, {"weights": {"relevance": 0, "affinity": 0, "retrieval": 0}}, "are all zero"),
        ({}, {"fusion": "max"}, "allowed is one of [weights, rrf]"),
        ({"windw": 5}, {}, "neural_recall has an unknown key [windw]; allowed are [collaborative,"),
    ],
)
def test_a_pipeline_that_can_not_work_is_refused_when_it_is_made(
    client: OpenSearch, recall: dict[str, Any], rank: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        put(client, recall, rank)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("rank", "options", "words"),
    [
        (
            {"weights": {"relevance": 0, "retrieval": 0}},
            {"weights": {"affinity": 0}},
            "weights are all zero: the pipeline's neural_rank.weights.relevance, ext.neural_rank.",
        ),
        (
            {"filters": {"min_price": 10, "in_stock_only": True}},
            {"filters": {"max_price": 5}},
            "the pipeline's neural_rank.filters.min_price is [10.0], above ext.neural_rank.",
        ),
        (
            {"experiment": {"name": "x", "arms": {"A": {}, "B": {"fusion": "rrf"}}}},
            {"fusion": "rrf"},
            "arms A and B are the same once what they leave out is filled in: ext.neural_rank.fus",
        ),
    ],
)
def test_what_request_and_pipeline_can_not_say_together_is_400_with_where_it_is_from(
    client: OpenSearch, rank: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    put(client, {}, rank)
    with pytest.raises(InvalidInput) as refused:
        search(client, options)
    assert "(400)" in str(refused.value)
    assert words in str(refused.value)


def test_parts_count_by_place_where_that_is_asked(client: OpenSearch) -> None:
    put(client, {}, {})
    answer = search(client, {"fusion": "rrf", "explain": True})
    possible = {round(61 / (60 + place), 4) for place in range(1, 5)}
    results = answer["ext"]["neural_rank"]["results"]
    assert len(results) == len(PRODUCTS)
    for result in results:
        assert round(result["retrieval"], 4) in possible

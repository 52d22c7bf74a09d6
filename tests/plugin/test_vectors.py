"""Vectors that documents hold packed only are searched for as if their numbers stood there."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput
from neuralrank.opensearch.packing import PACKED, VECTOR, pack
from neuralrank.opensearch.vectors import are_indexed_packed
from neuralrank.settings import Settings
from opensearch_config import product_index

NAME, COPY = "plugin-vectors", "plugin-vectors-copy"
WIDTH = 4


@pytest.fixture
def shop(opensearch: OpenSearch) -> Iterator[OpenSearch]:
    """An index for vectors of four numbers, and another one like it."""
    body = product_index("tiny@0123456789ab", WIDTH)
    body["mappings"]["properties"][VECTOR]["method"]["space_type"] = "l2"
    assert are_indexed_packed(opensearch, body)
    names = f"{NAME},{COPY}"
    opensearch.indices.delete(index=names, params={"ignore_unavailable": "true"})
    for name in (NAME, COPY):
        opensearch.indices.create(index=name, body=body)
    yield opensearch
    opensearch.indices.delete(index=names)


def vector(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def put(client: OpenSearch, name: str, **fields: Any) -> None:
    document = {"title": name, **fields}
    client.index(index=NAME, id=name, body=document, params={"refresh": "true"})


def nearest(client: OpenSearch, index: str, *numbers: float) -> list[str]:
    """By distance: of k = 1, so that what has no vector or another one is not among them."""
    query = {"knn": {VECTOR: {"vector": list(numbers), "k": 1}}}
    answer = client.search(index=index, body={"query": query, "size": 1})
    return [
        hit["_id"] for hit in answer["hits"]["hits"] if hit["_score"] == pytest.approx(1, abs=1e-5)
    ]


def with_vector(client: OpenSearch, index: str) -> set[str]:
    body = {"query": {"exists": {"field": VECTOR}}, "_source": False}
    return {hit["_id"] for hit in client.search(index=index, body=body)["hits"]["hits"]}


def test_a_packed_vector_is_searched_for(shop: OpenSearch) -> None:
    put(shop, "packed", **{PACKED: pack(vector(1, 0, 0, 0))})
    put(shop, "none")
    put(shop, "null", **{PACKED: None})
    # What is searched for is the numbers, where they are there.
    put(shop, "both", **{PACKED: pack(vector(0, 1, 0, 0)), VECTOR: [0, 0, 1, 0]})
    assert with_vector(shop, NAME) == {"packed", "both"}
    assert nearest(shop, NAME, 1, 0, 0, 0) == ["packed"]
    assert nearest(shop, NAME, 0, 0, 1, 0) == ["both"]
    assert nearest(shop, NAME, 0, 1, 0, 0) == []
    source = shop.get(index=NAME, id="packed")["_source"]
    assert set(source) == {"title", PACKED}


def test_a_document_may_come_in_any_form(stack: Settings, shop: OpenSearch) -> None:
    text = pack(vector(1, 0, 0, 0))
    for name, kind, body in (
        ("yaml", "application/yaml", f"---\ntitle: y\nmore: {{{PACKED}: x}}\n{PACKED}: {text}\n"),
        ("last", "application/json", json.dumps({"more": [{PACKED: 1}], PACKED: text})),
    ):
        made = urllib.request.Request(
            f"{stack.opensearch_url}/{NAME}/_doc/{name}?refresh=true",
            method="PUT",
            data=body.encode(),
            headers={"content-type": kind},
        )
        with urllib.request.urlopen(made, timeout=30) as answer:
            assert answer.status == 201
    assert with_vector(shop, NAME) == {"yaml", "last"}


def test_copies_and_changes_of_a_document_keep_its_vector(shop: OpenSearch) -> None:
    put(shop, "a", price=5.0, **{PACKED: pack(vector(1, 0, 0, 0))})
    shop.update(index=NAME, id="a", body={"doc": {"price": 4.0}}, params={"refresh": "true"})
    assert nearest(shop, NAME, 1, 0, 0, 0) == ["a"]
    lines = [{"update": {"_index": NAME, "_id": "a"}}, {"doc": {"price": 3.0}}]
    assert not shop.bulk(body=lines, params={"refresh": "true"})["errors"]
    assert nearest(shop, NAME, 1, 0, 0, 0) == ["a"]
    script = {"script": {"source": "ctx._source.price = 2.0"}}
    shop.update_by_query(index=NAME, body=script, params={"refresh": "true"})
    assert nearest(shop, NAME, 1, 0, 0, 0) == ["a"]
    shop.reindex(
        body={"source": {"index": NAME}, "dest": {"index": COPY}}, params={"refresh": "true"}
    )
    assert nearest(shop, COPY, 1, 0, 0, 0) == ["a"]
    assert shop.get(index=COPY, id="a")["_source"]["price"] == 2.0
    # Another vector in its place, and none.
    changed = {"doc": {PACKED: pack(vector(0, 1, 0, 0))}}
    shop.update(index=NAME, id="a", body=changed, params={"refresh": "true"})
    assert nearest(shop, NAME, 0, 1, 0, 0) == ["a"]
    shop.update(index=NAME, id="a", body={"doc": {PACKED: None}}, params={"refresh": "true"})
    assert with_vector(shop, NAME) == set()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no base64", f"[{PACKED}] is not base64"),
        ("AAAAAAA=", f"[{PACKED}] has 5 bytes"),
        ("", f"[{PACKED}] has 0 bytes"),
        # In k-NN's own words.
        (pack(vector(1, 0)), "dimension mismatch"),
        (pack(vector(1, 0, 0, 0, 1, 1)), "dimension mismatch"),
        (pack(vector(np.nan, 0, 0, 0)), "NaN"),
    ],
)
def test_what_is_no_vector_is_refused(shop: OpenSearch, value: str, says: str) -> None:
    with pytest.raises(InvalidInput, match="400") as refused:
        put(shop, "wrong", **{PACKED: value})
    assert says in str(refused.value)
    # Beside numbers nothing reads it here.
    put(shop, "wrong", **{PACKED: value, VECTOR: [1, 0, 0, 0]})
    assert nearest(shop, NAME, 1, 0, 0, 0) == ["wrong"]


def test_a_mapping_that_names_no_packed_field_is_left_alone(opensearch: OpenSearch) -> None:
    body = product_index("tiny@0123456789ab", WIDTH)
    del body["mappings"]["_meta"]
    opensearch.indices.delete(index=NAME, params={"ignore_unavailable": "true"})
    opensearch.indices.create(index=NAME, body=body)
    try:
        assert not are_indexed_packed(opensearch, body)
        put(opensearch, "a", **{PACKED: pack(vector(1, 0, 0, 0))})
        assert with_vector(opensearch, NAME) == set()
        # From when it does, documents that come have their vector.
        noted = {"_meta": {"neuralrank": {"packed_vectors": {VECTOR: PACKED, "gone": "x"}}}}
        opensearch.indices.put_mapping(index=NAME, body=noted)
        put(opensearch, "b", **{PACKED: pack(vector(1, 0, 0, 0))})
        assert with_vector(opensearch, NAME) == {"b"}
    finally:
        opensearch.indices.delete(index=NAME)


def test_no_mapping_shows_that_it_is_looked_at(opensearch: OpenSearch) -> None:
    """An index must open where the plugin is not."""
    opensearch.indices.delete(index=NAME, params={"ignore_unavailable": "true"})
    put(opensearch, "a")
    try:
        (live,) = opensearch.indices.get(index=NAME).values()
        assert set(live["mappings"]) == {"properties"}
    finally:
        opensearch.indices.delete(index=NAME)

"""The body of an index that follows a live one."""

from typing import Any

import pytest

from neuralrank.opensearch.packing import PACKED, VECTOR
from opensearch_config import product_index, with_encoder
from opensearch_config.live import chosen_settings, over_live

SETTINGS = {
    "uuid": "x",
    "creation_date": "1",
    "number_of_shards": "3",
    "blocks": {"write": "true"},
    "search": {"default_pipeline": "mine"},
    "analysis": {"filter": {"mine": {"type": "stop", "stopwords": ["a"]}}},
}


def live(**properties: Any) -> dict[str, Any]:
    notes = {"encoder": "old@000000000000", "dimensions": 3, "state": "complete", "mine": 1}
    mappings = {"dynamic": "false", "_meta": {"neuralrank": notes}, "properties": properties}
    return {"mappings": mappings, "settings": {"index": SETTINGS}}


def test_only_vectors_and_what_belongs_to_one_index_change() -> None:
    method = {"name": "hnsw", "engine": "lucene", "parameters": {"m": 99}}
    vector = {"type": "knn_vector", "dimension": 3, "method": method}
    body = with_encoder(live(title={"type": "text"}, **{VECTOR: vector}), "new@111111111111", 7)
    fields = body["mappings"]["properties"]
    assert fields["title"] == {"type": "text"}
    assert fields[VECTOR] == {"type": "knn_vector", "dimension": 7, "method": method}
    assert fields[PACKED] == {"type": "binary"}
    notes = body["mappings"]["_meta"]["neuralrank"]
    assert (notes["encoder"], notes["dimensions"], notes["mine"]) == ("new@111111111111", 7, 1)
    assert notes["packed_vectors"] == {VECTOR: PACKED}
    assert "state" not in notes
    assert body["settings"] == {
        "index": {
            "number_of_shards": 3,
            "search": {"default_pipeline": "mine"},
            "knn": True,
            "knn.derived_source": {"enabled": False},
        },
        "analysis": SETTINGS["analysis"],
    }


def test_an_index_without_vectors_gets_the_fields_of_the_files() -> None:
    fields = with_encoder(live(title={"type": "text"}), "new@111111111111", 7)["mappings"][
        "properties"
    ]
    ours = product_index("new@111111111111", 7)["mappings"]["properties"]
    assert fields[VECTOR] == ours[VECTOR]
    assert fields[VECTOR]["dimension"] == 7


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"auto_expand_replicas": "0-1"}, {"number_of_replicas": 2}),
        ({"number_of_replicas": "2"}, {"auto_expand_replicas": "0-1"}),
    ],
)
def test_replicas_of_the_files_replace_those_that_were_said_in_the_other_way(
    theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    found = {"mappings": {}, "settings": {"index": {"refresh_interval": "9s", **theirs}}}
    body = over_live(found, {"mappings": {}, "settings": {"index": ours}})
    assert body["settings"] == {"index": {"refresh_interval": "9s", **ours}}


def test_what_k_nn_sets_by_itself_was_not_chosen_and_the_opposite_was() -> None:
    def kept(enabled: str) -> object:
        derived = {"knn.derived_source": {"enabled": enabled}}
        return chosen_settings(derived)["index"].get("knn.derived_source")

    assert kept("true") is None
    assert kept("false") == {"enabled": False}

"""A cluster's answers as files, without a cluster."""

import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound
from opensearch_config import export, product_index

INDEX = {
    "mappings": {
        "dynamic": "false",
        "_meta": {"neuralrank": {"schema_version": 1, "encoder": "e5@1", "state": "complete"}},
        "properties": {"title": {"type": "text"}},
    },
    "settings": {
        "index": {
            "uuid": "u",
            "provided_name": "shop-1",
            "number_of_shards": "1",
            "number_of_replicas": "0",
            "auto_expand_replicas": "0-1",
            "knn": "true",
            "search": {"default_pipeline": "theirs"},
            "analysis": {"filter": {"stop": {"type": "stop", "ignore_case": "true"}}},
        }
    },
}
PIPELINES: dict[str, Any] = {
    "ours": {"response_processors": [{"neural_rank": {}}]},
    "theirs": {"request_processors": [{"filter_query": {}}]},
    "another": {"request_processors": [{"filter_query": {}}]},
}


class Cluster:
    """Answers as OpenSearch does."""

    def __init__(self, *indexes: str) -> None:
        self._indexes = indexes
        self.indices = self.search_pipeline = self

    def get(self, index: str = "") -> dict[str, Any]:
        if not index:
            return PIPELINES
        if not self._indexes:
            raise NotFound("no such index.")
        return {name: json.loads(json.dumps(INDEX)) for name in self._indexes}

    def exists(self, index: str) -> bool:
        return index == "ubi_events"


def run(folder: Path, *indexes: str, overwrite: bool = False) -> dict[str, Any]:
    cluster = cast(OpenSearch, Cluster(*indexes))
    paths = export(cluster, "shop", folder, overwrite=overwrite)
    return {str(path.relative_to(folder)): json.loads(path.read_text("utf-8")) for path in paths}


def test_what_was_chosen_is_written_and_what_an_index_has_by_existing_is_not(
    tmp_path: Path,
) -> None:
    written = run(tmp_path / "new", "shop-1")
    assert list(written) == [
        "mappings/product.json",
        "pipelines/ours.json",
        "pipelines/theirs.json",
        "queries/product.json",
        "settings/product.json",
        "ubi/ubi_events.json",
    ]
    assert written["settings/product.json"] == {
        "index": {
            "number_of_shards": 1,
            "auto_expand_replicas": "0-1",
            "knn": True,
            "search": {"default_pipeline": "theirs"},
        },
        "analysis": {"filter": {"stop": {"type": "stop", "ignore_case": True}}},
    }
    mappings = written["mappings/product.json"]
    assert (mappings["dynamic"], mappings["_meta"]) == (
        "false",
        {"neuralrank": {"schema_version": 1}},
    )
    assert mappings["properties"]["title"] == {"type": "text"}
    assert "{{query}}" in json.dumps(written["queries/product.json"])


@pytest.mark.parametrize("knn", [True, False])
def test_vectors_that_the_index_has_not_can_be_indexed_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knn: bool
) -> None:
    live = json.loads(json.dumps(INDEX))
    if knn:
        own = {"type": "knn_vector", "dimension": 8, "space_type": "l2"}
        live["mappings"]["properties"]["text_vector"] = own
    else:
        del live["settings"]["index"]["knn"]
    monkeypatch.setattr(sys.modules[__name__], "INDEX", live)
    written = run(tmp_path, "shop-1")
    body = product_index("e5@1", 3, tmp_path, image_encoder="photos@1", image_dimensions=5)
    fields = body["mappings"]["properties"]
    assert (fields["text_vector"]["dimension"], fields["image_vector"]["dimension"]) == (3, 5)
    assert fields["image_vector_packed"] == {"type": "binary"}
    assert body["settings"]["index"]["knn"]
    assert ("text_vector_packed" in written["mappings/product.json"]["properties"]) != knn
    assert fields["text_vector"].get("space_type") == ("l2" if knn else None)
    bare = product_index(folder=tmp_path)
    assert list(bare["mappings"]["properties"]) == ["title"]
    assert "knn" not in bare["settings"]["index"]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    run(tmp_path, "shop-1")
    kept = tmp_path / "settings" / "product.json"
    kept.write_text("{}")
    with pytest.raises(InvalidInput, match=r"settings/product\.json.*--overwrite"):
        run(tmp_path, "shop-1")
    assert kept.read_text() == "{}"
    run(tmp_path, "shop-1", overwrite=True)
    assert "analysis" in kept.read_text()


def test_a_name_that_stands_for_none_or_several_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no index 'shop'"):
        run(tmp_path)
    with pytest.raises(InvalidInput, match=r"2 indexes \(shop-1, shop-2\)"):
        run(tmp_path, "shop-1", "shop-2")
    assert list(tmp_path.iterdir()) == []

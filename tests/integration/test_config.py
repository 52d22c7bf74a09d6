"""Files against a real cluster. Names are the test's own, so that the stack stays as it was."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from indexer import Catalogue, index_catalogue
from neuralrank import errors, ubi
from neuralrank.cli.commands import app
from neuralrank.settings import Settings
from neuralrank.ubi.rows import during, read_rows
from opensearch_config import FOLDER, apply, diff, product_index


@pytest.fixture
def mark() -> str:
    return f"config{uuid4().hex[:8]}"


@pytest.fixture
def folder(client: OpenSearch, tmp_path: Path, mark: str) -> Iterator[Path]:
    """A copy of the files in which pipelines and UBI indexes have names of their own."""
    for name in ("mappings", "settings", "queries"):
        shutil.copytree(FOLDER / name, tmp_path / name)
    for name in ("pipelines", "ubi"):
        (tmp_path / name).mkdir()
        for path in (FOLDER / name).glob("*.json"):
            shutil.copy(path, tmp_path / name / f"{mark}_{path.name}")
    yield tmp_path
    for path in (tmp_path / "pipelines").glob("*.json"):
        try:
            client.search_pipeline.delete(id=path.stem)
        except errors.NotFound:
            continue
    client.indices.delete(index=f"{mark}*")
    apply(client)


def edit(path: Path, change: Any) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def mine(changes: list[Any], mark: str) -> list[tuple[str, str, str]]:
    return [
        (c.action, c.kind, c.name)
        for c in changes
        if mark in c.name or c.kind == "component template"
    ]


def test_apply_makes_what_diff_shows_and_then_nothing(
    client: OpenSearch, folder: Path, mark: str
) -> None:
    apply(client)
    shown = mine(diff(client, folder), mark)
    assert shown == [
        ("create", "search pipeline", f"{mark}_neural_rank"),
        ("create", "search pipeline", f"{mark}_neural_rank_only"),
        ("create", "index", f"{mark}_ubi_events"),
        ("create", "index", f"{mark}_ubi_queries"),
    ]
    assert mine(apply(client, folder), mark) == shown
    assert mine(diff(client, folder), mark) == []
    assert mine(apply(client, folder), mark) == []
    assert client.search_pipeline.get(id=f"{mark}_neural_rank")


def test_an_edit_is_shown_in_words_and_applied(client: OpenSearch, folder: Path, mark: str) -> None:
    apply(client, folder)
    pipeline = folder / "pipelines" / f"{mark}_neural_rank.json"
    edit(pipeline, lambda v: v["request_processors"][0]["neural_recall"].update(k=50))
    events = folder / "ubi" / f"{mark}_ubi_events.json"
    edit(events, lambda v: v["mappings"]["properties"].update(shop={"type": "keyword"}))
    edit(folder / "settings" / "product.json", lambda v: v["index"].update(refresh_interval="5s"))
    changes = {c.name: c for c in diff(client, folder) if c.action == "update"}
    assert changes[f"{mark}_neural_rank"].details == (
        "request_processors[0].neural_recall.k is 100, the file says 50",
    )
    assert "shop" in changes[f"{mark}_ubi_events"].details[0]
    assert changes["neuralrank_product"].details == (
        "settings.refresh_interval is 1s, the file says 5s",
    )
    apply(client, folder)
    assert mine(diff(client, folder), mark) == []


def test_a_product_index_of_other_analyzers_is_to_be_made_anew(
    client: OpenSearch, folder: Path, mark: str, tmp_path: Path
) -> None:
    catalogue = tmp_path / "a.jsonl"
    catalogue.write_text('{"id": 1, "title": "kettle"}\n')
    rejects = tmp_path / "rejects"
    summary = index_catalogue(client, Catalogue(catalogue), mark, product_index(), None, rejects)
    assert mine([c for c in diff(client, folder) if c.action == "reindex"], mark) == []

    def other_words(settings: Any) -> None:
        settings["analysis"]["filter"]["english_stemmer"]["language"] = "light_english"

    edit(folder / "settings" / "product.json", other_words)
    for changes in (diff(client, folder), apply(client, folder)):
        (change,) = (c for c in changes if c.action == "reindex" and mark in c.name)
        assert change.name == summary.index
        assert change.details == (
            "analysis.filter.english_stemmer.language is english, the file says light_english: "
            "needs a reindex",
        )


def test_a_file_that_opensearch_does_not_accept_is_named(
    client: OpenSearch, folder: Path, mark: str
) -> None:
    pipeline = folder / "pipelines" / f"{mark}_neural_rank.json"
    edit(pipeline, lambda v: v["response_processors"].append({"no_such_processor": {}}))
    with pytest.raises(errors.InvalidInput, match=rf"{mark}_neural_rank.*no_such_processor"):
        apply(client, folder)


# As OpenSearch's own UBI plugin makes its indexes (in part). It has no `user_id`: OpenSearch maps
# it as it likes when the first event has one.
THEIR_EVENTS = {
    "properties": {
        "action_name": {"type": "keyword", "ignore_above": 100},
        "client_id": {"type": "keyword", "ignore_above": 100},
        "user_id": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "user_query": {"type": "keyword"},
        "timestamp": {
            "type": "date",
            "format": "strict_date_time",
            "ignore_malformed": True,
            "doc_values": True,
        },
        "event_attributes": {
            "dynamic": True,
            "properties": {
                "position": {"properties": {"ordinal": {"type": "integer"}}},
                "object": {
                    "properties": {
                        "object_id": {"type": "keyword", "ignore_above": 256},
                        "object_detail": {"type": "object"},
                    }
                },
            },
        },
    }
}
THEIR_QUERIES = {
    "dynamic": False,
    "properties": {
        "timestamp": {"type": "date", "format": "strict_date_time"},
        "query_id": {"type": "keyword", "ignore_above": 100},
        "query": {"type": "text"},
        "user_query": {"type": "keyword"},
        "query_attributes": {"type": "flat_object"},
    },
}


def test_indexes_of_the_ubi_plugin_get_what_they_lack_and_stay_as_they_are(
    client: OpenSearch, folder: Path, mark: str
) -> None:
    events, queries = f"{mark}_ubi_events", f"{mark}_ubi_queries"
    client.indices.create(index=events, body={"mappings": THEIR_EVENTS})
    client.indices.create(index=queries, body={"mappings": THEIR_QUERIES})
    conflict = ("conflict", "index", events)
    found = mine(apply(client, folder), mark)
    assert [change for change in found if "index" in change] == [
        ("update", "index", events),
        conflict,
        ("update", "index", queries),
    ]
    (left,) = (change for change in diff(client, folder) if mark in change.name)
    assert left.details == (
        "user_id is text, the file says keyword: only a new index can have it so",
    )
    mapping = client.indices.get_mapping(index=f"{mark}_ubi*")
    fields = mapping[events]["mappings"]["properties"]
    assert fields["user_id"]["type"] == "text"
    assert fields["timestamp"]["format"] == "strict_date_time"
    assert fields["session_id"] == {"type": "keyword", "ignore_above": 100}
    item = fields["event_attributes"]["properties"]["object"]["properties"]
    assert item["object_id"] == {"type": "keyword", "ignore_above": 512}
    assert item["object_detail"] == {"type": "object"}
    assert mapping[queries]["mappings"]["properties"]["user_id"]["type"] == "keyword"
    # What neuralrank writes has times that they read.
    whole_second = ubi.Query.from_row({"query_id": "q", "timestamp": "2026-01-02T03:04:05Z"})
    for document in (whole_second, ubi.Query(query_id="q")):
        client.index(index=queries, body=document.document())
    client.indices.refresh(index=queries)
    # And is found there by days and by date math.
    for since, until, count in (("2026-01-02", "2026-01-02", 1), ("now-1h", "", 1)):
        assert len(list(read_rows(client, queries, during(since, until), ["query_id"]))) == count


def test_a_conflict_is_nothing_to_do(
    stack: Settings, client: OpenSearch, folder: Path, mark: str
) -> None:
    client.indices.create(index=f"{mark}_ubi_events", body={"mappings": THEIR_EVENTS})
    environment = {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url, "COLUMNS": "200"}

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(
            app, ["config", *arguments, "--folder", str(folder)], env=environment
        )

    done = run("apply", "--yes", "--no-reindex")
    assert done.exit_code == 0, done.output
    again = run("apply", "--no-reindex")
    assert again.exit_code == 0
    assert f"conflict index {mark}_ubi_events" in again.stdout


def test_faiss_is_refused_before_it_ends_the_node(client: OpenSearch, folder: Path) -> None:
    def faiss(mapping: Any) -> None:
        mapping["properties"]["text_vector"]["method"]["engine"] = "faiss"

    edit(folder / "mappings" / "product.json", faiss)
    with pytest.raises(errors.Unsupported, match="native library"):
        apply(client, folder)
    assert client.ping()


def test_the_commands(stack: Settings, client: OpenSearch) -> None:
    environment = {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url, "COLUMNS": "200"}

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["config", *arguments], env=environment)

    # Other tests' product indexes are theirs.
    assert run("apply", "--yes", "--no-reindex").exit_code == 0
    client.search_pipeline.delete(id="neural_rank_only")
    found = run("diff", "--json", "--check")
    assert found.exit_code == 10
    assert {"create", "search pipeline", "neural_rank_only"} <= {
        word for change in json.loads(found.stdout)["changes"] for word in list(change.values())[:3]
    }
    assert run("diff").exit_code == 0
    planned = run("apply", "--no-reindex")
    assert planned.exit_code == 10
    assert "create   search pipeline neural_rank_only" in planned.stdout
    assert "neural_rank_only" not in client.search_pipeline.get()
    done = run("apply", "--yes", "--no-reindex")
    assert done.exit_code == 0
    assert "create" in done.stdout
    assert "neural_rank_only" in done.stdout
    assert client.search_pipeline.get(id="neural_rank_only")

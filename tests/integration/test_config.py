"""Files against a real cluster. Names are the test's own, so that the stack stays as it was."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from indexer import Catalogue, index_catalogue
from neuralrank import errors
from neuralrank.cli.commands import app
from neuralrank.opensearch import connect
from neuralrank.settings import Settings
from opensearch_config import FOLDER, apply, diff, product_index


@pytest.fixture
def client(stack: Settings) -> Iterator[OpenSearch]:
    with closing(connect(stack)) as opened:
        yield opened


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

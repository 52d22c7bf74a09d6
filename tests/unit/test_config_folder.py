"""One setting says which files of OpenSearch's side all commands use."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from neuralrank.cli import evaluate, judge, search
from neuralrank.cli.commands import app
from neuralrank.cli.config_folder import config_folder
from neuralrank.client import Client
from neuralrank.errors import NotFound
from neuralrank.opensearch.page import Page
from opensearch_config import FOLDER
from tests.conftest import neuralrank

PRODUCTS = FOLDER.parent / "examples" / "catalogue" / "products.jsonl"
OWN = {"match": {"nickname": "{{query}}"}}


class Asked(Exception):
    """Ends a command where what it was to send is known."""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a query and a field of its own, named in the environment."""
    for name in ("mappings", "settings", "queries", "ubi", "pipelines"):
        shutil.copytree(FOLDER / name, tmp_path / name)
    (tmp_path / "queries" / "product.json").write_text(json.dumps(OWN))
    mappings = json.loads((tmp_path / "mappings" / "product.json").read_text())
    mappings["properties"]["nickname"] = {"type": "text"}
    (tmp_path / "mappings" / "product.json").write_text(json.dumps(mappings))
    monkeypatch.setenv("NEURALRANK_CONFIG_FOLDER", str(tmp_path))
    return tmp_path


def test_a_flag_comes_before_the_variable_and_both_before_what_is_shipped(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_folder() == own
    assert config_folder(own / "ubi") == own / "ubi"
    monkeypatch.delenv("NEURALRANK_CONFIG_FOLDER")
    assert config_folder() == FOLDER


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALRANK_CONFIG_FOLDER", "/nowhere")
    with pytest.raises(NotFound, match=r"NEURALRANK_CONFIG_FOLDER is '/nowhere'.*unset it"):
        config_folder()
    with pytest.raises(NotFound, match=r"^--folder is '/elsewhere'.*config export"):
        config_folder(Path("/elsewhere"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["config", "diff", "--folder", "/nowhere"], "--folder is '/nowhere'"),
        (["look", "shop", "/nowhere.jpg"], "There is no file /nowhere.jpg"),
        (
            ["index", str(PRODUCTS), "--index", "shop", "--image-folder", "/nowhere"],
            "--image-folder is '/nowhere'",
        ),
        (["index", "/nowhere.jsonl", "--index", "shop"], "There is no file /nowhere.jsonl"),
    ],
)
def test_a_file_or_folder_that_is_not_there_ends_a_command_as_all_that_is_not_there(
    arguments: list[str], says: str
) -> None:
    done = neuralrank(*arguments)
    assert done.returncode == 4  # as docs/commands.md says; 2 is wrong use
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"neuralrank: {says}")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The queries that commands ask."""
    queries: list[Any] = []

    def ask(_client: OpenSearch, _index: str, query: Any, *_: Any, **__: Any) -> Page:
        queries.append(query)
        raise Asked

    for module in (search, evaluate, judge):
        monkeypatch.setattr(module, "ask", ask)
    return queries


@pytest.mark.usefixtures("own")
def test_searching_and_measuring_ask_the_query_of_the_folder(sent: list[Any]) -> None:
    assert isinstance(CliRunner().invoke(app, ["search", "shop", "mouse"]).exception, Asked)
    client, ranker = cast(OpenSearch, None), cast(Client, None)
    for name in ("lexical", "hybrid"):
        with pytest.raises(Asked):
            evaluate._searches(client, ranker, "shop", None)[name]("mouse")
    with pytest.raises(Asked):
        judge._pool(client, "shop", "1", "mouse", ["_none"], 10)
    assert sent == [{"match": {"nickname": "mouse"}}] * 4


@pytest.mark.usefixtures("own")
def test_an_index_gets_the_fields_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config apply` had brought them, and the nightly `neuralrank index` took them back."""
    made: list[Any] = []

    def stop(_client: OpenSearch, mappings: Any) -> None:
        made.append(mappings["properties"])
        raise Asked

    monkeypatch.setattr("opensearch_config.require_engine", stop)
    monkeypatch.setattr(OpenSearch, "info", lambda _: {})
    catalogue = tmp_path / "a.jsonl"
    catalogue.write_text('{"id": 1, "title": "kettle"}\n')
    ended = CliRunner().invoke(app, ["index", str(catalogue), "-i", "shop", "--no-vectors"])
    assert isinstance(ended.exception, Asked)
    assert "nickname" in made[0]

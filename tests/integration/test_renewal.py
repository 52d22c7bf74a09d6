"""Product indexes made anew behind their alias, on a real node, while they are searched."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from indexer import Catalogue, index_catalogue
from neuralrank import errors
from neuralrank.cli.commands import app
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.generation import create
from neuralrank.opensearch.succession import read_only
from neuralrank.settings import Settings
from opensearch_config import FOLDER, Change, apply, diff, lexical_query, product_index, renew

PRODUCTS = [
    {"id": 1, "title": "laptop 14 inch", "attributes": {"colour": "red"}},
    {"id": 2, "title": "笔记本电脑"},
    {"id": 3, "title": "kettles"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the files, to edit."""
    for name in ("mappings", "settings", "queries", "pipelines", "ubi"):
        shutil.copytree(FOLDER / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def shop(client: OpenSearch, tmp_path: Path) -> Iterator[str]:
    """An alias with three products."""
    name = f"renewal{uuid4().hex[:8]}"
    catalogue = tmp_path / "a.jsonl"
    catalogue.write_text("\n".join(map(json.dumps, PRODUCTS)), "utf-8")
    rejects = tmp_path / "rejects"
    index_catalogue(client, Catalogue(catalogue), name, product_index(), None, rejects)
    yield name
    client.indices.delete(index=f"{name}*")


def edit(path: Path, change: Any) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def with_synonyms(folder: Path, *rules: str) -> None:
    """As docs/search-engineer.md has it."""

    def settings(value: Any) -> None:
        for name, analyzer in (("synonyms", "english"), ("synonyms_zh", "cjk")):
            value["analysis"]["filter"][name] = {
                "type": "synonym_graph",
                "synonyms_path": "synonyms.txt",
                "synonym_analyzer": analyzer,
            }
        filters = value["analysis"]["analyzer"]["product_text"]["filter"]
        value["analysis"]["analyzer"]["product_query"] = {
            "tokenizer": "standard",
            "filter": [*filters, "synonyms"],
        }
        value["analysis"]["analyzer"]["cjk_query"] = {
            "tokenizer": "standard",
            "filter": ["cjk_width", "lowercase", "cjk_bigram", "english_stop", "synonyms_zh"],
        }

    def mappings(value: Any) -> None:
        for field in value["properties"].values():
            if field["type"] == "text":
                field["search_analyzer"] = "product_query"
                field["fields"]["zh"]["search_analyzer"] = "cjk_query"

    edit(folder / "settings" / "product.json", settings)
    edit(folder / "mappings" / "product.json", mappings)
    (folder / "synonyms.txt").write_text("\n".join(rules), "utf-8")


def planned(client: OpenSearch, folder: Path, shop: str) -> Change:
    (change,) = (c for c in diff(client, folder) if c.name.startswith(shop))
    return change


def search(client: OpenSearch, shop: str, text: str) -> list[str]:
    body = {"query": lexical_query(text), "size": 10}
    answer = client.search(index=shop, body=body, params={"search_pipeline": "_none"})
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def test_other_fields_are_a_reindex_and_searches_go_on(
    client: OpenSearch, folder: Path, shop: str, stack: Settings
) -> None:
    client.indices.put_settings(
        index=shop, body={"index.search.default_pipeline": "neural_rank_only"}
    )
    client.indices.put_mapping(index=shop, body={"properties": {"shelf": {"type": "keyword"}}})
    (before,) = client.indices.get_alias(name=shop)
    red = {"filter": {"term": {"attributes.colour": "red"}}}
    client.indices.put_alias(index=before, name=f"{shop}_red", body=red)

    def german(value: Any) -> None:
        value["properties"]["title"]["fields"]["de"] = {"type": "text", "analyzer": "german"}

    edit(folder / "mappings" / "product.json", german)
    change = planned(client, folder, shop)
    assert (change.action, change.details) == (
        "reindex",
        ("title gains a subfield de with analyzer german: needs a reindex",),
    )
    stop, counts = threading.Event(), []

    def keep_searching() -> None:
        with closing(connect(stack)) as own:
            while not stop.is_set():
                counts.append(own.count(index=shop)["count"])

    searching = threading.Thread(target=keep_searching)
    searching.start()
    seen: list[tuple[int, int]] = []
    try:
        done = renew(client, change, folder, progress=lambda *pair: seen.append(pair))
    finally:
        stop.set()
        searching.join()
    assert set(counts) == {3}
    assert len(counts) > 1
    assert seen[-1] == (3, 3)
    assert (done.alias, done.before, done.documents) == (shop, change.name, 3)
    assert list(client.indices.get_alias(name=shop)) == [done.index]
    assert list(client.indices.get_alias(name=f"{shop}_red")) == [done.index]
    fields = client.indices.get_mapping(index=done.index)[done.index]["mappings"]["properties"]
    assert fields["title"]["fields"]["de"]["analyzer"] == "german"
    assert fields["shelf"] == {"type": "keyword"}  # the team's own field stays
    kept = client.indices.get_settings(index=done.index, params={"flat_settings": "true"})
    assert kept[done.index]["settings"]["index.search.default_pipeline"] == "neural_rank_only"
    # Both can be written to again, and nothing is left to do.
    for index in (change.name, done.index):
        client.index(index=index, id="4", body={"title": "sofa"})
    assert not [c for c in diff(client, folder) if c.name.startswith(shop)]


@pytest.mark.parametrize("action", ["reindex", "reload"])
def test_what_a_team_has_set_on_the_index_alone_stays(
    client: OpenSearch, folder: Path, shop: str, action: Literal["reindex", "reload"]
) -> None:
    (before,) = client.indices.get_alias(name=shop)
    client.indices.close(index=before)
    lower = {"team": {"tokenizer": "keyword", "filter": ["lowercase"]}}
    client.indices.put_settings(index=before, body={"analysis": {"analyzer": lower}})
    client.indices.open(index=before)
    stamp = {"processors": [{"append": {"field": "stamps", "value": "stamped"}}]}
    client.ingest.put_pipeline(id=f"{shop}_stamp", body=stamp)
    chosen = {
        "index.max_result_window": "50000",
        "index.search.slowlog.threshold.query.warn": "1s",
        "index.default_pipeline": f"{shop}_stamp",
        "index.final_pipeline": f"{shop}_stamp",
    }
    client.indices.put_settings(index=before, body=chosen)
    meta = client.indices.get_mapping(index=before)[before]["mappings"]["_meta"]
    own = {"shelf": {"type": "text", "analyzer": "team"}}
    client.indices.put_mapping(index=before, body={"properties": own, "_meta": meta | {"by": "us"}})
    client.index(index=shop, id="1", body={"title": "sofa", "shelf": "A B"}, refresh=True)
    if action == "reload":
        with_synonyms(folder, "couch, sofa")
    else:
        edit(
            folder / "mappings" / "product.json",
            lambda value: value["properties"].update(sku={"type": "keyword"}),
        )
    change = planned(client, folder, shop)
    assert change.action == action
    done = renew(client, change, folder)
    found = client.indices.get(index=done.index, params={"flat_settings": "true"})[done.index]
    assert {name: found["settings"].get(name) for name in chosen} == chosen
    assert found["mappings"]["_meta"]["by"] == "us"
    assert found["mappings"]["properties"]["shelf"]["analyzer"] == "team"
    document = client.get(index=done.index, id="1")["_source"]
    assert document["stamps"] == ["stamped"] * 2  # by each once, when it was written
    assert not [change for change in diff(client, folder) if change.name.startswith(shop)]


@pytest.mark.parametrize("action", ["reindex", "reload"])
def test_every_write_that_was_acknowledged_is_in_the_new_index(
    client: OpenSearch, folder: Path, shop: str, action: Literal["reindex", "reload"]
) -> None:
    """Requests so large that one is always under way when writes begin to be refused."""
    accepted: set[str] = set()
    refused = threading.Event()

    def write(writer: int) -> None:
        numbers = itertools.count()
        while not refused.is_set():
            lines: list[dict[str, Any]] = []
            for _ in range(1_000):
                lines += [
                    {"index": {"_id": f"{writer}-{next(numbers)}"}},
                    {"title": "kettle " * 50},
                ]
            try:
                answer = client.bulk(index=shop, body=lines)
            except errors.Unavailable:
                refused.set()
                return
            items = [item["index"] for item in answer["items"]]
            accepted.update(item["_id"] for item in items if item["status"] == 201)
            if any(item["status"] == 403 for item in items):
                refused.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    while not accepted:
        assert all(writer.is_alive() for writer in writers)
    (index,) = client.indices.get_alias(name=shop)
    try:
        done = renew(client, Change(action, "index", index), folder)
    finally:
        refused.set()
        for writer in writers:
            writer.join()
    assert accepted
    assert client.count(index=done.index)["count"] == len(accepted) + len(PRODUCTS)


def test_synonyms_are_loaded_and_reloaded_without_a_reindex(
    client: OpenSearch, folder: Path, shop: str
) -> None:
    assert search(client, shop, "notebook") == []
    with_synonyms(folder, "notebook, laptop", "本子 => 笔记本电脑")
    change = planned(client, folder, shop)
    assert change.action == "reload"
    assert (
        "title analyses queries by product_text, the file says product_query: needs a reload"
        in (change.details)
    )
    first = renew(client, change, folder)
    assert search(client, shop, "notebooks") == ["1"]
    assert search(client, shop, "本子") == ["2"]

    (folder / "synonyms.txt").write_text("# none of the others\nteapot, kettle\n", "utf-8")
    change = planned(client, folder, shop)
    assert change.details[0].startswith(
        "analysis.filter.synonyms.synonyms gains ['teapot, kettle'] and loses"
    )
    second = renew(client, change, folder)
    assert second.before == first.index
    assert search(client, shop, "notebooks") == []
    assert search(client, shop, "teapot") == ["3"]
    client.index(index=shop, id="4", body={"title": "a new kettle"}, params={"refresh": "true"})
    assert sorted(search(client, shop, "teapot")) == ["3", "4"]
    # The one before stays, for going back; older ones are gone.
    assert first.index in client.indices.get(index=f"{shop}-*")
    assert second.deleted


def test_documents_that_the_new_mapping_refuses_leave_everything_as_it_was(
    client: OpenSearch, folder: Path, shop: str
) -> None:
    def numbers(value: Any) -> None:
        value["properties"]["title"] = {"type": "integer"}

    edit(folder / "mappings" / "product.json", numbers)
    change = planned(client, folder, shop)
    with pytest.raises(errors.InvalidInput, match=r"does not take .* documents; the first is"):
        renew(client, change, folder)
    assert list(client.indices.get(index=f"{shop}-*")) == [change.name]
    client.index(index=shop, id="4", body={"title": "still written to"})


def test_an_index_that_went_live_meanwhile_stays(
    client: OpenSearch, folder: Path, shop: str
) -> None:
    with_synonyms(folder, "notebook, laptop")
    change = planned(client, folder, shop)
    tonight = create(client, shop, product_index(), {"catalogue": "tonight"})

    with pytest.raises(errors.NotFound, match=f"moved meanwhile.*{tonight.index}"):
        renew(client, change, folder, progress=lambda *_: tonight.finish(client, 0, keep=1))
    assert list(client.indices.get_alias(name=shop)) == [tonight.index]
    assert sorted(client.indices.get(index=f"{shop}-*")) == [change.name, tonight.index]


def test_ctrl_c_while_earlier_indexes_are_deleted_leaves_the_new_one(
    client: OpenSearch, folder: Path, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_synonyms(folder, "notebook, laptop")
    change = planned(client, folder, shop)
    (before,) = client.indices.get_alias(name=shop)
    client.indices.put_alias(index=before, name=f"{shop}_other")
    delete = client.indices.delete

    def interrupted(**_: Any) -> None:
        monkeypatch.setattr(client.indices, "delete", delete)
        raise KeyboardInterrupt

    monkeypatch.setattr(client.indices, "delete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        renew(client, change, folder, keep=0)
    (after,) = client.indices.get_alias(name=shop)
    assert after != before
    assert list(client.indices.get_alias(name=f"{shop}_other")) == [after]
    assert search(client, shop, "notebook") == ["1"]


def test_rules_that_opensearch_refuses_leave_everything_as_it_was(
    client: OpenSearch, folder: Path, shop: str
) -> None:
    with_synonyms(folder, "a => b => c")
    change = planned(client, folder, shop)
    with pytest.raises(errors.InvalidInput):
        renew(client, change, folder)
    assert list(client.indices.get(index=f"{shop}-*")) == [change.name]
    assert search(client, shop, "laptop") == ["1"]
    client.index(index=shop, id="4", body={"title": "still written to"})


def test_the_command_shows_first_and_does_it_with_yes(
    client: OpenSearch, folder: Path, shop: str, stack: Settings
) -> None:
    # Only this index is of interest; the others on the stack are as these files say, too.
    for name in ("pipelines", "ubi"):
        for path in (folder / name).glob("*.json"):
            path.unlink()
    (folder / "synonyms.txt").write_text("", "utf-8")
    before = [c.name for c in diff(client, folder) if c.action in ("reindex", "reload")]
    if before:
        pytest.skip(f"other tests left indexes that are to be made anew: {before}")
    live = client.indices.get_alias(name=shop)
    client.indices.put_mapping(
        index=shop, body={"properties": {"title": {"type": "text", "analyzer": "product_text",
        "search_analyzer": "cjk"}}},
    )  # fmt: skip

    def run(*arguments: str) -> Any:
        environment = {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url, "COLUMNS": "200"}
        return CliRunner().invoke(
            app, ["config", *arguments, "--folder", str(folder)], env=environment
        )

    shown = run("apply")
    assert shown.exit_code == 10
    assert "title analyses queries by cjk, the file says product_text: needs a reload" in (
        shown.stdout
    )
    assert client.indices.get_alias(name=shop) == live
    done = json.loads(run("apply", "--yes", "--json").stdout)
    assert [each["alias"] for each in done["renewed"]] == [shop]
    assert client.indices.get_alias(name=shop) != live
    assert run("diff", "--check").exit_code == 0


# Stops where the index is cloned, as a large one does where it is copied.
SLOW = """
import signal, time
from opensearch_config import renewal
# Whoever runs the tests may have it ignored, as nohup has.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
renewal._ready = lambda *_: (print("begun", flush=True), time.sleep(60))
from neuralrank.cli import main
main()
"""


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_run_that_is_ended_does_not_leave_the_index_refusing_writes(
    client: OpenSearch, folder: Path, shop: str, stack: Settings, ended_by: signal.Signals
) -> None:
    if before := [c.name for c in diff(client, folder) if c.action in ("reindex", "reload")]:
        pytest.skip(f"other tests left indexes that are to be made anew: {before}")
    client.indices.put_mapping(
        index=shop, body={"properties": {"title": {"type": "text", "analyzer": "product_text",
        "search_analyzer": "cjk"}}},
    )  # fmt: skip
    change = planned(client, folder, shop)
    run = subprocess.Popen(
        [sys.executable, "-c", SLOW, "config", "apply", "--yes", "--folder", str(folder)],
        env=os.environ | {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout
    assert any(line == "begun\n" for line in iter(run.stdout.readline, "")), run.communicate()
    run.send_signal(ended_by)
    _, errors_said = run.communicate(timeout=60)
    if ended_by is signal.SIGKILL:
        with pytest.raises(errors.Unavailable, match="index write"):
            client.index(index=shop, id="4", body={"title": "sofa"})
        done = renew(client, change, folder)
        assert sorted(client.indices.get(index=f"{shop}-*")) == [change.name, done.index]
    else:
        assert run.returncode == 130, errors_said
        assert "Interrupted" in errors_said
        assert list(client.indices.get(index=f"{shop}-*")) == [change.name]
    client.index(index=shop, id="4", body={"title": "sofa"})
    client.index(index=change.name, id="4", body={"title": "sofa"})


def test_writes_that_a_killed_run_left_refused_are_let_in_where_nothing_else_differs(
    client: OpenSearch, folder: Path, shop: str
) -> None:
    (index,) = client.indices.get_alias(name=shop)
    killed = read_only(client, index)
    killed.__enter__()  # and never left
    change = planned(client, folder, shop)
    assert (change.action, change.name) == ("update", index)
    assert change.details[0].startswith("refuses writes, left so by a run that was killed")
    assert change in apply(client, folder)
    client.index(index=shop, id="4", body={"title": "sofa"})
    assert not [left for left in diff(client, folder) if left.name == index]
    # What somebody has set is no difference, and stays.
    client.indices.add_block(index=index, block="write")
    assert not [left for left in apply(client, folder) if left.name == index]
    with pytest.raises(errors.Unavailable, match="index write"):
        client.index(index=shop, id="5", body={"title": "sofa"})


def test_an_index_that_is_exported_differs_in_nothing_from_its_files(
    client: OpenSearch, folder: Path, shop: str, stack: Settings, tmp_path: Path
) -> None:
    with_synonyms(folder, "notebook, laptop")
    renew(client, planned(client, folder, shop), folder)
    to = tmp_path / "exported"
    environment = {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url, "COLUMNS": "200"}
    arguments = ["config", "export", shop, "--to", str(to), "--json"]
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code == 0, done.output
    files = [str(Path(name).relative_to(to)) for name in json.loads(done.stdout)["files"]]
    assert {"mappings/product.json", "settings/product.json", "pipelines/neural_rank.json"} <= set(
        files
    )
    assert not [
        change
        for change in diff(client, to)
        if change.name.startswith((shop, "ubi")) or change.kind == "search pipeline"
    ]
    assert product_index(folder=to)["settings"]["analysis"]["filter"]["synonyms"]["synonyms"] == [
        "notebook, laptop"
    ]

"""What needs no process: commands on a home where nothing runs, and what a URL means."""

import os
from pathlib import Path

import psutil
import pytest

from neuralrank.stack import OpenSearch, State, UpOptions, down, search, status
from neuralrank.stack.ports import choose_port
from neuralrank.stack.processes import Process
from neuralrank.stack.search import wants_existing


def test_down_where_nothing_runs_is_no_error(tmp_path: Path) -> None:
    said: list[str] = []
    assert down(tmp_path / "none", said.append) == []
    assert down(tmp_path, said.append) == []
    assert said == []


def installed(folder: Path) -> Path:
    """The data of a node that `up` installed."""
    (folder / "data" / "nodes").mkdir(parents=True)
    (folder / "opensearch-3.5.0").mkdir()
    (folder / "opensearch-3.5.0" / "neuralrank-installed.json").write_text("{}")
    return folder / "data"


def test_wipe_deletes_no_data_that_up_did_not_make(tmp_path: Path) -> None:
    precious = tmp_path / "opensearch" / "data" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    said: list[str] = []
    down(tmp_path, said.append, wipe=True)
    assert precious.read_text() == "mine"
    assert "holds no node that `neuralrank up` installed" in said[-1]


def test_wipe_deletes_the_data_and_nothing_else(tmp_path: Path) -> None:
    node_folder = tmp_path / "opensearch"
    data = installed(node_folder)
    (tmp_path / "models").mkdir()
    State(home=tmp_path, opensearch_url="http://127.0.0.1:1", node_folder=node_folder).save()
    down(tmp_path, lambda _: None, wipe=True)
    assert not data.exists()
    assert State.load(tmp_path) is None
    assert node_folder.is_dir()
    assert (tmp_path / "models").is_dir()


def test_status_where_nothing_runs_is_not_healthy(tmp_path: Path) -> None:
    port = choose_port(0, "nobody", "--none")
    document = status(tmp_path, OpenSearch(f"http://127.0.0.1:{port}"), f"127.0.0.1:{port}")
    assert document["healthy"] is False
    assert document["opensearch"]["status"] == document["sidecar"]["status"] == "down"
    assert document["logs"] == {}


def test_status_of_parts_elsewhere_names_no_process_of_this_stack(tmp_path: Path) -> None:
    free = [choose_port(0, "nobody", "--none") for _ in range(2)]
    url, sidecar = f"http://127.0.0.1:{free[0]}", f"127.0.0.1:{free[1]}"
    mine = Process(os.getpid(), psutil.Process().create_time(), "made so")
    State(
        tmp_path,
        url,
        sidecar=sidecar,
        sidecar_http="127.0.0.1:8080",
        opensearch_process=mine,
        sidecar_process=mine,
    ).save()

    here = status(tmp_path, OpenSearch(f"http://localhost:{free[0]}/"), f"localhost:{free[1]}")
    assert [here[part]["pid"] for part in ("opensearch", "sidecar")] == [mine.pid] * 2
    assert here["sidecar"]["http"] == "127.0.0.1:8080"
    assert sorted(here["logs"]) == ["opensearch", "sidecar"]

    there = status(tmp_path, OpenSearch("http://127.0.0.1:1"), "127.0.0.1:1")
    for part in ("opensearch", "sidecar"):
        assert there[part]["pid"] is None
        assert there[part]["started_here"] is False
    assert there["sidecar"]["http"] == ""
    assert there["logs"] == {}


OURS = "http://127.0.0.1:9201"
THEIRS = "http://search:9200"


@pytest.mark.parametrize(
    ("url", "own", "known", "existing"),
    [
        (None, False, None, False),
        (THEIRS, False, None, True),
        (THEIRS, False, OURS, True),
        # As other commands get it from the environment.
        (OURS, False, OURS, False),
        ("http://localhost:9201/", False, OURS, False),
        (None, False, OURS, False),
        # It came up with theirs: it stays so, until a node of its own is asked for.
        (None, False, THEIRS, True),
        (None, True, THEIRS, False),
    ],
)
def test_whether_an_existing_opensearch_is_meant(
    tmp_path: Path, url: str | None, own: bool, known: str | None, existing: bool
) -> None:
    options = UpOptions(home=tmp_path, registry="", opensearch_url=url, own_node=own)
    state = State(home=tmp_path, opensearch_url=known, external=known == THEIRS) if known else None
    assert wants_existing(options, state) is existing


@pytest.mark.parametrize(
    ("url", "called", "said"),
    [
        ("http://127.0.0.1:9200", ["127.0.0.1:50051"], ""),
        ("http://localhost:9200", ["10.0.0.7:50051"], "calls 10.0.0.7:50051, not the one at"),
        ("http://[::1]:9200", [], "calls no sidecar, not the one at 127.0.0.1:50051"),
        # The plugin's default reads as ours, and is the node's own loopback.
        ("http://search:9200", ["127.0.0.1:50051"], "with NEURALRANK_SIDECAR_LISTEN and TLS"),
        ("https://10.0.0.1:9200", ["127.0.0.1:50051"], "reached from this machine only"),
    ],
)
def test_what_is_left_to_do_for_an_existing_cluster_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, called: list[str], said: str
) -> None:
    monkeypatch.setattr(search, "sidecars_of", lambda _: called)
    notes: list[str] = []
    state = State(tmp_path, url, external=True, sidecar="127.0.0.1:50051")
    search.report_sidecars(UpOptions(home=tmp_path, registry=""), state, notes.append)
    assert len(notes) == bool(said)
    assert said in "".join(notes)

"""`neuralrank up | down | status` on real processes."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from opensearchpy import OpenSearch

from neuralrank.settings import Settings
from neuralrank.stack import VERSIONS
from tests.conftest import ENVIRONMENT, HomeMaker, neuralrank


def up(stack: Settings, *flags: str) -> dict[str, dict[str, int]]:
    run = neuralrank(
        *("up", "--home", stack.home, "--json", *flags), NEURALRANK_REGISTRY=stack.registry
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def state_of(stack: Settings) -> dict[str, dict[str, int]]:
    return json.loads(stack.state_file.read_text())


def test_the_node_has_both_plugins_and_its_disk_limits_are_free_space(
    opensearch: OpenSearch,
) -> None:
    assert opensearch.info()["version"]["number"] == VERSIONS.opensearch
    names = {plugin["component"] for plugin in opensearch.cat.plugins(format="json")}
    assert names >= {"opensearch-knn", "neural-rank"}
    settings = opensearch.nodes.info(metric="settings")["nodes"].popitem()[1]["settings"]
    disk = settings["cluster"]["routing"]["allocation"]["disk"]["watermark"]
    assert disk == {"low": "1gb", "high": "750mb", "flood_stage": "500mb"}


def test_the_node_knows_the_sidecars_address(stack: Settings, opensearch: OpenSearch) -> None:
    settings = opensearch.nodes.info(metric="settings")["nodes"].popitem()[1]["settings"]
    assert settings["neural_rank"]["endpoint"] == stack.sidecar


def test_up_again_changes_nothing(stack: Settings) -> None:
    before = state_of(stack)
    assert up(stack)["processes"] == before["processes"]
    assert state_of(stack) == before


def test_two_ups_at_once_wait_for_each_other(stack: Settings) -> None:
    before = state_of(stack)["pids"]
    command = [
        *(sys.executable, "-c", "from neuralrank.cli import main; main()"),
        *("up", "--home", str(stack.home), "--json", "--no-config"),
    ]
    environment = os.environ | ENVIRONMENT | {"NEURALRANK_REGISTRY": stack.registry}
    both = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for run in both:
        printed, said = run.communicate(timeout=120)
        assert run.returncode == 0, said
        assert json.loads(printed)["pids"] == before


def test_status_is_zero_only_when_healthy(stack: Settings) -> None:
    run = neuralrank("status", "--home", stack.home, "--json")
    document = json.loads(run.stdout)
    assert run.returncode == 0, run.stdout
    assert document["healthy"] is True
    assert document["opensearch"]["status"] in ("green", "yellow")
    assert document["sidecar"]["status"] == "serving"
    assert Path(document["logs"]["sidecar"]).is_file()

    sidecar = psutil.Process(state_of(stack)["pids"]["sidecar"])
    sidecar.kill()
    sidecar.wait(30)
    run = neuralrank("status", "--home", stack.home, "--json")
    try:
        assert run.returncode == 5
        assert json.loads(run.stdout)["sidecar"] == {
            "address": stack.sidecar,
            "http": "",
            "status": "down",
            "pid": None,
            "started_here": True,
        }
    finally:
        # Also what the next test and all others count on: what died is started again, where it was.
        again = up(stack)
    assert again["sidecar"] == stack.sidecar
    assert again["pids"]["sidecar"] != sidecar.pid
    assert again["pids"]["opensearch"] == document["opensearch"]["pid"]


def test_a_port_in_use_is_named_with_its_owner(make_home: HomeMaker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = neuralrank("up", "--home", make_home(), "--opensearch-port", port)
    assert run.returncode == 7
    assert f"Port {port} for OpenSearch is in use by" in run.stderr
    assert "--opensearch-port PORT" in run.stderr


def test_an_existing_opensearch_is_used_and_never_ended(
    stack: Settings, opensearch: OpenSearch, make_home: HomeMaker
) -> None:
    home = make_home()
    flags = ("--opensearch-url", stack.opensearch_url, "--no-config")
    run = neuralrank(
        *("up", "--home", home, "--sidecar-port", "0", "--json", *flags),
        NEURALRANK_REGISTRY=stack.registry,
    )
    assert run.returncode == 0, run.stderr
    state = json.loads(run.stdout)
    assert state["opensearch_url"] == stack.opensearch_url
    assert state["external"] is True
    assert list(state["pids"]) == ["sidecar"]
    # Its plugin goes on calling the sidecar that it knows.
    assert f"calls {stack.sidecar}, not the one at {state['sidecar']}" in run.stderr
    assert neuralrank("status", "--home", home).returncode == 0

    run = neuralrank("down", "--home", home, "--json")
    assert json.loads(run.stdout)["ended"] == ["sidecar"]
    assert not psutil.pid_exists(state["pids"]["sidecar"])
    assert opensearch.ping()


def test_a_stale_state_never_ends_a_process_that_got_the_id(
    stack: Settings, make_home: HomeMaker
) -> None:
    home = make_home()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        state = state_of(stack) | {"home": str(home), "node_folder": str(home / "opensearch")}
        for process in state["processes"].values():
            process["pid"] = bystander.pid
        (home / "stack.json").write_text(json.dumps(state))
        run = neuralrank("down", "--home", home, "--json")
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["ended"] == []
        assert bystander.poll() is None
        assert not (home / "stack.json").exists()
    finally:
        bystander.communicate(b"\n", timeout=30)


def test_a_whole_life_with_a_home_that_opensearch_cannot_enter(tmp_path: Path) -> None:
    """Up, wiped, down: in a closed folder root's node goes elsewhere, and says so."""
    # pytest closes the parents of its temporary folders to other accounts.
    home = tmp_path / "home"
    (home / "downloads").parent.mkdir()
    source = Path(__file__).resolve().parents[2] / ".neuralrank" / "downloads"
    source.mkdir(parents=True, exist_ok=True)
    (home / "downloads").symlink_to(source)
    try:
        run = neuralrank(
            *("up", "--home", home, "--opensearch-port", "0", "--sidecar-port", "0"),
            *("--heap", "512m", "--no-sidecar", "--no-config", "--json"),
        )
        assert run.returncode == 0, run.stderr
        state = json.loads(run.stdout)
        assert state["sidecar"] is None
        node = Path(state["node_folder"])
        process = psutil.Process(state["pids"]["opensearch"])
        assert process.uids().real != 0
        if node.parent != home:
            assert f"can't be entered by {process.username()}" in run.stderr
        assert (node / "data").is_dir()
    finally:
        run = neuralrank("down", "--home", home, "--wipe", "--json")
    assert json.loads(run.stdout) == {"ended": ["opensearch"], "wiped": True}
    assert not process.is_running()
    assert not (node / "data").exists()
    if node.parent != home:
        shutil.rmtree(node)


def test_a_heap_that_is_none_is_refused(make_home: HomeMaker) -> None:
    run = neuralrank("up", "--home", make_home(), "--heap", "much")
    assert run.returncode == 3
    assert "--heap: got 'much'; write it as 512m or 2g." in run.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:9200", "localhost"])
def test_an_address_that_is_none_is_refused(make_home: HomeMaker, url: str) -> None:
    run = neuralrank("up", "--home", make_home(), "--opensearch-url", url)
    assert run.returncode == 3
    assert "http://HOST:PORT" in run.stderr

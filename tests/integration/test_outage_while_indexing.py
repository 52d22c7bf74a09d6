"""OpenSearch dies in the middle of indexing: nothing is lost, and the run can be resumed."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from opensearchpy import OpenSearch

from neuralrank.errors import NeuralrankError
from neuralrank.opensearch import connect
from neuralrank.settings import Settings
from tests.conftest import CACHE, CHECKOUT, HomeMaker, neuralrank

ROWS = 1_500
FIRST_BULKS = 950
PATIENCE_S = 120


def up(home: Path) -> dict[str, object]:
    run = neuralrank(
        *("up", "--home", home, "--heap", "512m", "--no-sidecar", "--json"),
        *("--opensearch-port", "0", "--sidecar-port", "0"),
        NEURALRANK_REGISTRY=str(CACHE / "models"),
    )
    assert run.returncode == 0, run.stderr
    state: dict[str, object] = json.loads(run.stdout)
    return state


def documents(client: OpenSearch, name: str) -> int:
    try:
        client.indices.refresh(index=name)
        return int(client.count(index=name)["count"])
    except NeuralrankError:
        return 0


def test_an_outage_costs_neither_the_old_index_nor_what_was_written(
    make_home: HomeMaker, tmp_path: Path
) -> None:
    home = make_home()
    state = up(home)
    environment = {
        "NEURALRANK_OPENSEARCH_URL": str(state["opensearch_url"]),
        "NEURALRANK_REGISTRY": str(CACHE / "models"),
    }
    with gzip.open(CHECKOUT / "examples/esci/catalogue.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [line for _, line in zip(range(ROWS), lines, strict=False)]
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    small.write_text("".join(rows[:20]), encoding="utf-8")
    large.write_text("".join(rows), encoding="utf-8")
    first = neuralrank("index", small, "--index", "shop", "--json", **environment)
    assert first.returncode == 0, first.stderr
    old = json.loads(first.stdout)["index"]

    client = connect(Settings(opensearch_url=str(state["opensearch_url"])))
    running = subprocess.Popen(
        [
            *(sys.executable, "-c", "from neuralrank.cli import main; main()"),
            *("index", str(large), "--index", "shop", "--json"),
            *("--rejects", str(tmp_path / "rejects.jsonl")),
        ],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = time.monotonic()
    # More than one bulk request: only what was acknowledged must survive.
    while documents(client, f"shop-*,-{old}") < FIRST_BULKS:
        assert running.poll() is None, "indexing ended before the outage"
        assert time.monotonic() - begun < PATIENCE_S
        time.sleep(0.1)
    os.kill(int(state["pids"]["opensearch"]), signal.SIGKILL)  # type: ignore[index]
    _, said = running.communicate(timeout=PATIENCE_S)
    client.close()
    assert running.returncode == 5, said
    assert "--resume" in said

    again = up(home)  # on the port of before
    assert again["opensearch_url"] == state["opensearch_url"]
    client = connect(Settings(opensearch_url=str(again["opensearch_url"])))
    try:
        assert list(client.indices.get_alias(name="shop")) == [old]
        assert documents(client, "shop") == 20
        resumed = neuralrank("index", large, "--index", "shop", "--resume", "--json", **environment)
        assert resumed.returncode == 0, resumed.stderr
        summary = json.loads(resumed.stdout)
        assert summary["resumed"] > 0
        assert documents(client, "shop") == ROWS
    finally:
        client.close()

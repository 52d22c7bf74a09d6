"""OpenSearch dies in the middle of indexing: nothing is lost, and the run can be resumed."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

from neuralrank.errors import NeuralrankError
from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from tests.conftest import CACHE, CHECKOUT, HomeMaker, neuralrank

CHUNK = 1_024  # what the indexer writes at once
ROWS = 1_500
PATIENCE_S = 120


def up(home: Path) -> dict[str, Any]:
    run = neuralrank(
        *("up", "--home", home, "--heap", "512m", "--no-sidecar", "--json"),
        *("--opensearch-port", "0", "--sidecar-port", "0"),
        NEURALRANK_REGISTRY=str(CACHE / "models"),
    )
    assert run.returncode == 0, run.stderr
    state: dict[str, Any] = json.loads(run.stdout)
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

    # OpenSearch dies when the first chunk is acknowledged and the second is about to be sent: by a
    # clock, a quick machine had indexed everything before.
    ended_by_outage = (
        "import os, signal; from indexer import run; real, sent = run.bulk_write, []\n"
        "def bulk_write(client, index, documents):\n"
        "    sent.append(len(documents))\n"
        f"    if len(sent) == 2: os.kill({state['pids']['opensearch']}, signal.SIGKILL)\n"
        "    return real(client, index, documents)\n"
        "run.bulk_write = bulk_write\n"
        "from neuralrank.cli import main; main()"
    )
    ended = subprocess.run(
        [
            *(sys.executable, "-c", ended_by_outage),
            *("index", str(large), "--index", "shop", "--json"),
            *("--rejects", str(tmp_path / "rejects.jsonl")),
        ],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 5, ended.stderr
    assert "--resume" in ended.stderr

    again = up(home)  # on the port of before
    assert again["opensearch_url"] == state["opensearch_url"]
    client = connect(Settings(opensearch_url=str(again["opensearch_url"])))
    try:
        assert list(client.indices.get_alias(name="shop")) == [old]
        assert documents(client, "shop") == 20
        resumed = neuralrank("index", large, "--index", "shop", "--resume", "--json", **environment)
        assert resumed.returncode == 0, resumed.stderr
        summary = json.loads(resumed.stdout)
        assert summary["resumed"] == CHUNK
        assert documents(client, "shop") == ROWS
    finally:
        client.close()

"""UBI documents of a real OpenSearch, pulled by a command that is killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import Unavailable
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.writing import bulk_write
from neuralrank.settings import Settings
from opensearch_config import apply_ubi
from tests.conftest import neuralrank
from trainer.dataset import Dataset
from trainer.feedback import Logs, Request, pieces, pull, reading

# A time of its own: other tests log events too.
BEGIN = datetime(2018, 5, 1, tzinfo=UTC)
WINDOW = ("--from", "2018-05-01", "--until", "2018-06-01")
PAGES, SHOWN = 600, 20


def documents() -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[str, dict[str, Any]]]]:
    """Pages a minute apart, three users each in turn; the second item of each is clicked."""
    queries, events = [], []
    for page in range(PAGES):
        at = (BEGIN + timedelta(minutes=page)).isoformat()
        who = {"client_id": f"pull-{page % 3}", "query_id": f"pull-{page}", "timestamp": at}
        queries.append((f"pull-q-{page}", who | {"user_query": f"kettle {page % 50}"}))
        for place in range(1, SHOWN + 1):
            attributes = {"object": {"object_id": f"i{place}"}, "position": {"ordinal": place}}
            row = who | {"action_name": "impression", "event_attributes": attributes}
            events.append((f"pull-i-{page}-{place}", row))
        attributes = {"object": {"object_id": "i2"}, "position": {"ordinal": 2}}
        row = who | {"action_name": "click", "event_attributes": attributes}
        events.append((f"pull-c-{page}", row))
        events.append((f"pull-again-{page}", row))
    return queries, events


@pytest.fixture(scope="module")
def client(stack: Settings) -> Iterator[OpenSearch]:
    with closing(connect(stack, timeout=120.0)) as opened:
        apply_ubi(opened)
        for index, rows in zip(("ubi_queries", "ubi_events"), documents(), strict=True):
            assert not list(bulk_write(opened, index, rows, refresh=True))
        yield opened
        opened.delete_by_query(
            index="ubi_events,ubi_queries",
            body={"query": {"prefix": {"client_id": "pull-"}}},
            params={"refresh": "true"},
        )


def check(folder: Path) -> None:
    """All of it is there, once."""
    logs = Logs.open(folder)
    assert logs.queries.num_rows == PAGES
    assert logs.events.num_rows == PAGES * (SHOWN + 1)
    assert len(set(logs.events["id"].to_pylist())) == PAGES * (SHOWN + 1)
    assert logs.events["time"].to_pylist() == sorted(logs.events["time"].to_pylist())
    dropped = pq.read_table(folder / "dropped.parquet")
    assert set(dropped["reason"].to_pylist()) == {"duplicates"}


def test_a_pull_that_is_killed_goes_on_where_it_was(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    """SIGKILL, which nothing can catch, as soon as some pieces are there."""
    out = tmp_path / "logs"
    small = (
        "from trainer.feedback import pieces, reading; pieces._ROWS = 500; reading._BATCH = 100; "
        "from neuralrank.cli import main; main()"
    )
    environment = os.environ | {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url}
    command = ("train", "pull", *WINDOW, "--out", str(out), "--json")
    running = subprocess.Popen([sys.executable, "-c", small, *command], env=environment)
    try:
        until = time.monotonic() + 120
        while len(list(out.glob("raw/events-*"))) < 3:
            assert running.poll() is None, "it was done before it was killed"
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    kept = len(list(out.glob("raw/events-*")))
    assert kept < PAGES * (SHOWN + 2) // 500
    done = neuralrank(*command, NEURALRANK_OPENSEARCH_URL=stack.opensearch_url)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"] == {
        "queries": PAGES, "impressions": PAGES * SHOWN, "clicks": PAGES, "carts": 0,
        "purchases": 0, "other": 0, "users": 3,
    }  # fmt: skip
    assert report["dropped"]["duplicates"] == PAGES
    check(out)
    assert client.ping()
    catalogue, data = tmp_path / "items.jsonl", tmp_path / "data"
    rows = [{"id": f"i{n}", "title": f"kettle {n} liters"} for n in range(1, SHOWN + 30)]
    catalogue.write_text("\n".join(map(json.dumps, rows)))
    made = neuralrank(
        "train", "dataset", "--logs", out, "--catalogue", catalogue, "--out", data, "--encoder",
        "none", "--json",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    parts = json.loads(made.stdout)["counts"]["pages"]
    # Each of 50 queries comes in the times of all parts, and is in one.
    assert set(parts) == {"train", "dev", "test"}
    dataset = Dataset.open(data)
    liked = dataset.examples.filter(pc.greater(dataset.examples["label"], 0))
    assert set(liked["item_id"].to_pylist()) == {"i2"}
    assert dataset.of("impressions", "train").num_rows == parts["train"] * SHOWN
    # All of a user's steps are one item.
    assert dataset.sequences["items"].to_pylist() == [["i2"]] * 3


def test_a_point_in_time_that_ends_and_a_node_that_goes_away(
    client: OpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BATCH", 500)
    monkeypatch.setattr(pieces, "_ROWS", 700)
    request = Request("2018-05-01", "2018-06-01", patience=1.0)
    away = connect(Settings(opensearch_url="http://127.0.0.1:9"), retries=0)

    class Moving:
        """The node, until it is told to be somewhere else."""

        there = True

        def __getattr__(self, name: str) -> Any:
            return getattr(client if self.there else away, name)

    moving = Moving()

    def leave(what: str, done: int, _total: int) -> None:
        if what == "events" and done == 1_500:
            client.delete_all_pits()
        if what == "events" and done >= 3_000:
            moving.there = False

    with pytest.raises(Unavailable, match=r"Kept are .* documents .* to go on from there"):
        pull(moving, tmp_path / "logs", request, progress=leave)  # type: ignore[arg-type]
    away.close()
    client.delete_all_pits()  # the one that nobody could end
    pull(client, tmp_path / "logs", request)
    check(tmp_path / "logs")
    assert client.get_all_pits().get("pits", []) == []


def test_no_events_in_the_window_says_when_there_are_some(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    assert client.ping()
    out = tmp_path / "logs"
    done = neuralrank(
        "train", "pull", "--from", "2001-01-01", "--until", "2001-02-01", "--out", out,
        NEURALRANK_OPENSEARCH_URL=stack.opensearch_url,
    )  # fmt: skip
    assert done.returncode == 3
    assert "There are no events in the window from 2001-01-01" in done.stderr
    assert "ubi_events has some from" in done.stderr
    # Nothing of a window, so that the next may be another.
    assert [file.name for file in out.iterdir()] == [".lock"]

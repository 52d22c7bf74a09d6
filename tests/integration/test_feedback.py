"""UBI documents into a real OpenSearch."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from neuralrank import errors, ubi
from neuralrank.cli.commands import app
from neuralrank.client import Client
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb


@pytest.fixture
def user(client: OpenSearch) -> Iterator[str]:
    """A user of this test alone, whose events are deleted afterwards."""
    name = f"feedback-{uuid4().hex[:8]}"
    yield name
    client.delete_by_query(
        index="ubi_events,ubi_queries",
        body={"query": {"prefix": {"client_id": name}}},
        params={"refresh": "true", "ignore_unavailable": "true"},
    )
    client.delete_by_query(
        index="ubi_events",
        body={"query": ubi.user_events(name)},
        params={"refresh": "true", "ignore_unavailable": "true"},
    )


def run(stack: Settings, *arguments: str) -> Any:
    environment = {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url, "COLUMNS": "200"}
    return CliRunner().invoke(app, ["feedback", *arguments], env=environment)


def events(client: OpenSearch, user: str) -> list[dict[str, Any]]:
    body = {"query": ubi.user_events(user), "size": 100, "sort": [{"timestamp": "asc"}]}
    return [h["_source"] for h in client.search(index="ubi_events", body=body)["hits"]["hits"]]


def test_a_file_is_loaded_once_however_often_it_is_loaded(
    stack: Settings, client: OpenSearch, user: str, tmp_path: Path
) -> None:
    rows = [
        {"index": {"_index": "ubi_queries", "_id": f"{user}-q"}},
        {"query_id": f"{user}-q", "client_id": user, "user_query": "电脑"},
        {"action_name": "click", "client_id": user, "user_id": "",
         "timestamp": "2026-01-01T00:00:00Z",
         "event_attributes": {"object": {"object_id": "A"}, "position": {"ordinal": 1}}},
        {"action_name": "click", "timestamp": "yesterday"},
        {"action_name": "view", "client_id": user, "user_id": "somebody-else"},
    ]  # fmt: skip
    path = tmp_path / "events.ndjson"  # gzip all the same
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    rejects = tmp_path / "rejects.jsonl"
    for _ in range(2):
        done = run(stack, "load", str(path), "--json", "--rejects", str(rejects))
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == {
            "queries": 1,
            "events": 2,
            "rejected": 1,
            "rejects": str(rejects),
            "warnings": [],
        }
    (rejected,) = map(json.loads, rejects.read_text().splitlines())
    assert rejected["line"] == 4
    assert "yesterday" in rejected["reason"]
    # The empty user_id does not hide the client's event, and another user's event is not theirs.
    (event,) = events(client, user)
    assert event["event_attributes"]["object"]["object_id"] == "A"
    query = client.get(index="ubi_queries", id=f"{user}-q")["_source"]
    assert query["user_query"] == "电脑"


def test_a_logged_event_is_seen_at_once(stack: Settings, client: OpenSearch, user: str) -> None:
    done = run(
        stack, "log", "--user", user, "--action", "purchase", "--item", "A", "--query", "电脑",
        "--query-id", "q1", "--position", "2", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (event,) = events(client, user)
    assert event == json.loads(done.stdout)["event"]
    assert event["action_name"] == "purchase"
    assert event["user_query"] == "电脑"
    assert event["event_attributes"] == {
        "object": {"object_id": "A", "object_id_field": "id"},
        "position": {"ordinal": 2},
    }


def test_the_same_event_twice_is_two_events(stack: Settings, client: OpenSearch, user: str) -> None:
    for _ in range(2):
        assert run(stack, "log", "--user", user, "--action", "view", "--item", "A").exit_code == 0
    assert len(events(client, user)) == 2


def test_ids_with_brackets_are_said_as_they_are(
    stack: Settings, client: OpenSearch, user: str
) -> None:
    done = run(stack, "log", "--user", user, "--action", "[red]", "--item", "[/]")
    assert done.exit_code == 0, done.output
    assert f"Logged: {user} [red] on [/]." in done.stdout
    assert len(events(client, user)) == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["log", "--user", " ", "--action", "view"], errors.InvalidInput, "--user is empty"),
        (["log", "--user", "A", "--action", ""], errors.InvalidInput, "action_name: got ''"),
        (
            ["log", "--user", "A", "--action", "view", "--item", "x", "--index", "no-such-index"],
            errors.NotFound,
            "no item 'x'",
        ),
        (["load", "no-such-file.ndjson"], errors.NotFound, "There is no file"),
    ],
)
def test_wrong_use_says_what_to_do(
    stack: Settings, arguments: list[str], kind: type[Exception], says: str
) -> None:
    done = run(stack, *arguments)
    assert isinstance(done.exception, kind)
    assert says in str(done.exception)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.ndjson", b"", "it is empty"),
        ("a.ndjson", b"x\n", "says why, line by line"),
        ("a.ndjson.gz", b"x\n", "says why, line by line"),
        ("a.ndjson", gzip.compress(b"x\n")[:-9], "damaged gzip file"),
    ],
)
def test_a_file_without_feedback(
    stack: Settings, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    done = run(stack, "load", str(path), "--rejects", str(tmp_path / "rejects"))
    assert isinstance(done.exception, errors.InvalidInput)
    assert says in str(done.exception)


def test_a_user_is_forgotten_with_all_devices_and_nobody_else(
    stack: Settings, client: OpenSearch, user: str
) -> None:
    other, device = f"{user}-other", f"{user}-device"
    rows = [
        ("ubi_events", {"action_name": "view", "user_id": user, "client_id": device}),
        ("ubi_events", {"action_name": "view", "client_id": device}),
        # On the same device, and signed in as another.
        ("ubi_events", {"action_name": "view", "user_id": other, "client_id": device}),
        ("ubi_queries", {"query_id": "q1", "user_id": user, "user_query": "电脑"}),
        ("ubi_queries", {"query_id": "q2", "client_id": device, "user_query": "手机"}),
        ("ubi_queries", {"query_id": "q3", "user_id": other, "user_query": "手机"}),
        # As UBI's clients write them: the query has no user_id, the event on its page has.
        ("ubi_queries", {"query_id": f"{user}-q", "client_id": f"{user}-new"}),
        ("ubi_events", {"action_name": "click", "user_id": user, "query_id": f"{user}-q"}),
        ("ubi_queries", {"query_id": f"{user}-r", "user_id": other}),
        ("ubi_events", {"action_name": "click", "user_id": user, "query_id": f"{user}-r"}),
    ]
    run(stack, "log", "--user", user, "--action", "click", "--item", "A")
    for index, row in rows:
        # Not searchable yet: it is to be found nevertheless.
        client.index(index=index, body={**row, "timestamp": "2026-01-01T00:00:00Z"})
    counted = run(stack, "forget", user, device, "--dry-run", "--json")
    assert json.loads(counted.stdout) == {"events": 5, "queries": 3, "dry_run": True}
    assert len(events(client, user)) == 4
    done = run(stack, "forget", user, device, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"events": 5, "queries": 3, "dry_run": False}
    assert events(client, user) == []
    assert [event["user_id"] for event in events(client, other)] == [other]
    left = {"query": {"term": {"user_id": other}}}
    assert client.count(index="ubi_queries", body=left)["count"] == 2
    again = run(stack, "forget", user)
    assert "0 events and 0 queries deleted" in again.output
    for name in (other, user):
        run(stack, "forget", name)


def test_a_sidecar_forgets_with_the_index(stack: Settings, client: OpenSearch, user: str) -> None:
    run(stack, "log", "--user", user, "--action", "view", "--item", "A", "--query", "电脑")
    assert client.count(index="ubi_events", body={"query": ubi.user_events(user)})["count"] == 1

    def notes() -> set[str]:
        request = pb.RankRequest(
            query="x", user=pb.User(id=user), candidates=[pb.Candidate(id="1")]
        )
        request.options.deadline_ms = 4_000
        with Client(stack.sidecar, 30) as sidecar:
            answer = sidecar.rank(request)
        return {pb.DegradedReason.Name(note.reason) for note in answer.degraded}

    assert "DEGRADED_REASON_NO_USER" not in notes()
    assert run(stack, "forget", user).exit_code == 0
    deadline = time.monotonic() + 30
    while "DEGRADED_REASON_NO_USER" not in notes():
        assert time.monotonic() < deadline

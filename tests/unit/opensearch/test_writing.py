"""Answers that a healthy OpenSearch never gives, from a scripted server, without sleeping."""

import json
from contextlib import closing
from typing import Any

import pytest

from neuralrank import errors
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.writing import bulk_write
from tests.unit.answering import Script, answering

DOCUMENTS = [("a", {"n": 1}), ("b", {"n": 2}), ("c", {"n": 3})]


def outcomes(*statuses: int, kind: str = "rejected_execution_exception") -> dict[str, Any]:
    failed = {"type": kind, "reason": "because"}
    items = [
        {"index": {"status": status} | ({} if status < 300 else {"error": failed})}
        for status in statuses
    ]
    return {"errors": any(status >= 300 for status in statuses), "items": items}


def sent(server: Script) -> list[list[str]]:
    """The ids of each request."""
    return [
        [json.loads(line)["index"]["_id"] for line in body.splitlines()[::2]]
        for _, _, body in server.asked
    ]


@pytest.mark.parametrize("status", [429, 503])
def test_only_what_had_no_room_is_sent_again(status: int) -> None:
    slept: list[float] = []
    answers = [
        (200, outcomes(200, status, 201)),
        (429, {"error": "busy"}),
        (200, {"errors": False}),
    ]
    with answering(*answers) as server, closing(connect(server.settings)) as client:
        assert bulk_write(client, "shop", DOCUMENTS, waits=(1, 2, 4), sleep=slept.append) == []
        assert sent(server) == [["a", "b", "c"], ["b"], ["b"]]
    assert slept == [1, 2]


def test_a_document_that_does_not_fit_is_reported_and_not_sent_again() -> None:
    with (
        answering((200, outcomes(200, 400, 200, kind="mapper_parsing_exception"))) as server,
        closing(connect(server.settings)) as client,
    ):
        (refused,) = bulk_write(client, "shop", DOCUMENTS)
        assert (refused.id, refused.reason) == ("b", "because")
        assert len(server.asked) == 1


def test_what_is_refused_is_reported_though_others_are_sent_again() -> None:
    answers = [(200, outcomes(400, 429, 200)), (200, outcomes(400))]
    with answering(*answers) as server, closing(connect(server.settings)) as client:
        refused = bulk_write(client, "shop", DOCUMENTS, waits=(0,))
        assert [item.id for item in refused] == ["a", "b"]
        assert sent(server) == [["a", "b", "c"], ["b"]]


def test_a_queue_that_stays_full_ends_in_overloaded() -> None:
    slept: list[float] = []
    with (
        answering((200, outcomes(429, 429, 429))) as server,
        closing(connect(server.settings)) as client,
    ):
        with pytest.raises(errors.Overloaded, match="no room for 3 documents"):
            bulk_write(client, "shop", DOCUMENTS, waits=(1, 2), sleep=slept.append)
        assert len(server.asked) == 3
    assert slept == [1, 2]


def test_a_node_that_comes_back_is_waited_for() -> None:
    slept: list[float] = []
    down = [(503, {"error": "down"})] * 3  # the client's own attempts
    with (
        answering(*down, (200, {"errors": False})) as server,
        closing(connect(server.settings)) as client,
    ):
        assert bulk_write(client, "shop", DOCUMENTS, waits=(5,), sleep=slept.append) == []
    assert slept == [5]


@pytest.mark.parametrize("status", [403, 429])
def test_a_read_only_index_is_not_waited_for(status: int) -> None:
    slept: list[float] = []
    with (
        answering(
            (200, outcomes(status, status, status, kind="cluster_block_exception"))
        ) as server,
        closing(connect(server.settings)) as client,
        pytest.raises(errors.Unavailable, match="read-only"),
    ):
        bulk_write(client, "shop", DOCUMENTS, sleep=slept.append)
    assert slept == []


def test_large_documents_are_spread_over_requests() -> None:
    large = [(str(n), {"text": "x" * 2_000_000}) for n in range(5)]
    with answering((200, {"errors": False})) as server, closing(connect(server.settings)) as client:
        assert bulk_write(client, "shop", large) == []
        assert sent(server) == [["0", "1"], ["2", "3"], ["4"]]


def test_nothing_to_write_asks_nothing() -> None:
    with answering((200, {})) as server, closing(connect(server.settings)) as client:
        assert bulk_write(client, "shop", []) == []
        assert server.asked == []


def test_versions_are_sent_as_the_documents_own() -> None:
    with answering((200, {"errors": False})) as server, closing(connect(server.settings)) as client:
        assert bulk_write(client, "shop", DOCUMENTS[:1], versions={"a": 7}) == []
        ((_, _, body),) = server.asked
    action = json.loads(body.splitlines()[0])["index"]
    assert action == {"_id": "a", "version": 7, "version_type": "external_gte"}

"""`neuralrank feedback forget` where documents change while they are deleted; the ordinary case is
tested on a real node."""

import json

import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, Unavailable, Unsupported
from tests.unit.answering import answering

# What OpenSearch says of the types of both indexes' user ids.
CAPS = (200, {"fields": {"user_id": {"keyword": {"type": "keyword"}}}})
REFRESHED = (200, {"_shards": {"failed": 0}})


def deleted(count: int, conflicts: int = 0) -> tuple[int, dict[str, object]]:
    return 200, {"deleted": count, "version_conflicts": conflicts, "failures": []}


def view(*pages: list[str]) -> list[tuple[int, dict[str, object]]]:
    """The answers to who reads the users' events: of each its query_id."""
    found = [
        [{"_source": {"query_id": name}, "sort": [name, place]} for place, name in enumerate(page)]
        for page in pages
    ]
    return [
        (200, {"pit_id": "view"}),
        *((200, {"hits": {"hits": hits}}) for hits in found),
        (200, {"pits": []}),
    ]


def test_what_changed_meanwhile_is_deleted_by_another_attempt() -> None:
    events = [deleted(2, conflicts=1), REFRESHED, deleted(1)]
    queries = [REFRESHED, deleted(4), REFRESHED, *view([])]
    answers = [CAPS, CAPS, *queries, REFRESHED, *events]
    with answering(*answers) as opensearch:
        environment = {"NEURALRANK_OPENSEARCH_URL": opensearch.url}
        done = CliRunner().invoke(app, ["feedback", "forget", "A", "--json"], env=environment)
    assert json.loads(done.stdout) == {"events": 3, "queries": 4, "dry_run": False}
    paths = [path.partition("?")[0] for _, path, _ in opensearch.asked[2:]]
    assert [path for path in paths if path.startswith("/ubi")] == [
        "/ubi_queries/_refresh",
        "/ubi_queries/_delete_by_query",
        "/ubi_events/_refresh",
        "/ubi_events/_search/point_in_time",
        *["/ubi_events/_refresh", "/ubi_events/_delete_by_query"] * 2,
    ]


@pytest.mark.parametrize("dry_run", [False, True])
def test_queries_that_led_to_the_users_events_go_too(
    dry_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # q2 of two events, in one page of three and on to the next.
    monkeypatch.setattr("neuralrank.ubi.rows._BATCH", 3)
    monkeypatch.setattr("neuralrank.cli.feedback._IDS", 2)
    gone = [deleted(count) if not dry_run else (200, {"count": count}) for count in (1, 2, 1, 4)]
    opened, first, second, closed = view(["q1", "q2", "q2"], ["q3"])
    answers = [
        *[CAPS, CAPS, REFRESHED, gone[0]],
        *[REFRESHED, opened, first, REFRESHED, gone[1], second, closed, REFRESHED, gone[2]],
        *[REFRESHED, gone[3]],
    ]
    with answering(*answers) as opensearch:
        environment = {"NEURALRANK_OPENSEARCH_URL": opensearch.url}
        flags = ["--json", "--dry-run"] if dry_run else ["--json"]
        done = CliRunner().invoke(app, ["feedback", "forget", "A", "D", *flags], env=environment)
    assert json.loads(done.stdout) == {"events": 4, "queries": 4, "dry_run": dry_run}
    verb = "_count" if dry_run else "_delete_by_query"
    asked = [
        json.loads(body)["query"]["bool"]
        for _, path, body in opensearch.asked
        if path.startswith(f"/ubi_queries/{verb}")
    ]
    named = [one["filter"][0]["terms"]["query_id"] for one in asked if "filter" in one]
    assert named == [["q1", "q2"], ["q3"]]
    others, mine = asked[1]["must_not"]
    assert others["bool"]["must_not"] == [{"terms": {"user_id": ["", "A", "D"]}}]
    # What was counted as the users' own is not counted again.
    assert mine == {"bool": asked[0]}


def test_what_changes_all_the_time_is_said() -> None:
    queries = [REFRESHED, deleted(0), REFRESHED, *view([])]
    events = [REFRESHED, *([deleted(1, 1), REFRESHED] * 5)]
    with answering(CAPS, CAPS, *queries, *events) as opensearch:
        environment = {"NEURALRANK_OPENSEARCH_URL": opensearch.url}
        done = CliRunner().invoke(app, ["feedback", "forget", "A"], env=environment)
    assert isinstance(done.exception, Unavailable)
    assert "5 documents of ubi_events were deleted" in str(done.exception)


@pytest.mark.parametrize("users", [[""], ["A", " "], ["A", "x" * 101]])
def test_a_user_who_can_not_be_found_deletes_nothing(users: list[str]) -> None:
    with answering((500, "not to be asked")) as opensearch:
        environment = {"NEURALRANK_OPENSEARCH_URL": opensearch.url}
        done = CliRunner().invoke(app, ["feedback", "forget", *users], env=environment)
    assert isinstance(done.exception, InvalidInput)
    assert opensearch.asked == []


def test_users_that_no_search_finds_are_not_taken_for_forgotten() -> None:
    text = {"fields": {"client_id": {"text": {"type": "text"}}}}
    with answering(CAPS, (200, text), (500, "not to be asked")) as opensearch:
        environment = {"NEURALRANK_OPENSEARCH_URL": opensearch.url}
        done = CliRunner().invoke(app, ["feedback", "forget", "U-17"], env=environment)
    assert isinstance(done.exception, Unsupported)
    assert "client_id of ubi_queries is of type text; needed is keyword" in str(done.exception)
    assert len(opensearch.asked) == 2

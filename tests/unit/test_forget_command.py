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


def test_what_changed_meanwhile_is_deleted_by_another_attempt() -> None:
    events = [deleted(2, conflicts=1), REFRESHED, deleted(1)]
    answers = [CAPS, CAPS, REFRESHED, *events, REFRESHED, deleted(4)]
    with answering(*answers) as opensearch:
        environment = {"NEURALRANK_OPENSEARCH_URL": opensearch.url}
        done = CliRunner().invoke(app, ["feedback", "forget", "A", "--json"], env=environment)
    assert json.loads(done.stdout) == {"events": 3, "queries": 4, "dry_run": False}
    paths = [path.partition("?")[0] for _, path, _ in opensearch.asked[2:]]
    assert paths == [
        f"/{index}/{verb}"
        for index in ("ubi_events", "ubi_events", "ubi_queries")
        for verb in ("_refresh", "_delete_by_query")
    ]


def test_what_changes_all_the_time_is_said() -> None:
    with answering(CAPS, CAPS, REFRESHED, *([deleted(1, 1), REFRESHED] * 5)) as opensearch:
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

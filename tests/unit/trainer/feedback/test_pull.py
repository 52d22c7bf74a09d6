"""What is pulled, what is left out and why, and that nothing is fetched twice or lost."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from neuralrank.errors import InvalidInput, NotFound, Overloaded, Unavailable, Unsupported
from tests.unit.trainer.feedback.scripted import Cluster, event, query
from trainer.feedback import REASONS, Limits, Logs, Pulled, Request, pieces, pull, reading
from trainer.feedback.cleaning import find_bots
from trainer.feedback.pull import moment

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REQUEST = Request("2026-01-01", "2026-01-02")


def fetch(cluster: Cluster, folder: Path, request: Request = REQUEST, **options: Any) -> Pulled:
    slept: list[float] = options.pop("slept", [])
    now: datetime = options.pop("now", NOW)
    return pull(cluster, folder, request, now=lambda: now, sleep=slept.append, **options)  # type: ignore[arg-type]


def left_out(pulled: Pulled) -> dict[str, int]:
    return {reason: count for reason, count in pulled.dropped.items() if count}


def test_counts_and_rows(tmp_path: Path) -> None:
    cluster = Cluster(
        [query(0, "q", user_id="A"), query(-1, "too-early"), query(86_400, "too-late")],
        [
            event(1, "impression", "a", place=0),
            event(1, "impression", "b", place=1),
            event(2, "click", "a", place=0),
            event(3, "add_to_cart", "a", user_id="A"),
            event(4, "purchase", "a", user_id="A"),
            event(5, "wishlist", "b", query=""),
        ],
    )
    told: list[tuple[str, int, int]] = []
    pulled = fetch(cluster, tmp_path, progress=lambda *what: told.append(what))
    assert pulled.counts == {
        "queries": 1, "impressions": 2, "clicks": 1, "carts": 1, "purchases": 1, "other": 1,
        "users": 2,
    }  # fmt: skip
    assert left_out(pulled) == {}
    assert set(pulled.dropped) == set(REASONS)
    logs = Logs.open(tmp_path)
    assert logs.queries.drop_columns(["id", "attributes"]).to_pylist() == [
        {"time": 1_767_225_600_000, "query_id": "q", "user": "A", "user_query": "kettle",
         "hits": [], "application": ""}
    ]  # fmt: skip
    assert logs.events["ordinal"].to_pylist() == [0, 1, 0, 1, 1, 1]
    assert logs.events["user"].to_pylist() == ["u", "u", "u", "A", "A", "u"]
    assert ("events", 6, 6) in told
    assert told[-1] == ("cleaning", 7, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "dropped.parquet", "events.parquet", "pull.json", "queries.parquet",
    ]  # fmt: skip
    assert not cluster.points


def test_users_are_counted_by_name_as_the_docs_say(tmp_path: Path) -> None:
    page = " ".join((Path(__file__).parents[4] / "docs/trainer.md").read_text().split())
    assert "counts twice where their queries name the device alone" in page
    signed_in = [event(1, "click", "a", user_id="A"), event(2, "click", "b", user_id="A")]
    assert fetch(Cluster([query(0, "q")], signed_in), tmp_path / "device").counts["users"] == 2
    named = [query(0, "q", user_id="A")]
    assert fetch(Cluster(named, signed_in), tmp_path / "named").counts["users"] == 1


def test_a_basket_is_a_row_for_each_item_and_one_action(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    basket = event(10, "purchase", "a")
    items = [f"item {number}" for number in range(200)]
    basket["_source"]["event_attributes"] = {"object": [{"object_id": name} for name in items]}
    cluster = Cluster([query(0, "q")], [basket, event(11, "click", "b")])
    # However pieces are cut, no basket is: an interrupted pull goes on behind whole documents.
    monkeypatch.setattr(pieces, "_ROWS", 50)
    pulled = fetch(cluster, tmp_path)
    assert left_out(pulled) == {}  # nobody is a robot for it
    assert pulled.counts["purchases"] == 200
    rows = Logs.open(tmp_path).events.to_pylist()
    assert [row["item_id"] for row in rows] == [*items, "b"]


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    robot = [
        event(100 + n, "click", "a", user="robot", query="by-robot", place=n) for n in range(4)
    ]
    slow = [event(1000 + 30 * n, "click", "a", user="slow", place=n) for n in range(4)]
    same = event(10, "click", "a")
    cluster = Cluster(
        [
            query(0, "q"),
            query(400, "late"),
            query(90, "by-robot", user="robot"),
            query(5, ""),
        ],
        [
            same,
            same | {"_id": "again", "sort": [same["sort"][0], 10**8]},
            event(10, "click", "b", user="w"),
            *robot,
            *slow,
            event(99, "click", "a", query="late", user="v"),  # 301 s before it was asked
            event(101, "click", "a", query="late", user="v"),  # 299 s
            event(20, "click", "gone", user="x"),
            event(21, "click", "", user="y"),
            event(22, "", "a"),
        ],
    )
    request = Request("2026-01-01", "2026-01-02", index="shop", limits=Limits(bot_rate=3))
    pulled = fetch(cluster, tmp_path, request)
    assert left_out(pulled) == {
        "not UBI": 1,
        "without a query_id": 1,
        "without an item": 1,
        "duplicates": 1,
        "clock skew": 1,
        "bots by rate": 5,
        "unknown items": 1,
    }
    assert pulled.counts["clicks"] == 2 + 4 + 1
    dropped = pq.read_table(tmp_path / "dropped.parquet").to_pylist()
    assert {"index": "ubi_events", "id": "again", "reason": "duplicates"} in dropped
    assert len(dropped) == 11


def test_pages_of_a_signed_in_robot_go_with_it(tmp_path: Path) -> None:
    """As OpenSearch's plugin writes them: queries name the device, events who is signed in."""
    asked = [query(20 * n, f"r{n}", user="device", query_response_hit_ids=["a"]) for n in range(3)]
    seen = [event(20 * n, "impression", "a", user="device", query=f"r{n}") for n in range(3)]
    clicked = [
        event(20 * n + k, "click", "a", user="device", query=f"r{n}", place=k, user_id="robot")
        for n in range(3)
        for k in range(4)
    ]
    cluster = Cluster(
        [*asked, query(30, "unclicked", user="device"), query(40, "q")],
        [*seen, *clicked, event(41, "click", "b")],
    )
    request = Request("2026-01-01", "2026-01-02", limits=Limits(bot_rate=5))
    assert left_out(fetch(cluster, tmp_path, request)) == {"bots by rate": 3 + 3 + 12}
    logs = Logs.open(tmp_path)
    assert logs.queries["query_id"].to_pylist() == ["unclicked", "q"]
    assert logs.events["item_id"].to_pylist() == ["b"]


def test_what_a_robot_that_is_known_by_its_queries_does_goes_with_it(tmp_path: Path) -> None:
    asked = [query(n, f"r{n}", user="device") for n in range(6)]
    clicked = event(7, "click", "a", user="device", query="r5", user_id="robot")
    cluster = Cluster([*asked, query(40, "q")], [clicked, event(41, "click", "b")])
    request = Request("2026-01-01", "2026-01-02", limits=Limits(bot_rate=5))
    assert left_out(fetch(cluster, tmp_path, request)) == {"bots by rate": 7}


def test_nobody_is_a_robot_because_a_client_logs_twice(tmp_path: Path) -> None:
    def again(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"_id": f"{row['_id']}-again", "sort": [row["sort"][0], 10**8]}

    queries = [query(n, f"q{n}") for n in range(3)]
    basket = event(9, "purchase", "a")
    basket["_source"]["event_attributes"] = {"object": [{"object_id": "a"}, {"object_id": "b"}]}
    events = [event(5, "click", "a"), event(5, "click", "b"), basket]
    cluster = Cluster(
        [*queries, *map(again, queries)],
        [*events, *map(again, events)],
    )
    request = Request("2026-01-01", "2026-01-02", limits=Limits(bot_rate=6))
    assert left_out(fetch(cluster, tmp_path / "six", request)) == {"duplicates": 3 + 4}
    fewer = Request("2026-01-01", "2026-01-02", limits=Limits(bot_rate=5))
    assert left_out(fetch(cluster, tmp_path / "five", fewer))["bots by rate"] == 7


def test_an_index_that_is_not_there_is_said_before_anything_is_pulled(tmp_path: Path) -> None:
    cluster = Cluster([query(0, "q")], [event(1, "click", "a")])
    with pytest.raises(NotFound, match="no index 'shpo'"):
        fetch(cluster, tmp_path, Request("2026-01-01", "2026-01-02", index="shpo"))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    fetch(cluster, tmp_path, Request("2026-01-01", "2026-01-02", index="shop"))


def test_what_is_from_the_future_is_left_out(tmp_path: Path) -> None:
    late = 86_400 + 301
    cluster = Cluster(
        [query(0, "q"), query(late, "later")], [event(0, "click", "a"), event(late, "click", "a")]
    )
    pulled = fetch(cluster, tmp_path, Request("2026-01-01", "2026-02-01"))
    assert left_out(pulled) == {"clock skew": 2}
    assert Logs.open(tmp_path).queries["query_id"].to_pylist() == ["q"]


def test_an_ordinal_that_is_an_id_ends_no_pull(tmp_path: Path) -> None:
    """An index without a mapping takes any number."""
    events = [event(1, "impression", "a"), event(2, "impression", "b", place=10**12)]
    fetch(Cluster([query(0, "q")], events), tmp_path)
    assert Logs.open(tmp_path).events["ordinal"].to_pylist() == [1, 2**31 - 1]


def test_events_of_no_query_are_no_older_than_a_query_without_an_id(tmp_path: Path) -> None:
    cluster = Cluster(
        [query(50_000, "")],
        [event(1, "purchase", "a", query=""), event(2, "click", "b", query="")],
    )
    pulled = fetch(cluster, tmp_path)
    assert left_out(pulled) == {"without a query_id": 1}
    assert (pulled.counts["purchases"], pulled.counts["clicks"]) == (1, 1)


def test_robots_by_rate_in_any_minute() -> None:
    """4 actions in 59.999 s are too many for a rate of 3; in 60 s they are not."""
    fast = [("fast", 1_000), ("fast", 1_001), ("fast", 1_002), ("fast", 60_999)]
    slow = [("slow", 1_000), ("slow", 1_001), ("slow", 1_002), ("slow", 61_000)]
    nobody = [("", n) for n in range(100)]
    everything = sorted(fast + slow + nobody, key=lambda row: row[1])
    assert find_bots(everything, 3) == {"fast"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_BATCH", 3)
    monkeypatch.setattr(pieces, "_ROWS", 4)


def many() -> Cluster:
    """20 events at 5 moments, so that ties lie across batches and pieces."""
    return Cluster([query(0, "q")], [event(n // 4, "click", "a", place=n) for n in range(20)])


def places(folder: Path) -> list[int]:
    return sorted(Logs.open(folder).events["ordinal"].to_pylist())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("searches", range(8))
def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, searches: int) -> None:
    cluster = many()
    cluster.interrupt_after = searches
    with pytest.raises(KeyboardInterrupt, match="Run the same command again"):
        fetch(cluster, tmp_path)
    with pytest.raises(InvalidInput, match="was interrupted"):
        Logs.open(tmp_path)
    before = cluster.searches
    cluster.interrupt_after = -1
    fetch(cluster, tmp_path)
    assert places(tmp_path) == list(range(20))
    # At most what shares the last moment is read again.
    assert cluster.searches - before <= 11 - searches
    assert not cluster.points


@pytest.mark.usefixtures("small")
def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    """Else each would take the other's pieces for its own, and delete them."""
    cluster = many()
    refused: list[str] = []

    def another(*_: object) -> None:
        if not refused:
            with pytest.raises(Overloaded) as error:
                fetch(cluster, tmp_path)
            refused.append(str(error.value))

    fetch(cluster, tmp_path, progress=another)
    assert refused == [
        f"Another pull works in {tmp_path}. Wait for it, stop it, or name another folder."
    ]
    assert places(tmp_path) == list(range(20))
    assert fetch(cluster, tmp_path).complete  # it lets go


@pytest.mark.usefixtures("small")
def test_killed_between_two_pieces_and_within_one(tmp_path: Path) -> None:
    """A kill leaves whole pieces, maybe a temporary file, and no last piece."""
    cluster = many()
    cluster.interrupt_after = 6
    with pytest.raises(KeyboardInterrupt):
        fetch(cluster, tmp_path)
    cluster.interrupt_after = -1
    last = sorted((tmp_path / "raw").glob("events-*"))[-1]
    last.rename(last.with_name(".half"))
    fetch(cluster, tmp_path)
    assert places(tmp_path) == list(range(20))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("how", ["down", "gone"])
def test_an_opensearch_that_comes_back_is_waited_for(tmp_path: Path, how: str) -> None:
    cluster, slept = many(), list[float]()

    def fail(what: str, done: int, _total: int) -> None:
        if what == "events" and done == 6:
            setattr(cluster, how, 3)

    fetch(cluster, tmp_path, progress=fail, slept=slept)
    assert places(tmp_path) == list(range(20))
    assert slept == [0.5, 1.0, 2.0]


@pytest.mark.usefixtures("small")
def test_an_opensearch_that_stays_away_is_given_up_and_what_is_there_is_kept(
    tmp_path: Path,
) -> None:
    cluster, slept = many(), list[float]()

    def fail(what: str, done: int, _total: int) -> None:
        if what == "events" and done == 6:
            cluster.down = -1

    with pytest.raises(Unavailable) as caught:
        fetch(cluster, tmp_path, progress=fail, slept=slept)
    assert "Kept are 7 documents" in str(caught.value)
    assert "Run the same command again" in str(caught.value)
    assert 60 <= sum(slept) < 75
    cluster.down = 0
    assert fetch(cluster, tmp_path).counts["clicks"] == 20


def test_a_complete_pull_is_not_done_again(tmp_path: Path) -> None:
    cluster = many()
    first = fetch(cluster, tmp_path)
    cluster.down = -1
    assert fetch(cluster, tmp_path) == first


def test_now_moves_on_and_a_finished_pull_with_it(tmp_path: Path) -> None:
    """The same command every night into the same folder brings the last week of that night."""
    cluster = Cluster([query(0, "q")], [event(1, "click", "a"), event(90_000, "click", "b")])
    request = Request("now-1d", "now")
    assert fetch(cluster, tmp_path, request).counts["clicks"] == 1
    (tmp_path / "raw").mkdir()  # of a kill at the very end
    (tmp_path / "raw/events-000000.parquet").write_bytes(b"old")
    later = fetch(cluster, tmp_path, request, now=NOW + timedelta(hours=2))
    assert (later.since, later.until) == (
        "2026-01-01T02:00:00+00:00", "2026-01-02T02:00:00+00:00",
    )  # fmt: skip
    assert Logs.open(tmp_path).events["item_id"].to_pylist() == ["b"]


def test_a_window_that_is_not_over_yet_is_pulled_again(tmp_path: Path) -> None:
    cluster = Cluster([query(0, "q")], [event(1, "click", "a")])
    request = Request("2026-01-01", "2026-02-01")
    assert fetch(cluster, tmp_path, request).counts["clicks"] == 1
    cluster.documents["ubi_events"].append(event(90_000, "click", "b"))
    assert fetch(cluster, tmp_path, request, now=NOW + timedelta(hours=2)).counts["clicks"] == 2
    over = fetch(cluster, tmp_path, request, now=NOW + timedelta(days=60))
    assert over.counts["clicks"] == 2
    cluster.down = -1
    assert fetch(cluster, tmp_path, request, now=NOW + timedelta(days=61)) == over


def test_an_interrupted_pull_up_to_now_keeps_its_times(tmp_path: Path) -> None:
    cluster = many()
    cluster.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        fetch(cluster, tmp_path, Request("now-1d", "now"))
    cluster.interrupt_after = -1
    pulled = fetch(cluster, tmp_path, Request("now-1d", "now"), now=NOW + timedelta(hours=2))
    assert pulled.until == NOW.isoformat()


def full_disk(*_arguments: object, **_options: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces.pq, "write_table", full_disk)
    with pytest.raises(Unsupported, match=r"is full\. Kept are 0 documents"):
        fetch(many(), tmp_path)


def another_window(cluster: Cluster, folder: Path) -> None:
    fetch(cluster, folder)
    fetch(cluster, folder, Request("2026-01-01", "2026-01-03"))


def another_index(cluster: Cluster, folder: Path) -> None:
    fetch(cluster, folder)
    fetch(cluster, folder, Request("2026-01-01", "2026-01-02", index="shop"))


def another_bot_rate(cluster: Cluster, folder: Path) -> None:
    cluster.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        fetch(cluster, folder)
    fetch(cluster, folder, Request("2026-01-01", "2026-01-02", limits=Limits(bot_rate=3)))


def another_skew(cluster: Cluster, folder: Path) -> None:
    fetch(cluster, folder)
    fetch(cluster, folder, Request("2026-01-01", "2026-01-02", limits=Limits(skew=1.0)))


def no_events(cluster: Cluster, folder: Path) -> None:
    fetch(cluster, folder, Request("2025-01-01", "2025-02-01"))


def an_empty_index(_cluster: Cluster, folder: Path) -> None:
    fetch(Cluster([query(0, "q")]), folder)


def backwards(cluster: Cluster, folder: Path) -> None:
    fetch(cluster, folder, Request("2026-01-02", "2026-01-01"))


def no_time(cluster: Cluster, folder: Path) -> None:
    fetch(cluster, folder, Request("yesterday", "now"))


def something_else(cluster: Cluster, folder: Path) -> None:
    (folder / "letters.txt").write_text("dear")
    fetch(cluster, folder)


def test_a_window_without_events_is_said_whatever_times_others_log(tmp_path: Path) -> None:
    """A client that logs microseconds is in the year 58,000."""
    micro = event(0, "click", "a") | {"sort": [1_767_225_600_000_000, 1]}
    cluster = Cluster(events=[micro, event(5, "click", "a")])
    where = "ubi_events has some from 2026-01-01T00:00:05.* to 2026-01-01T00:00:05"
    with pytest.raises(InvalidInput, match=where):
        fetch(cluster, tmp_path / "a", Request("2025-01-01", "2025-01-02"))
    where = "none of the 1 in ubi_events has a `timestamp` of the years 1 to 9999"
    with pytest.raises(InvalidInput, match=where):
        fetch(Cluster(events=[micro]), tmp_path / "b")


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (another_window, "holds a pull from 2026-01-01 until 2026-01-02"),
        (another_index, "holds a pull with no --index; asked for is --index shop"),
        (another_bot_rate, "with --bot-rate 60; asked for is --bot-rate 3. Name another folder"),
        (another_skew, "with --clock-skew 300.0; asked for is --clock-skew 1.0"),
        (no_events, "ubi_events has some from 2026-01-01T00:00:00.* to 2026-01-01T00:00:04"),
        (an_empty_index, "There are no events in the window .*: ubi_events is empty"),
        (backwards, "The window is empty"),
        (no_time, "--from got 'yesterday'; allowed is ISO 8601"),
        (something_else, "holds something else"),
    ],
)
def test_wrong_use_says_what_to_do(
    tmp_path: Path, do: Callable[[Cluster, Path], None], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        do(many(), tmp_path)


def test_no_ubi_at_all(tmp_path: Path) -> None:
    cluster = many()
    del cluster.documents["ubi_events"]
    with pytest.raises(NotFound, match="neuralrank config apply"):
        fetch(cluster, tmp_path)
    with pytest.raises(NotFound, match="neuralrank train pull"):
        Logs.open(tmp_path)


def test_times_of_another_type_are_no_empty_window(tmp_path: Path) -> None:
    """In nanoseconds every document was "not UBI", as text none was in the window."""
    cluster = many()
    cluster.types["timestamp"] = "date_nanos"
    with pytest.raises(Unsupported, match="timestamp of ubi_queries is of type date_nanos; needed"):
        fetch(cluster, tmp_path)


def test_several_pulls_are_one_and_a_document_counts_once(tmp_path: Path) -> None:
    cluster = many()
    fetch(cluster, tmp_path / "a", Request("2026-01-01", "2026-01-01T00:00:03"))
    fetch(cluster, tmp_path / "b", Request("2026-01-01T00:00:02", "2026-01-02"))
    logs = Logs.open(tmp_path / "b", tmp_path / "a")
    assert sorted(logs.events["ordinal"].to_pylist()) == list(range(20))
    times = logs.events["time"].to_pylist()
    assert times == sorted(times)
    assert (logs.since[:10], logs.until[:10]) == ("2026-01-01", "2026-01-02")


def test_several_pulls_keep_all_items_of_a_basket(tmp_path: Path) -> None:
    def basket(at: float) -> dict[str, Any]:
        row = event(at, "purchase", "")
        row["_source"]["event_attributes"] = {"object": [{"object_id": "a"}, {"object_id": "b"}]}
        return row

    cluster = Cluster([query(0, "q")], [basket(1), basket(3), basket(5)])
    fetch(cluster, tmp_path / "a", Request("2026-01-01", "2026-01-01T00:00:04"))
    fetch(cluster, tmp_path / "b", Request("2026-01-01T00:00:02", "2026-01-02"))
    events = Logs.open(tmp_path / "a", tmp_path / "b").events
    assert sorted(events["item_id"].to_pylist()) == ["a", "a", "a", "b", "b", "b"]
    assert len(set(events["id"].to_pylist())) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("now-36h", datetime(2025, 12, 31, 12, tzinfo=UTC)),
        ("now-2w", datetime(2025, 12, 19, tzinfo=UTC)),
        ("2026-01-01T01:00:00+01:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert moment(text, NOW, "--from") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("now-9999999d", "--from got 'now-9999999d', which is before the year 1"),
        ("now-99999999999999999999w", "before the year 1"),
        ("now-²d", "--from got 'now-²d'; allowed is ISO 8601"),
        ("0001-01-01T00:00:00+10:00", "of the years 1 to 9999 in UTC"),
        ("9999-12-31T23:00:00-10:00", "of the years 1 to 9999 in UTC"),
    ],
)
def test_times_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        moment(text, NOW, "--from")


def test_a_count_without_a_shard_is_no_empty_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Cluster, "count", lambda *_, **__: {"count": 0, "_shards": {"total": 2, "failed": 1}}
    )
    with pytest.raises(Unavailable, match="1 of 2 shards of ubi_queries did not answer"):
        fetch(many(), tmp_path)


def test_a_damaged_description_is_said_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "pull.json").write_text('{"asked_since": 1}')
    with pytest.raises(InvalidInput) as caught:
        Logs.open(tmp_path)
    said = str(caught.value)
    assert (
        "pull.json: asked_since: got 1; input should be a valid string. Delete the folder" in said
    )
    assert "\n" not in said

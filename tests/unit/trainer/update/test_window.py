"""Rounds over a log that goes on while they run: nothing is lost or counted twice at a seam."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput, NotFound
from tests.unit.trainer.feedback.scripted import START, Cluster, event, query
from trainer.dataset.pages import read_pages
from trainer.feedback import Limits, Logs
from trainer.update.window import Window, pull_window

LIMITS = Limits(bot_rate=10_000)


def at(seconds: float) -> str:
    return datetime.fromtimestamp(START / 1000 + seconds, UTC).isoformat()


class Living(Cluster):
    """A cluster whose documents are found some time after they happened. `shelf`: index, seconds
    from which on it is found, document."""

    def __init__(self, shelf: list[tuple[str, float, dict[str, Any]]]) -> None:
        super().__init__()
        self._shelf = shelf

    def until(self, seconds: float) -> "Living":
        for name in self.documents:
            self.documents[name] = [
                row for index, found, row in self._shelf if index == name and found < seconds
            ]
        return self


def rounds(cluster: Living, folder: Path, ends: list[float], lag: float) -> list[Logs]:
    """One after the other at these seconds; without events, a window is left to the next."""
    found: list[Logs] = []
    since, before = 0.0, None
    for number, now in enumerate(ends):
        if now - lag <= since:
            continue
        window = Window(at(since), at(now - lag), at(now), before)
        logs = folder / str(number)
        if pull_window(cluster.until(now), window, logs, "", LIMITS) is not None:  # type: ignore[arg-type]
            since, before = now - lag, logs
            found.append(Logs.open(logs))
    return found


def test_a_page_is_bought_from_after_the_end_of_its_window(tmp_path: Path) -> None:
    shown = [event(50, "impression", "a", place=1), event(50, "impression", "b", place=2)]
    bought = event(70, "purchase", "a")
    other = [event(75, "click", "b", user="v", query=""), event(90, "impression", "a", query="r")]
    shelf = [("ubi_queries", 50.0, query(50, "q"))]
    shelf += [("ubi_events", row["sort"][0] / 1000 - START / 1000, row) for row in shown]
    shelf += [("ubi_events", 0.0, row) for row in [bought, *other]]
    first, second = rounds(Living(shelf), tmp_path, [80.0, 200.0], lag=20.0)
    (page,) = read_pages(first, {"a", "b"}, Counter())
    assert page.outcomes == {"a": 3}
    assert (first.since, first.until) == (at(0), at(60))
    # What is of no page, or of a later one, is of the round in which it happened.
    assert second.events["id"].to_pylist() == [row["_id"] for row in other]
    assert not second.queries.num_rows
    assert first.pulled[0].counts == {
        "queries": 1, "impressions": 2, "clicks": 0, "carts": 0, "purchases": 1, "other": 0,
        "users": 1,
    }  # fmt: skip
    assert not (tmp_path / "0/pulled").exists()


def test_what_is_indexed_late_is_taken_by_the_next_round(tmp_path: Path) -> None:
    shelf = [
        ("ubi_events", 0.0, event(10, "impression", "a")),
        ("ubi_events", 95.0, event(55, "click", "b", query="")),  # found when its round is over
        ("ubi_events", 100.0, event(100, "click", "a", query="")),
    ]
    first, second = rounds(Living(shelf), tmp_path, [80.0, 200.0], lag=20.0)
    assert first.events["item_id"].to_pylist() == ["a"]
    assert second.events["item_id"].to_pylist() == ["b", "a"]


def test_a_query_and_an_event_may_have_the_same_id(tmp_path: Path) -> None:
    shelf = [
        ("ubi_queries", 0.0, query(50, "q") | {"_id": "1"}),
        ("ubi_events", 0.0, event(51, "impression", "a")),
        ("ubi_events", 0.0, event(70, "click", "b", query="") | {"_id": "1"}),
    ]
    first, second = rounds(Living(shelf), tmp_path, [80.0, 200.0], lag=20.0)
    assert first.queries["id"].to_pylist() == second.events["id"].to_pylist() == ["1"]


pages = st.lists(
    st.tuples(
        st.integers(0, 300),  # when it is shown
        st.booleans(),  # whether its query is logged
        st.lists(st.integers(0, 30), max_size=3),  # clicks, seconds after
        st.booleans(),  # whether it is a page at all, or acts of none
        st.integers(0, 29),  # how late the index is
    ),
    min_size=1,
    max_size=8,
)


@given(pages, st.lists(st.integers(1, 400), max_size=8), st.sampled_from([0, 5, 60]))
@settings(max_examples=60)
def test_nothing_is_lost_or_counted_twice_at_any_seam(
    shown: list[tuple[int, bool, list[int], bool, int]], seams: list[int], lag: int
) -> None:
    """Each event is in one round; and with a lag that is longer than clicks and index take, whole
    pages are."""
    shelf: list[tuple[str, float, dict[str, Any]]] = []
    for number, (time, logged, clicks, paged, late) in enumerate(shown):
        name = f"q{number}" if paged else ""
        user = f"u{number}"
        rows = [event(time, "impression", "a", user, name, number)]
        rows += [event(time + s, "click", "a", user, name, n) for n, s in enumerate(clicks)]
        if paged and logged:
            shelf.append(("ubi_queries", time + late, query(time, name, user)))
        shelf += [("ubi_events", row["sort"][0] / 1000 - START / 1000 + late, row) for row in rows]
    every = [row["_id"] for index, _, row in shelf if index == "ubi_events"]
    ends = sorted({*map(float, seams), 1_000.0})
    with TemporaryDirectory() as folder:
        found = rounds(Living(shelf), Path(folder), ends, float(lag))
    seen = [name for logs in found for name in logs.events["id"].to_pylist()]
    assert len(seen) == len(set(seen))
    if lag == 60:
        assert sorted(seen) == sorted(every)
        of_page = [
            name for logs in found for name in set(logs.events["query_id"].to_pylist()) - {""}
        ]
        assert len(of_page) == len(set(of_page))  # a page is in one round


def test_an_interrupted_round_goes_on_and_is_not_cut_twice(tmp_path: Path) -> None:
    shelf = [("ubi_events", 0.0, event(n, "click", "a", place=n)) for n in range(5)]
    cluster = Living(shelf).until(100)
    window = Window(at(0), at(50), at(60))
    cluster.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        pull_window(cluster, window, tmp_path, "", LIMITS)  # type: ignore[arg-type]
    cluster.interrupt_after = -1
    counts = pull_window(cluster, window, tmp_path, "", LIMITS)  # type: ignore[arg-type]
    assert counts is not None
    assert counts["clicks"] == 5
    cluster.down = -1
    assert pull_window(cluster, window, tmp_path, "", LIMITS) == counts  # type: ignore[arg-type]


def test_what_is_there_of_another_window_is_not_this_one_s(tmp_path: Path) -> None:
    shelf = [("ubi_events", 0.0, event(n, "click", "a", place=n)) for n in (5, 15)]
    cluster = Living(shelf).until(100)
    for end, clicks in ((10, 1), (20, 2)):
        window = Window(at(0), at(end), at(end + 5))
        counts = pull_window(cluster, window, tmp_path / "logs", "", LIMITS)  # type: ignore[arg-type]
        assert counts is not None
        assert counts["clicks"] == clicks == Logs.open(tmp_path / "logs").events.num_rows


def test_logs_without_a_note_of_what_was_taken_and_a_damaged_note(tmp_path: Path) -> None:
    cluster = Living([("ubi_events", 0.0, event(n, "click", "a", place=n)) for n in (45, 55)])
    (tmp_path / "old").mkdir()  # of an earlier version
    window = Window(at(50), at(60), at(70), tmp_path / "old")
    counts = pull_window(cluster.until(100), window, tmp_path / "new", "", LIMITS)  # type: ignore[arg-type]
    assert counts is not None
    assert counts["clicks"] == 1
    (tmp_path / "new/taken.parquet").write_bytes(b"half")
    window = Window(at(60), at(70), at(80), tmp_path / "new")
    with pytest.raises(InvalidInput, match=r"taken\.parquet can't be read.*another --out folder"):
        pull_window(cluster, window, tmp_path / "third", "", LIMITS)  # type: ignore[arg-type]
    del cluster.documents["ubi_events"]
    with pytest.raises(NotFound):
        pull_window(cluster, replace(window, before=None), tmp_path / "third", "", LIMITS)  # type: ignore[arg-type]

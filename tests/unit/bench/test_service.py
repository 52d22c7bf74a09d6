"""A line of the table of load."""

from collections import Counter

from bench.load import Tally, merged
from bench.sidecar.service import _row


def test_what_ended_by_the_callers_own_timeout_is_lost_and_nothing_counts_twice() -> None:
    statuses = Counter(OK=90, RESOURCE_EXHAUSTED=4, INTERNAL=3, DEADLINE_EXCEEDED=2)
    row = _row("x", Tally(at=1.0, sent=100, statuses=statuses, ms=[1.0] * 90))
    assert (row["refused %"], row["failed %"], row["lost"]) == (4.0, 3.0, 3)


def test_how_late_the_generator_was_is_known_only_where_something_was_to_leave_on_time() -> None:
    closed, early, late = Tally(), Tally(late_ms=1.0), Tally(late_ms=2.04)
    assert _row("4 callers", merged([closed, closed]))["generator late ms"] is None
    assert _row("8/s", merged([early, late, closed]))["generator late ms"] == 2.0

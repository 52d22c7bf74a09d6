"""Which rows of a log are no one's wish: robots, clocks that go wrong, what was logged twice.

Both kinds of rows come in order of time and one piece at a time. What is kept in memory: of each
query its id and time, of each user the times of the last actions, and the items' ids.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "BOT",
    "CLOCK_SKEW",
    "DUPLICATE",
    "NOT_UBI",
    "NO_ITEM",
    "NO_QUERY",
    "REASONS",
    "UNKNOWN_ITEM",
    "Limits",
    "Verdicts",
    "actions",
    "find_bots",
    "pages_of",
]

NOT_UBI: Final = "not UBI"
DUPLICATE: Final = "duplicates"
CLOCK_SKEW: Final = "clock skew"
BOT: Final = "bots by rate"
NO_ITEM: Final = "without an item"
NO_QUERY: Final = "without a query_id"
UNKNOWN_ITEM: Final = "unknown items"
# In the order in which they are looked for: each row has one.
REASONS: Final = (NOT_UBI, NO_QUERY, NO_ITEM, DUPLICATE, CLOCK_SKEW, BOT, UNKNOWN_ITEM)

_IMPRESSION: Final = "impression"
_MINUTE_MS: Final = 60_000
# What makes two rows of one time the same.
_OF_QUERIES: Final = ("query_id", "user", "user_query", "hits")
_OF_EVENTS: Final = ("action", "user", "query_id", "user_query", "item_id", "ordinal")


@dataclass(frozen=True)
class Limits:
    """What is still a person, and a clock that goes right."""

    # Queries and actions (impressions do not count: a page logs many at once) of one user within
    # any 60 seconds. Who does more, once, is a robot, and all that they did is left out.
    bot_rate: int = 60
    # Seconds. An event that is so much older than the query that it belongs to, or lies so far
    # ahead of the time of the pull, has a wrong time.
    skew: float = 300.0


def find_bots(actions: Iterable[tuple[str, int]], rate: int) -> set[str]:
    """Users with more than `rate` actions within some 60 seconds.

    Args:
        actions: user and time (ms), in order of time; "" is nobody and no robot.
    """
    last: dict[str, deque[int]] = {}
    bots: set[str] = set()
    for user, time in actions:
        if not user or user in bots:
            continue
        times = last.setdefault(user, deque(maxlen=rate + 1))
        times.append(time)
        if len(times) > rate and time - times[0] < _MINUTE_MS:
            bots.add(user)
            del last[user]
    return bots


class Verdicts:
    """Says of each row why it is left out; "" where it is not."""

    def __init__(
        self,
        bots: set[str],
        their_pages: set[str],
        asked: dict[str, int],
        unknown: set[str],
        now: int,
        limits: Limits,
    ) -> None:
        """
        Args:
            bots: users whose rows are left out.
            their_pages: queries of which all rows are left out, by query_id.
            asked: when each query was asked, ms.
            unknown: items that are not there.
            now: when the pull began, ms.
        """
        self._bots, self._their_pages = bots, their_pages
        self._asked, self._unknown = asked, unknown
        self._skew = round(limits.skew * 1000)
        self._latest = now + self._skew
        self._earlier = _Earlier()
        self.counts: Counter[str] = Counter()

    def of_queries(self, table: pa.Table) -> list[str]:
        return self._all(table, self._query)

    def of_events(self, table: pa.Table) -> list[str]:
        return self._all(table, self._event)

    def next_table(self) -> None:
        """Duplicates are looked for anew."""
        self._earlier = _Earlier()

    def _all(self, table: pa.Table, one: Any) -> list[str]:
        found = [one(row) for row in table.to_pylist()]
        self.counts.update(reason for reason in found if reason)
        return found

    def _query(self, row: dict[str, Any]) -> str:
        if row["problem"]:
            return str(row["problem"])
        if self._earlier.has(row, _OF_QUERIES):
            return DUPLICATE
        if row["time"] > self._latest:
            return CLOCK_SKEW
        return BOT if self._of_a_bot(row) else ""

    def _event(self, row: dict[str, Any]) -> str:
        if row["problem"]:
            return str(row["problem"])
        if self._earlier.has(row, _OF_EVENTS):
            return DUPLICATE
        asked = self._asked.get(row["query_id"], row["time"])
        if row["time"] > self._latest or row["time"] < asked - self._skew:
            return CLOCK_SKEW
        if self._of_a_bot(row):
            return BOT
        return UNKNOWN_ITEM if row["item_id"] in self._unknown else ""

    def _of_a_bot(self, row: dict[str, Any]) -> bool:
        return row["user"] in self._bots or row["query_id"] in self._their_pages


class _Earlier:
    """The rows of one time; those of the time before are forgotten, since rows come in order."""

    def __init__(self) -> None:
        self._time = -1
        self._rows: set[tuple[str, ...]] = set()

    def has(self, row: dict[str, Any], names: tuple[str, ...]) -> bool:
        """Whether there was one with the same in these columns; from now on there is."""
        if row["time"] != self._time:
            self._time, self._rows = row["time"], set()
        content = tuple(repr(row[name]) for name in names)
        known = content in self._rows
        self._rows.add(content)
        return known


def actions(tables: Iterable[pa.Table]) -> Iterator[tuple[str, int]]:
    """User and time of what a user did: queries, and events but impressions. What was logged twice
    counts once, as does a basket, however many items it has."""
    earlier, before = _Earlier(), None
    for table in tables:
        kept: pa.Table = table
        names: tuple[str, ...] = _OF_QUERIES
        if "action" in table.column_names:
            kept, names = table.filter(pc.not_equal(table["action"], _IMPRESSION)), _OF_EVENTS
        for row in kept.select(["id", "time", *names]).to_pylist():
            if row["user"] and not earlier.has(row, names) and row["id"] != before:
                yield row["user"], row["time"]
                before = row["id"]


def pages_of(bots: set[str], tables: Iterable[pa.Table]) -> set[str]:
    """Queries of these users, and those on which they acted, by query_id. Of who is signed in, a
    query often names the device alone, and events the user."""
    found: set[str] = set()
    names = pa.array(sorted(bots), pa.string())
    for table in tables:
        theirs = table.filter(pc.is_in(table["user"], names))
        found.update(pc.unique(theirs["query_id"]).to_pylist())
    return found - {"", None}

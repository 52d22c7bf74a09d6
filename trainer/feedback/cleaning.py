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
    "find_bots",
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
        self, bots: set[str], asked: dict[str, int], unknown: set[str], now: int, limits: Limits
    ) -> None:
        """
        Args:
            bots: users whose rows are left out.
            asked: when each query was asked, ms.
            unknown: items that are not there.
            now: when the pull began, ms.
        """
        self._bots, self._asked, self._unknown = bots, asked, unknown
        self._skew = round(limits.skew * 1000)
        self._latest = now + self._skew
        self._same: tuple[int, set[Any]] = (-1, set())
        self.counts: Counter[str] = Counter()

    def of_queries(self, table: pa.Table) -> list[str]:
        return self._all(table, self._query)

    def of_events(self, table: pa.Table) -> list[str]:
        return self._all(table, self._event)

    def next_table(self) -> None:
        """Duplicates are looked for anew."""
        self._same = (-1, set())

    def _all(self, table: pa.Table, one: Any) -> list[str]:
        found = [one(row) for row in table.to_pylist()]
        self.counts.update(reason for reason in found if reason)
        return found

    def _query(self, row: dict[str, Any]) -> str:
        if row["problem"]:
            return str(row["problem"])
        content = (row["query_id"], row["user"], row["user_query"], tuple(row["hits"]))
        if self._seen(row["time"], content):
            return DUPLICATE
        if row["time"] > self._latest:
            return CLOCK_SKEW
        return BOT if row["user"] in self._bots else ""

    def _event(self, row: dict[str, Any]) -> str:
        if row["problem"]:
            return str(row["problem"])
        names = ("action", "user", "query_id", "user_query", "item_id", "ordinal")
        if self._seen(row["time"], tuple(row[name] for name in names)):
            return DUPLICATE
        asked = self._asked.get(row["query_id"], row["time"])
        if row["time"] > self._latest or row["time"] < asked - self._skew:
            return CLOCK_SKEW
        if row["user"] in self._bots:
            return BOT
        return UNKNOWN_ITEM if row["item_id"] in self._unknown else ""

    def _seen(self, time: int, content: Any) -> bool:
        """Whether there was one of the same time and content; rows come in order of time."""
        if self._same[0] != time:
            self._same = (time, set())
        if content in self._same[1]:
            return True
        self._same[1].add(content)
        return False


def actions(tables: Iterable[pa.Table]) -> Iterator[tuple[str, int]]:
    """User and time of what a user did: queries, and events but impressions."""
    for table in tables:
        kept = table
        if "action" in table.column_names:
            kept = table.filter(pc.not_equal(table["action"], _IMPRESSION))
        before = None
        for name, user, at in zip(
            *(kept[column].to_pylist() for column in ("id", "user", "time")), strict=True
        ):
            # A basket is one action, however many items it has.
            if name != before:
                yield user, at
            before = name

"""The logs of one round: every row in one round, and every page with all that came of it.

A page that is shown before a round's end is clicked after it, and events take a while until they
are in the index. So a round ends some time (the lag) before the present, and what it reads goes on
to the present:

    begin      since                     until      seen
      |·· lag ···|······ pages of this round ··|·· lag ···|  now

A page belongs to the round in which it was shown, with its events up to `seen`; an event of no page
to the round in which it happened. What an earlier round took is known by its id and not taken
again; what came too late for its own round, by the index or by the user, is taken by the next one.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.files.whole import whole_file
from trainer.dataset.checks import iso, milliseconds
from trainer.feedback import Limits, Logs, Pulled, Request, pull
from trainer.feedback.logs import read_pulled, write_pulled
from trainer.feedback.pull import Progress, counted, summary
from trainer.feedback.reading import Reader

__all__ = ["Window", "pull_window"]

_PULLED: Final = "pulled"
_TAKEN: Final = "taken.parquet"
_ROWS: Final = pa.schema([("table", pa.string()), ("id", pa.string()), ("time", pa.int64())])
_SINCE: Final = b"since"
_LIMITS: Final = Limits()


@dataclass(frozen=True)
class Window:
    """What a round reads; times are ISO 8601."""

    # Pages that were shown from then on, and before then.
    since: str
    until: str
    # Their events before then.
    seen: str
    # The logs of the round before. None: there was none.
    before: Path | None = None


@dataclass(frozen=True)
class _Taken:
    """Rows that rounds took, of those that a later one may see again.

    `since`, ms: all of that time and later are here; what is older is not looked at again.
    """

    rows: pa.Table  # _ROWS; two tables may have the same id
    since: int

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """None where nothing was written: an earlier version made these logs."""
        path = folder / _TAKEN
        if not path.is_file():
            return None
        try:
            rows = pq.read_table(path, schema=_ROWS)
            return cls(rows, int((pq.read_schema(path).metadata or {})[_SINCE]))
        except (KeyError, ValueError, pa.ArrowException, OSError) as error:
            raise InvalidInput(
                f"{path} can't be read: {error}. Begin anew with another --out folder."
            ) from error

    def write(self, folder: Path) -> None:
        marked = self.rows.replace_schema_metadata({_SINCE: str(self.since).encode()})
        with whole_file(folder / _TAKEN) as file:
            pq.write_table(marked, file, compression="zstd")


def pull_window(
    client: OpenSearch,
    window: Window,
    folder: Path,
    index: str,
    limits: Limits = _LIMITS,
    progress: Progress | None = None,
) -> Mapping[str, int] | None:
    """Brings the logs of a round to a folder, as `trainer.feedback.Logs`.

    Interrupted at any point, the same call goes on where it was; what is there of another window
    goes.

    Args:
        index: events on items that it does not hold are left out. "": none are.

    Returns:
        Counts as of a pull; None where the round has no events.

    Raises:
        as `trainer.feedback.pull`.
    """
    done = read_pulled(folder)
    if done is not None:
        if (done.since, done.until) == (window.since, window.until):
            return done.counts
        shutil.rmtree(folder)
    until, seen = milliseconds(window.until, "until"), milliseconds(window.seen, "seen")
    begin = milliseconds(window.since, "since")
    taken = _Taken.open(window.before) if window.before is not None else None
    if taken is not None:
        begin = max(begin - (seen - until), taken.since)
    if not Reader(client, ubi.EVENTS_INDEX, seen, ()).count(begin):
        return None
    request = Request(iso(begin), window.seen, index, limits)
    pull(client, folder / _PULLED, request, progress=progress)
    return _cut(Logs.open(folder / _PULLED), taken, window, folder)


def _cut(
    logs: Logs, taken: _Taken | None, window: Window, folder: Path
) -> Mapping[str, int] | None:
    """Writes what of the pulled logs is this round's, and what was taken so far; None where there
    is no event."""
    until = milliseconds(window.until, "until")
    lag = milliseconds(window.seen, "seen") - until
    before = taken.rows if taken is not None else _ROWS.empty_table()
    shown = _shown(logs)
    tables = {
        name: table.filter(_mine(name, table, before, shown, until))
        for name, table in (("queries", logs.queries), ("events", logs.events))
    }
    queries, events = tables["queries"], tables["events"]
    if not events.num_rows:
        return None
    found = pa.concat_tables([before, *(_rows(name, table) for name, table in tables.items())])
    since = until - lag
    again = found.filter(pc.greater_equal(found["time"], since))
    users = {user for table in tables.values() for user in pc.unique(table["user"]).to_pylist()}
    counts = summary(counted(queries) + counted(events), users)
    (pulled,) = logs.pulled
    try:
        for name, table in tables.items():
            with whole_file(folder / f"{name}.parquet") as file:
                pq.write_table(table, file, compression="zstd")
        _Taken(again, since).write(folder)
        whole = Pulled(
            asked_since=window.since,
            asked_until=window.until,
            since=window.since,
            until=window.until,
            complete=True,
            counts=counts,
            dropped=pulled.dropped,
        )
        write_pulled(folder, whole)
    except OSError as error:
        raise Unsupported(f"{folder} can't be written: {error}.") from error
    shutil.rmtree(folder / _PULLED, ignore_errors=True)
    return counts


def _shown(logs: Logs) -> dict[str, int]:
    """When each page was shown, ms: when its query was asked, else its first event."""
    times: dict[str, int] = {}
    for table in (logs.queries, logs.events):
        rows = zip(table["query_id"].to_pylist(), table["time"].to_pylist(), strict=True)
        for query, time in rows:
            times.setdefault(query, time)
    return times


def _rows(name: str, table: pa.Table) -> pa.Table:
    names = pa.repeat(name, table.num_rows)
    return pa.table([names, table["id"], table["time"]], schema=_ROWS)


def _mine(
    name: str, table: pa.Table, before: pa.Table, shown: Mapping[str, int], until: int
) -> pa.Array:
    """Which rows are this round's: of pages (or, of none, themselves) before its end, and not taken
    yet."""
    rows = zip(table["query_id"].to_pylist(), table["time"].to_pylist(), strict=True)
    early = [(shown[query] if query else time) < until for query, time in rows]
    known = before.filter(pc.equal(before["table"], name))["id"]
    fresh = pc.invert(pc.is_in(table["id"], known))
    return pc.and_(pa.array(early, pa.bool_()), fresh)

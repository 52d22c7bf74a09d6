"""From OpenSearch's UBI indexes to a folder of Parquet (`trainer.feedback.logs`).

First the documents as they are, in pieces; then all of them are looked through and what is no one's
wish is left out and counted. Interrupted at any point, the same call goes on where it was.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.errors import InvalidInput, NeuralrankError, NotFound, Overloaded, Unsupported
from neuralrank.files.exclusive import exclusive
from neuralrank.files.full_disk import out_of_room
from neuralrank.judging import unknown_items
from neuralrank.ubi.fields import require_fields
from trainer.dataset.checks import iso, milliseconds
from trainer.feedback.cleaning import (
    REASONS,
    Limits,
    Verdicts,
    actions,
    find_bots,
    pages_of,
)
from trainer.feedback.logs import DROPPED, EVENTS, QUERIES, Pulled, read_pulled, write_pulled
from trainer.feedback.pieces import Pieces
from trainer.feedback.reading import Reader
from trainer.feedback.rows import EVENT_FIELDS, QUERY_FIELDS, event_rows, query_rows

__all__ = ["Progress", "Request", "counted", "moment", "pull", "summary"]

_RAW: Final = "raw"
_COUNTED: Final = {
    "impression": "impressions",
    "click": "clicks",
    "add_to_cart": "carts",
    "purchase": "purchases",
}
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# The first and last moment that has a date, ms since 1970. A client that logs microseconds is
# beyond it.
_YEARS: Final = (-62_135_596_800_000, 253_402_300_799_999)
# Called with what is done, how much of it and of how much.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What is to be pulled."""

    # ISO 8601, or now, now-7d (m, h, d, w); from then on, and before then.
    since: str
    until: str
    # Events on items that this index or alias does not hold are left out. "": none are.
    index: str = ""
    limits: Limits = field(default_factory=Limits)
    # Seconds that an OpenSearch which does not answer is waited for.
    patience: float = 60.0


def pull(
    client: OpenSearch,
    folder: Path,
    request: Request,
    *,
    progress: Progress | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> Pulled:
    """Pulls a window into a folder, or goes on with what an interrupted pull left there.

    Raises:
        InvalidInput: there are no events in the window, or the folder holds another one, or one
            with another index or other limits.
        NotFound: there are no UBI indexes, or not the request's index.
        Unavailable, Overloaded: OpenSearch was away for longer than it is waited for, or another
            pull works in the folder.
        Unsupported: the disk is full, and the message says what is kept; or an index has times of
            another type than date.
    """
    busy = Overloaded(
        f"Another pull works in {folder}. Wait for it, stop it, or name another folder."
    )
    with exclusive(folder / ".lock", busy):
        return _pulled(client, folder, request, progress or _untold, now, sleep)


def _pulled(
    client: OpenSearch,
    folder: Path,
    request: Request,
    progress: Progress,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Pulled:
    pulled = _begin(folder, request, now())
    if pulled.complete:
        return pulled
    run = _Pull(client, folder, pulled, request, progress, sleep)
    try:
        run.fetch()
        return run.clean(round(now().timestamp() * 1000))
    except BaseException as error:
        kept = run.kept()
        if out_of_room(error):
            raise Unsupported(
                f"The disk of {folder} is full. {kept} Free some space first."
            ) from error
        if isinstance(error, NeuralrankError | KeyboardInterrupt):
            error.args = (" ".join([*map(str, error.args[:1]), kept]).strip(),)
        raise


def moment(text: str, now: datetime, what: str) -> datetime:
    """A time in UTC: ISO 8601, or now with minutes, hours, days or weeks less.

    Raises:
        InvalidInput: it is neither.
    """
    text = text.strip()
    if text == "now":
        return now
    number, unit = text[len("now-") : -1], text[-1:]
    if text.startswith("now-") and number.isdecimal() and unit in _UNITS:
        try:
            return now - timedelta(**{_UNITS[unit]: int(number)})
        except OverflowError as error:
            raise InvalidInput(
                f"{what} got {text!r}, which is before the year 1. Take a later time, as now-52w."
            ) from error
    try:
        return datetime.fromtimestamp(milliseconds(text, what) / 1000, UTC)
    except InvalidInput as error:
        raise InvalidInput(f"{error} Or now, now-90m, now-12h, now-7d, now-4w.") from error


def _begin(folder: Path, request: Request, now: datetime) -> Pulled:
    """The pull that a folder holds; a new one where it holds none, or a finished one whose window
    has moved on since (`now` is another time) or was not over yet."""
    found = read_pulled(folder)
    if (
        found is None
        and folder.exists()
        and any(not path.name.startswith(".") for path in folder.iterdir())
    ):
        raise InvalidInput(f"{folder} holds something else. Name a new folder for the logs.")
    since, until = moment(request.since, now, "--from"), moment(request.until, now, "--until")
    if since >= until:
        raise InvalidInput(
            f"The window is empty: --from is {since.isoformat()} and --until {until.isoformat()}. "
            "The first must be before the second."
        )
    asked = Pulled(
        asked_since=request.since,
        asked_until=request.until,
        since=since.isoformat(),
        until=until.isoformat(),
        begun=now.isoformat(),
        index=request.index,
        bot_rate=request.limits.bot_rate,
        skew=request.limits.skew,
    )
    if found is None:
        return asked
    if other := _other(found, asked):
        raise InvalidInput(
            f"{folder} holds a pull {other}. Name another folder, or delete that one."
        )
    moved = (found.since, found.until) != (asked.since, asked.until)
    if found.complete and (moved or found.was_early):
        shutil.rmtree(folder / _RAW, ignore_errors=True)  # a kill may have left it
        return asked
    return found


def _other(found: Pulled, asked: Pulled) -> str:
    """In what a pull is another one than is asked for, in words; "" where in nothing."""
    window = (found.asked_since, found.asked_until)
    if window != (asked.asked_since, asked.asked_until):
        return (
            f"from {window[0]} until {window[1]}; asked for is from {asked.asked_since} until "
            f"{asked.asked_until}"
        )
    for flag, before, now in (
        ("--index", found.index, asked.index),
        ("--bot-rate", found.bot_rate, asked.bot_rate),
        ("--clock-skew", found.skew, asked.skew),
    ):
        if before != now and before is not None:
            told = [f"{flag} {value}" if value != "" else f"no {flag}" for value in (before, now)]
            return f"with {told[0]}; asked for is {told[1]}"
    return ""


class _Pull:
    """One run of it."""

    def __init__(
        self,
        client: OpenSearch,
        folder: Path,
        pulled: Pulled,
        request: Request,
        progress: Progress,
        sleep: Callable[[float], None],
    ) -> None:
        self._client, self._folder, self._pulled = client, folder, pulled
        self._request, self._progress = request, progress
        self._since = milliseconds(pulled.since, "since")
        until = milliseconds(pulled.until, "until")
        self._readers = {
            name: Reader(client, index, until, fields, request.patience, sleep)
            for name, index, fields in (
                ("queries", ubi.QUERIES_INDEX, QUERY_FIELDS),
                ("events", ubi.EVENTS_INDEX, EVENT_FIELDS),
            )
        }
        self._pieces: dict[str, Pieces] = {}

    def fetch(self) -> None:
        """Writes the pieces that are not there yet."""
        for reader in self._readers.values():
            require_fields(self._client, reader.index, "timestamp")
        found = {name: self._count(reader) for name, reader in self._readers.items()}
        if not found["events"]:
            raise InvalidInput(self._nothing())
        if self._request.index:
            # Now and not when all is pulled: the folder is bound to the name.
            unknown_items(self._client, self._request.index, ())
        write_pulled(self._folder, self._pulled)
        problem = pa.field("problem", pa.string())
        for name, schema in (("queries", QUERIES), ("events", EVENTS)):
            self._pieces[name] = Pieces(self._folder / _RAW, name, schema.append(problem))
        for name, rows in (("queries", query_rows), ("events", event_rows)):
            pieces = self._pieces[name]
            self._progress(name, pieces.rows, found[name])
            done = pieces.rows
            try:
                for hits in self._readers[name].batches(pieces.place(self._since)):
                    pieces.add([row for hit in hits for row in rows(hit)])
                    done += len(hits)
                    self._progress(name, done, max(done, found[name]))
            finally:
                pieces.flush()

    def clean(self, now: int) -> Pulled:
        """Writes what is left of the pieces, and deletes them."""
        verdicts = self._verdicts(now)
        counts: Counter[str] = Counter()
        users: set[str] = set()
        total = sum(pieces.rows for pieces in self._pieces.values())
        done = 0
        dropped = self._folder / ".dropped.parquet"
        with pq.ParquetWriter(dropped, DROPPED, compression="zstd") as refused:
            for name, schema, judge in (
                ("queries", QUERIES, verdicts.of_queries),
                ("events", EVENTS, verdicts.of_events),
            ):
                verdicts.next_table()
                temporary = self._folder / f".{name}.parquet"
                with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                    for table in self._pieces[name].tables():
                        reasons = pa.array(judge(table), pa.string())
                        kept = table.filter(pc.equal(reasons, "")).select(schema.names)
                        writer.write_table(kept)
                        refused.write_table(_refused(name, table, reasons))
                        counts.update(counted(kept))
                        users.update(pc.unique(kept["user"]).to_pylist())
                        done += table.num_rows
                        self._progress("cleaning", done, total)
                temporary.replace(self._folder / f"{name}.parquet")
        dropped.replace(self._folder / "dropped.parquet")
        pulled = self._pulled.model_copy(
            update={
                "complete": True,
                "counts": summary(counts, users),
                "dropped": {reason: verdicts.counts[reason] for reason in REASONS},
            }
        )
        write_pulled(self._folder, pulled)
        shutil.rmtree(self._folder / _RAW)
        return pulled

    def kept(self) -> str:
        """In words: what a next run need not fetch again."""
        if not self._pieces:
            return ""
        rows = sum(pieces.rows for pieces in self._pieces.values())
        return (
            f"Kept are {rows:,} documents in {self._folder}. Run the same command again to go on "
            "from there."
        )

    def _verdicts(self, now: int) -> Verdicts:
        queries, events = self._pieces["queries"], self._pieces["events"]
        both = merge(actions(queries.tables()), actions(events.tables()), key=itemgetter(1))
        bots = find_bots(both, self._request.limits.bot_rate)
        their_pages = pages_of(bots, chain(queries.tables(), events.tables())) if bots else set()
        asked: dict[str, int] = {}
        for table in queries.tables():
            rows = zip(table["query_id"].to_pylist(), table["time"].to_pylist(), strict=True)
            for query, at in rows:
                if query:  # "": events of no query are older than none
                    asked.setdefault(query, at)
        items: set[str] = set()
        if self._request.index:
            for table in events.tables():
                items.update(pc.unique(table["item_id"]).to_pylist())
        known = items - {""}
        unknown = set(unknown_items(self._client, self._request.index, known)) if known else set()
        return Verdicts(bots, their_pages, asked, unknown, now, self._request.limits)

    def _count(self, reader: Reader) -> int:
        try:
            return reader.count(self._since)
        except NotFound as error:
            raise NotFound(
                f"There is no index {reader.index}: {error} Create it with `neuralrank config "
                "apply`, and log what users see and click (OpenSearch UBI)."
            ) from error

    def _nothing(self) -> str:
        years = {"gte": _YEARS[0], "lte": _YEARS[1], "format": "epoch_millis"}
        ends = {
            "first": {"min": {"field": "timestamp"}},
            "last": {"max": {"field": "timestamp"}},
        }
        timed = {"filter": {"range": {"timestamp": years}}, "aggs": ends}
        body = {"size": 0, "track_total_hits": True, "aggs": {"timed": timed}}
        answer = self._client.search(index=ubi.EVENTS_INDEX, body=body)
        window = f"from {self._pulled.since} until {self._pulled.until}"
        all_there, found = answer["hits"]["total"]["value"], answer["aggregations"]["timed"]
        if not all_there:
            return f"There are no events in the window {window}: {ubi.EVENTS_INDEX} is empty."
        if not found["doc_count"]:
            return (
                f"There are no events in the window {window}: none of the {all_there:,} in "
                f"{ubi.EVENTS_INDEX} has a `timestamp` of the years 1 to 9999. It is ISO 8601 or "
                "milliseconds since 1970."
            )
        first, last = (iso(found[name]["value"]) for name in ("first", "last"))
        return (
            f"There are no events in the window {window}. {ubi.EVENTS_INDEX} has some from {first} "
            f"to {last}: name another window with --from and --until."
        )


def _untold(_what: str, _done: int, _total: int) -> None:
    """Where nobody looks."""


def counted(kept: pa.Table) -> Counter[str]:
    """Queries, or events by what was done."""
    if "action" not in kept.column_names:
        return Counter(queries=kept.num_rows)
    counts: Counter[str] = Counter()
    for entry in pc.value_counts(kept["action"]).to_pylist():
        counts[_COUNTED.get(entry["values"], "other")] += entry["counts"]
    return counts


def summary(counts: Counter[str], users: set[str]) -> dict[str, int]:
    """What `pull.json` says of counts and of users, of whom "" is nobody. A person counts by each
    name that they have: `client_id` in a query and `user_id` in an event are two."""
    counted = {name: counts[name] for name in ("queries", *_COUNTED.values(), "other")}
    return {**counted, "users": len(users - {""})}


def _refused(name: str, table: pa.Table, reasons: pa.Array) -> pa.Table:
    index = ubi.QUERIES_INDEX if name == "queries" else ubi.EVENTS_INDEX
    which = pc.not_equal(reasons, "")
    ids, why = table["id"].filter(which), reasons.filter(which)
    return pa.Table.from_arrays([pa.repeat(index, len(ids)), ids, why], schema=DROPPED)

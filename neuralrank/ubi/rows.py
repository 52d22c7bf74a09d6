"""Reads UBI's two indexes in the order of query_id, and joins queries and events as they come."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput
from neuralrank.opensearch.point_in_time import batches, point_in_time
from neuralrank.ubi.documents import Event

__all__ = ["HAS_QUERY", "Row", "Skipped", "acts", "during", "joined", "read_rows"]

_BATCH: Final = 5_000
_KEEP_ALIVE: Final = "5m"

Row = Mapping[str, Any]

# How both begin; OpenSearch reads the rest.
_TIME: Final = re.compile(r"now|\d")

HAS_QUERY: Final[Row] = {"exists": {"field": "query_id"}}


class Skipped(Counter[str]):
    """Why something took no part, and how often; filled while pages are read."""


def during(since: str, until: str) -> list[Row]:
    """The filter for a time: ISO 8601, or OpenSearch's date math ("now-30d"); empty: no bound.

    Raises:
        InvalidInput: a bound is neither.
    """
    for bound in (since, until):
        if bound and not _TIME.match(bound):
            raise InvalidInput(
                f"{bound!r} is no time; allowed are ISO 8601 (2026-11-01, 2026-11-01T08:00:00Z) "
                "and date math (now, now-12h, now-30d)."
            )
    bounds = {name: value for name, value in (("gte", since), ("lte", until)) if value}
    # Not the mapping's own: OpenSearch's UBI plugin makes indexes that know whole times only.
    written = {"format": "strict_date_optional_time||epoch_millis"}
    return [{"range": {"timestamp": bounds | written}}] if bounds else []


def read_rows(
    client: OpenSearch, index: str, filters: Sequence[Row], fields: Sequence[str]
) -> Iterator[Row]:
    """All matching documents with a query_id, in its order, as they were when it began; read
    in batches, so that memory is that of one.

    Args:
        fields: what is read of them.

    Raises:
        NotFound: there is no such index.
        InvalidInput: OpenSearch does not accept a filter.
        Unavailable: a shard can't be read, so that some would be missing.
    """
    body = {
        "query": {"bool": {"filter": [HAS_QUERY, *filters]}},
        "sort": [
            # An index that knows no query_id has no such documents, and is no error.
            {"query_id": {"order": "asc", "unmapped_type": "keyword"}},
            # Without a second one, documents of one query_id could fall between two batches.
            {"_shard_doc": "asc"},
        ],
        "_source": list(fields),
    }
    with point_in_time(client, index, _KEEP_ALIVE) as point:
        for hits in batches(client, point, _KEEP_ALIVE, body, size=_BATCH):
            for hit in hits:
                yield hit.get("_source") or {}


def acts(rows: Sequence[Row], skipped: Skipped) -> Iterator[Event]:
    """What the rows of `ubi_events` say was done, an event for each item; those that say nothing
    are counted."""
    for row in rows:
        try:
            yield from Event.each({**row, "timestamp": 0})
        except InvalidInput:
            skipped["events that are not UBI"] += 1


def joined(queries: Iterator[Row], events: Iterator[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
    """The rows of both with the same query_id; each comes sorted by it (code points, as UTF-8)."""
    tagged = merge(
        ((_key(row), True, row) for row in queries),
        ((_key(row), False, row) for row in events),
        key=itemgetter(0),
    )
    for _, group in groupby(tagged, key=itemgetter(0)):
        rows = list(group)
        yield (
            [row for _, of_query, row in rows if of_query],
            [row for _, of_query, row in rows if not of_query],
        )


def _key(row: Row) -> str:
    return str(row.get("query_id"))

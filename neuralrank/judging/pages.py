"""Pages that were shown: what stood on them and what was clicked, from UBI's two indexes.

Both are read in the order of query_id, through a point in time and search_after, and joined as they
come: memory is that of one page, however many there are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.errors import InvalidInput, NotFound

__all__ = ["Page", "Skipped", "read_pages"]

_IMPRESSION: Final = "impression"
_CLICK: Final = "click"

_BATCH: Final = 5_000
_KEEP_ALIVE: Final = "5m"

Row = Mapping[str, Any]

_HAS_QUERY: Final[Row] = {"exists": {"field": "query_id"}}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of results as one user saw it."""

    query: str  # as typed
    items: Mapping[str, int]  # item -> place; places count from 0 or from 1, as the client's do
    clicked: frozenset[str]  # of the items


class Skipped(Counter[str]):
    """Why something took no part, and how often; filled while pages are read."""


def read_pages(
    client: OpenSearch, skipped: Skipped, *, since: str = "", until: str = ""
) -> Iterator[Page]:
    """The pages of a time, in no particular order.

    What stood on a page: the items of its `impression` events at their position.ordinal (without
    one: where query_response_hit_ids has them); without such events, query_response_hit_ids.
    What was clicked: the items of its `click` events. Its query: user_query of ubi_queries, else
    of an event. Each item counts once on a page, however often it was logged.

    Args:
        since, until: ISO 8601, or OpenSearch's date math ("now-30d"); empty: no bound. Of queries
            and of events.

    Raises:
        NotFound: there are no UBI indexes.
        InvalidInput: OpenSearch does not accept `since` or `until`.
    """
    bounds = {name: value for name, value in (("gte", since), ("lte", until)) if value}
    during: list[Row] = [{"range": {"timestamp": bounds}}] if bounds else []
    acted: list[Row] = [*during, {"terms": {"action_name": [_IMPRESSION, _CLICK]}}]
    _count_without_query(client, skipped, acted)
    queries = _read(
        client, ubi.QUERIES_INDEX, during, ["query_id", "user_query", "query_response_hit_ids"]
    )
    events = _read(
        client,
        ubi.EVENTS_INDEX,
        acted,
        ["query_id", "action_name", "user_query", ubi.ITEM_PATH, ubi.ORDINAL_PATH],
    )
    for query_rows, event_rows in _joined(queries, events):
        page = _page(query_rows, event_rows, skipped)
        if page is not None:
            yield page


def _count_without_query(client: OpenSearch, skipped: Skipped, filters: Sequence[Row]) -> None:
    body = {"query": {"bool": {"filter": list(filters), "must_not": [_HAS_QUERY]}}}
    try:
        found = client.count(index=ubi.EVENTS_INDEX, body=body)["count"]
    except NotFound as error:
        raise NotFound(
            f"There is no index {ubi.EVENTS_INDEX}: {error} Create it with `neuralrank config "
            "apply`, and log what users see and click (OpenSearch UBI)."
        ) from error
    if found:
        skipped["events without query_id"] += int(found)


def _read(
    client: OpenSearch, index: str, filters: Sequence[Row], fields: Sequence[str]
) -> Iterator[Row]:
    """All matching documents in the order of query_id, as they were when it began."""
    point = client.create_pit(index=index, params={"keep_alive": _KEEP_ALIVE})["pit_id"]
    try:
        after: list[Any] = []
        while True:
            body: dict[str, Any] = {
                "query": {"bool": {"filter": [_HAS_QUERY, *filters]}},
                "size": _BATCH,
                "pit": {"id": point, "keep_alive": _KEEP_ALIVE},
                # Without a second one, documents of one query_id could fall between two batches.
                "sort": [{"query_id": "asc"}, {"_shard_doc": "asc"}],
                "_source": list(fields),
                "track_total_hits": False,
            }
            if after:
                body["search_after"] = after
            hits = client.search(body=body)["hits"]["hits"]
            for hit in hits:
                yield hit.get("_source") or {}
            if len(hits) < _BATCH:
                return
            after = hits[-1]["sort"]
    finally:
        client.delete_pit(body={"pit_id": [point]})


def _joined(queries: Iterator[Row], events: Iterator[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
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


def _page(queries: Sequence[Row], events: Sequence[Row], skipped: Skipped) -> Page | None:
    listed = [str(item) for row in queries for item in row.get("query_response_hit_ids") or ()]
    listed_at = {item: place for place, item in reversed(list(enumerate(listed)))}
    text = next((row["user_query"] for row in (*queries, *events) if row.get("user_query")), "")
    if not str(text).strip():
        skipped["pages without a query text"] += 1
        return None
    shown: dict[str, int] = {}
    clicks: list[str] = []
    for row in events:
        try:
            event = ubi.Event.from_row({"timestamp": 0, **row})
        except InvalidInput:
            skipped["events that are not UBI"] += 1
            continue
        if not event.item_id:
            skipped["events without object_id"] += 1
        elif event.action_name == _CLICK:
            clicks.append(event.item_id)
        else:
            place = event.ordinal if event.ordinal is not None else listed_at.get(event.item_id)
            if place is None:
                skipped["impressions without a place"] += 1
            else:
                shown.setdefault(event.item_id, place)
    items = shown or listed_at
    if not items:
        skipped["pages of which is not known what stood on them"] += 1
        return None
    clicked = frozenset(clicks) & items.keys()
    if elsewhere := len(set(clicks) - clicked):
        skipped["clicks on what was not shown"] += elsewhere
    return Page(str(text), items, clicked)

"""Pages that were shown: what stood on them and what was clicked, from UBI's two indexes.

They are joined as they are read: memory is that of one page, however many there are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.opensearch.point_in_time import WHOLE
from neuralrank.ubi.fields import require_fields
from neuralrank.ubi.rows import HAS_QUERY, Row, Skipped, acts, during, joined, read_rows

__all__ = ["BEYOND", "LAST_PLACE", "Page", "places_listed", "read_pages", "zero_based"]

# Nobody looks further down. An `ordinal` beyond it is another number, such as an id.
LAST_PLACE: Final = 500
# The reason why what stands there takes no part.
BEYOND: Final = f"items beyond place {LAST_PLACE}"

_IMPRESSION: Final = "impression"
_CLICK: Final = "click"
# So many applications are looked at, those with the most impressions.
_APPLICATIONS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Page:
    """One page of results as one user saw it."""

    query: str  # as typed
    items: Mapping[str, int]  # item -> place, from 1
    clicked: frozenset[str]  # of the items


def places_listed(lists: Iterable[Sequence[str]]) -> dict[str, int]:
    """What stood where, from 0, by query_response_hit_ids of the documents of one query_id, oldest
    first: of its second page, and of what a client and a server have logged both. A later list
    goes on where the one before has ended, with what was in none before."""
    places: dict[str, int] = {}
    end = 0
    for items in lists:
        new = [item for item in items if item not in places]
        for place, item in enumerate(new, start=end):
            places.setdefault(item, place)
        end += len(new)
    return places


def zero_based(zeros: Mapping[str, int], ones: Mapping[str, int]) -> set[str]:
    """Applications that count places from 0: those with half as many items there as at 1, so that
    a single 0, such as of a place that is not known, moves no other.

    Args:
        zeros, ones: impressions at `ordinal` 0 and 1 by application.
    """
    return {name for name, count in zeros.items() if 2 * count >= ones.get(name, 0)}


def read_pages(
    client: OpenSearch, skipped: Skipped, *, since: str = "", until: str = ""
) -> Iterator[Page]:
    """The pages of a time, in no particular order.

    What stood on a page: the items of its `impression` events at their position.ordinal, which an
    application may count from 0 (`zero_based`; without one: where query_response_hit_ids has them);
    without such events, query_response_hit_ids, of all documents of its query_id
    (`places_listed`).
    What was clicked: the items of its `click` events. Its query: user_query of ubi_queries, else
    of an event. Each item counts once on a page, however often it was logged. Places beyond the
    500th are none: they are counted and left out.

    Args:
        since, until: ISO 8601, or OpenSearch's date math ("now-30d"); empty: no bound. Of queries
            and of events.

    Raises:
        NotFound: there are no UBI indexes.
        InvalidInput: OpenSearch does not accept `since` or `until`.
        Unsupported: an index has ids or times of a type that can't be read in order.
    """
    require_fields(client, ubi.QUERIES_INDEX, "timestamp", "query_id")
    require_fields(client, ubi.EVENTS_INDEX, "timestamp", "query_id", "action_name", "application")
    then = during(since, until)
    acted: list[Row] = [*then, {"terms": {"action_name": [_IMPRESSION, _CLICK]}}]
    _count_without_query(client, skipped, acted)
    from_zero = _from_zero(client, then)
    queries = read_rows(
        client,
        ubi.QUERIES_INDEX,
        then,
        ["query_id", "user_query", "query_response_hit_ids", "timestamp"],
    )
    events = read_rows(
        client,
        ubi.EVENTS_INDEX,
        acted,
        ["query_id", "action_name", "user_query", "application", ubi.ITEM_PATH, ubi.ORDINAL_PATH],
    )
    for query_rows, event_rows in joined(queries, events):
        page = _page(query_rows, event_rows, from_zero, skipped)
        if page is not None:
            yield page


def _count_without_query(client: OpenSearch, skipped: Skipped, filters: Sequence[Row]) -> None:
    body = {"query": {"bool": {"filter": list(filters), "must_not": [HAS_QUERY]}}}
    try:
        found = client.count(index=ubi.EVENTS_INDEX, body=body)["count"]
    except NotFound as error:
        raise NotFound(
            f"There is no index {ubi.EVENTS_INDEX}: {error} Create it with `neuralrank config "
            "apply`, and log what users see and click (OpenSearch UBI)."
        ) from error
    if found:
        skipped["events without query_id"] += int(found)


def _from_zero(client: OpenSearch, filters: Sequence[Row]) -> set[str]:
    """As `zero_based`, of the impressions that these filters leave."""
    of = {"terms": {"field": "application", "missing": "", "size": _APPLICATIONS}}
    aggs = {
        str(place): {"filter": {"term": {ubi.ORDINAL_PATH: place}}, "aggs": {"of": of}}
        for place in (0, 1)
    }
    shown = {"bool": {"filter": [*filters, {"term": {"action_name": _IMPRESSION}}]}}
    body = {"size": 0, "track_total_hits": False, "query": shown, "aggs": aggs}
    found = client.search(index=ubi.EVENTS_INDEX, body=body, params=WHOLE)["aggregations"]
    zeros, ones = (
        {bucket["key"]: bucket["doc_count"] for bucket in found[place]["of"]["buckets"]}
        for place in ("0", "1")
    )
    return zero_based(zeros, ones)


def _time(row: Row) -> float:
    """When, in seconds; a time that can't be read is no reason to leave a page out."""
    try:
        return ubi.read_time(row.get("timestamp")).timestamp()
    except ValueError:
        return 0.0


def _asked(rows: Sequence[Row], skipped: Skipped) -> Iterator[ubi.Query]:
    for row in rows:
        try:
            yield ubi.Query.from_row({**row, "timestamp": 0})
        except InvalidInput:
            skipped["queries that are not UBI"] += 1


def _page(
    queries: Sequence[Row], events: Sequence[Row], from_zero: set[str], skipped: Skipped
) -> Page | None:
    asked = list(_asked(sorted(queries, key=_time), skipped))
    lists = (query.query_response_hit_ids for query in asked)
    listed_at = {item: place + 1 for item, place in places_listed(lists).items()}
    told = (text for row in events if isinstance(text := row.get("user_query"), str) and text)
    text = next((query.user_query for query in asked if query.user_query), "") or next(told, "")
    if not text.strip():
        skipped["pages without a query text"] += 1
        return None
    shown: dict[str, int] = {}
    clicks: list[str] = []
    for event in acts(events, skipped):
        if not event.item_id:
            skipped["events without object_id"] += 1
        elif event.action_name == _CLICK:
            clicks.append(event.item_id)
        else:
            place = listed_at.get(event.item_id)
            if event.ordinal is not None:
                place = event.ordinal + (event.application in from_zero)
            if place is None or place < 1:
                skipped["impressions without a place"] += 1
            elif place > LAST_PLACE:
                skipped[BEYOND] += 1
            else:
                shown.setdefault(event.item_id, place)
    items = shown or {item: place for item, place in listed_at.items() if place <= LAST_PLACE}
    if not shown and len(listed_at) > len(items):
        skipped[BEYOND] += len(listed_at) - len(items)
    if not items:
        skipped["pages of which is not known what stood on them"] += 1
        return None
    clicked = frozenset(clicks) & items.keys()
    if elsewhere := len(set(clicks) - clicked):
        skipped["clicks on what was not shown"] += elsewhere
    return Page(text, items, clicked)

"""From documents of the UBI indexes to rows of `trainer.feedback.logs`.

Each row has one column more, `problem`: a reason of `trainer.feedback.cleaning`, or "".
"""

from typing import Any, Final

from neuralrank import ubi
from neuralrank.errors import InvalidInput
from neuralrank.opensearch.point_in_time import Hit
from trainer.feedback.cleaning import NO_ITEM, NO_QUERY, NOT_UBI

__all__ = ["EVENT_FIELDS", "QUERY_FIELDS", "event_rows", "query_rows"]

# Of `_source`.
QUERY_FIELDS: Final = tuple(ubi.Query.model_fields)
EVENT_FIELDS: Final = (
    *(name for name in ubi.Event.model_fields if name != "event_attributes"),
    ubi.ITEM_PATH,
    ubi.ORDINAL_PATH,
)
Row = dict[str, Any]
# The largest that the column takes. An `ordinal` beyond it is no place, but an id or a time.
_LARGEST: Final = 2**31 - 1


def query_rows(hit: Hit) -> list[Row]:
    at = int(hit["sort"][0])
    row: Row = {"id": hit["_id"], "time": at, "problem": ""}
    try:
        query = ubi.Query.from_row({**(hit.get("_source") or {}), "timestamp": at})
    except InvalidInput:
        source = hit.get("_source") or {}
        problem = NOT_UBI if source.get("query_id") else NO_QUERY
        return [row | {"query_id": "", "user": "", "problem": problem}]
    columns = {
        "query_id": query.query_id,
        "user": query.user_id or query.client_id,
        "user_query": query.user_query,
        "hits": query.query_response_hit_ids,
        "attributes": query.query_attributes,
        "application": query.application,
    }
    return [row | columns]


def event_rows(hit: Hit) -> list[Row]:
    """One for each item."""
    at = int(hit["sort"][0])
    row: Row = {"id": hit["_id"], "time": at, "problem": ""}
    try:
        events = ubi.Event.each({**(hit.get("_source") or {}), "timestamp": at})
    except InvalidInput:
        return [row | {"action": "", "user": "", "item_id": "", "problem": NOT_UBI}]
    return [row | _columns(event) for event in events]


def _columns(event: ubi.Event) -> Row:
    return {
        "problem": "" if event.item_id else NO_ITEM,
        "action": event.action_name,
        "user": event.user,
        "query_id": event.query_id,
        "user_query": event.user_query,
        "item_id": event.item_id,
        "ordinal": None if event.ordinal is None else min(event.ordinal, _LARGEST),
        "application": event.application,
    }

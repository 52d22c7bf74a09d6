"""User behaviour, as OpenSearch UBI has it: its documents (here), the fields that reading them
relies on (`fields`), and reading both indexes in step (`rows`)."""

from neuralrank.ubi.documents import (
    ACTIONS,
    BLOCKS,
    EVENTS_INDEX,
    ITEM_PATH,
    MAX_USER,
    ORDINAL_PATH,
    QUERIES_INDEX,
    Event,
    Query,
    Record,
    Rejected,
    content_id,
    item_ids,
    parse,
    read_time,
    user_events,
)

__all__ = [
    "ACTIONS",
    "BLOCKS",
    "EVENTS_INDEX",
    "ITEM_PATH",
    "MAX_USER",
    "ORDINAL_PATH",
    "QUERIES_INDEX",
    "Event",
    "Query",
    "Record",
    "Rejected",
    "content_id",
    "item_ids",
    "parse",
    "read_time",
    "user_events",
]

"""What OpenSearch is asked about one product: its places by words and by vector, and the events.

Every count is exact, over the whole index: `min_score` counts what scores more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from neuralrank.errors import NotFound
from neuralrank.opensearch.packing import VECTOR
from neuralrank.ubi import EVENTS_INDEX, ITEM_PATH, item_ids, user_events

__all__ = ["Place", "events_of", "knows", "place", "vector_place"]

# The index may have our own pipeline as its default.
_PLAIN: Final = {"search_pipeline": "_none"}
# Events that are shown of what made an affinity.
_EVENTS: Final = 20


@dataclass(frozen=True, slots=True)
class Place:
    """One product's place in one order."""

    # From 1; None: not in it. Of equals, the first one's.
    position: int | None
    # How many are in the order.
    total: int
    # Its score there; None: it has none.
    score: float | None
    # The score at the end of the window or of k; None: there are not so many.
    last: float | None


def place(
    client: OpenSearch, index: str, query: Mapping[str, Any], score: float | None, last: int
) -> Place:
    """Where a score stands in the order of a query.

    Args:
        score: of the product in question; None: the query does not match it.
        last: the place whose score is asked for too: the window, or k.
    """
    body = {"query": dict(query), "from": last - 1, "size": 1, "track_total_hits": True}
    answer = _search(client, index, body)["hits"]
    end = answer["hits"][0]["_score"] if answer["hits"] else None
    total = int(answer["total"]["value"])
    if score is None:
        return Place(None, total, None, end)
    # The next float32 above: scores are float32, and `min_score` lets equals through.
    above = float(np.nextafter(np.float32(score), np.float32("inf")))
    body = {"query": dict(query), "size": 0, "track_total_hits": True, "min_score": above}
    better = int(_search(client, index, body)["hits"]["total"]["value"])
    return Place(better + 1, total, score, end)


def vector_place(
    client: OpenSearch,
    index: str,
    item: str,
    vector: NDArray[np.float32],
    space: str,
    k: int,
) -> Place:
    """Where a product stands in the order of nearness to a vector, by comparison with all.

    Args:
        vector: float32 [d], the query's.
        space: the `space_type` of the field.
    """
    script = {
        "lang": "knn",
        "source": "knn_score",
        "params": {"field": VECTOR, "query_value": vector.tolist(), "space_type": space},
    }

    def scored(query: Mapping[str, Any]) -> dict[str, Any]:
        return {"script_score": {"query": dict(query), "script": script}}

    has = {"exists": {"field": VECTOR}}
    own = {"bool": {"filter": [has, {"ids": {"values": [item]}}]}}
    hits = _search(client, index, {"query": scored(own), "size": 1})["hits"]["hits"]
    score = hits[0]["_score"] if hits else None
    return place(client, index, scored(has), score, k)


def knows(client: OpenSearch, user: str) -> bool:
    """Whether there is any event of a user."""
    body = {"query": user_events(user), "size": 0, "terminate_after": 1, "track_total_hits": 1}
    try:
        answer = client.search(index=EVENTS_INDEX, body=body)
    except NotFound:
        return False
    return bool(answer["hits"]["total"]["value"])


def events_of(client: OpenSearch, user: str, items: Sequence[str]) -> list[dict[str, Any]]:
    """What a user did with items, newest first: item, action, time and query."""
    if not items:
        return []
    query = {
        "bool": {
            "filter": [user_events(user), {"terms": {ITEM_PATH: list(items)}}],
            "must_not": [{"term": {"action_name": "impression"}}],
        }
    }
    body = {
        "query": query,
        "size": _EVENTS,
        "sort": [{"timestamp": {"order": "desc", "unmapped_type": "date"}}],
        "_source": ["action_name", "timestamp", "user_query", ITEM_PATH],
    }
    answer = client.search(index=EVENTS_INDEX, body=body)
    return [
        {
            "id": item,
            "action": source.get("action_name", ""),
            "timestamp": source.get("timestamp", ""),
            "query": source.get("user_query", ""),
        }
        for source in (hit["_source"] for hit in answer["hits"]["hits"])
        for item in item_ids(source)
        if item in items
    ]


def _search(client: OpenSearch, index: str, body: dict[str, Any]) -> dict[str, Any]:
    return dict(client.search(index=index, body={**body, "_source": False}, params=_PLAIN))

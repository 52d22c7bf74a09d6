"""Reading all that an index has, or failing.

Where a shard fails or is late, OpenSearch answers 200 with what the others found, unless it is told
not to. Whoever counts on having seen everything reads through these.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import NeuralrankError, Unavailable

__all__ = ["AS_STORED", "WHOLE", "Hit", "batches", "count_all", "point_in_time"]

Hit = Mapping[str, Any]

# A search's parameters: an error where it can't be whole.
WHOLE: Final = {"allow_partial_search_results": "false"}
# The same where an index may have a default pipeline, which would rank what is read.
AS_STORED: Final = {"search_pipeline": "_none", **WHOLE}


@contextmanager
def point_in_time(client: OpenSearch, index: str, keep_alive: str) -> Iterator[str]:
    """The id of a view of all shards of an index, as they are now. Search it with `WHOLE`.

    Args:
        keep_alive: how long it lives without a search ("5m").

    Raises:
        NotFound: there is no such index.
        Unavailable: not all shards can be seen.
    """
    params = {"keep_alive": keep_alive, "allow_partial_pit_creation": "false"}
    point = client.create_pit(index=index, params=params)["pit_id"]
    try:
        yield point
    finally:
        # It ends by itself; an OpenSearch that is away must not hide why.
        with suppress(NeuralrankError):
            client.delete_pit(body={"pit_id": [point]})


def batches(
    client: OpenSearch,
    point: str,
    keep_alive: str,
    body: Mapping[str, Any],
    *,
    size: int,
    params: Mapping[str, str] = WHOLE,
) -> Iterator[list[Hit]]:
    """All hits of a search of a point in time, in the order of its `sort`; memory is that of one
    batch.

    Args:
        keep_alive: how long the point lives after each batch.
        body: the search; its `sort` ends with `_shard_doc`, as hits that are equal in it could fall
            between two batches.
        size: hits in a batch; the last one has fewer, and none is empty.

    Raises:
        NotFound: the point is no more.
        InvalidInput: OpenSearch does not accept the search.
        Unavailable: not all shards can be read.
    """
    whole = {
        **body,
        "size": size,
        "pit": {"id": point, "keep_alive": keep_alive},
        "track_total_hits": False,
    }
    after: dict[str, Any] = {}
    while True:
        hits = client.search(body={**whole, **after}, params=params)["hits"]["hits"]
        if hits:
            yield hits
        if len(hits) < size:
            return
        after = {"search_after": hits[-1]["sort"]}


def count_all(client: OpenSearch, index: str, body: dict[str, Any]) -> int:
    """How many documents match.

    Raises:
        Unavailable: not all shards have counted; a count can't be told to fail then.
    """
    answer = client.count(index=index, body=body)
    shards = answer["_shards"]
    if shards["failed"]:
        raise Unavailable(
            f"{shards['failed']} of {shards['total']} shards of {index} did not answer. See "
            "`GET _cluster/health` and OpenSearch's log."
        )
    return int(answer["count"])

"""A product index made anew behind its alias, from its own documents: no catalogue, no encoder.

For a reindex, OpenSearch copies every document into an index of the new fields and analyzers. For a
reload, where only the analysis of queries differs, the index is cloned (hard links: seconds,
whatever its size) and the clone gets the new analyzers while it is closed; searches never meet a
closed index. OpenSearch's own way to reload (`_refresh_search_analyzers`) needs the
index-management plugin, and files on every node.

Either way searches see the old index until the new one is complete; writes to the old one are
refused meanwhile, since they would be lost.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, Unavailable, Unsupported
from neuralrank.opensearch.generation import Generation, adopt, create, free_name, noted
from neuralrank.opensearch.point_in_time import count_all
from neuralrank.opensearch.succession import WRITE_BLOCK, find_live, read_only
from opensearch_config import files
from opensearch_config.changes import Change
from opensearch_config.live import over_live

__all__ = ["Renewed", "renew"]

# Seconds between two looks at a reindex, and that an answer about a new index may take.
_POLL: Final = 0.2
_READY: Final = 60
# Documents in one bulk of a reindex: with vectors of 384 dimensions about 2 MB.
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Renewed:
    """An index that took the place of another."""

    alias: str
    before: str
    index: str
    documents: int
    seconds: float
    deleted: tuple[str, ...]  # earlier generations
    warnings: tuple[str, ...]  # what could not be done after the switch

    def json(self) -> dict[str, Any]:
        return asdict(self)


def renew(
    client: OpenSearch,
    change: Change,
    folder: Path = files.FOLDER,
    *,
    keep: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Renewed:
    """Does a change "reindex" or "reload" of `diff`, and moves the aliases.

    Args:
        keep: how many earlier generations stay, for going back.
        progress: called with the documents that are copied and those that there are.

    Raises:
        InvalidInput: the index is not one that `neuralrank index` made; or OpenSearch does not
            accept a document or the files.
        NotFound, Unavailable: as `Generation.finish`. The alias has then not moved, and the new
            index is deleted.
    """
    began = time.monotonic()
    live = find_live(client, change.name)
    source, meta = live.index, live.noted
    body = over_live(live.body, files.index_like(meta, folder))
    with read_only(client, source) as check:
        client.indices.refresh(index=source)
        count = int(client.count(index=source)["count"])
        make = _reindexed if change.action == "reindex" else _cloned
        generation = make(client, live.alias, source, body, meta, count, progress)
        try:
            check()
            switched = generation.finish(client, count, keep, replaces=source)
        except BaseException:
            generation.discard(client)
            raise
    seconds = round(time.monotonic() - began, 3)
    return Renewed(
        live.alias,
        source,
        generation.index,
        count,
        seconds,
        switched.deleted,
        switched.warnings,
    )


_Progress = Callable[[int, int], None] | None


def _reindexed(
    client: OpenSearch,
    alias: str,
    source: str,
    body: Mapping[str, Any],
    meta: Mapping[str, Any],
    count: int,
    progress: _Progress,
) -> Generation:
    """Every document of the source in a new index."""
    kept = {name: meta[name] for name in ("encoder", "dimensions", "catalogue") if name in meta}
    generation = create(client, alias, body, kept, ingested=True)
    try:
        copy = {
            "source": {"index": source, "size": _BATCH},
            # What an ingest pipeline makes of a document, it has made of these already.
            "dest": {"index": generation.index, "op_type": "create", "pipeline": "_none"},
        }
        task = client.reindex(body=copy, params={"wait_for_completion": "false"})["task"]
        try:
            _wait(client, task, count, progress)
        except BaseException:
            client.tasks.cancel(task_id=task)
            raise
        _check_vectors(client, source, generation.index, body)
    except BaseException:
        generation.discard(client)
        raise
    return generation


def _check_vectors(client: OpenSearch, source: str, copy: str, body: Mapping[str, Any]) -> None:
    """Documents that hold their vectors packed only have none in a copy that nobody unpacked."""
    client.indices.refresh(index=copy)
    for field in noted(body["mappings"]).get("packed_vectors", {}):
        query = {"query": {"exists": {"field": field}}}
        had, has = (count_all(client, index, query) for index in (source, copy))
        if has < had:
            raise Unsupported(
                f"{had} documents of {source} have a {field}, of its copy {has}: their vectors are "
                "packed, and not every node of the cluster has the plugin that indexes them. "
                "Install it there, or index the catalogue again."
            )


def _wait(client: OpenSearch, task: str, count: int, progress: _Progress) -> None:
    while True:
        state = client.tasks.get(task_id=task)
        status = state["task"]["status"]
        if progress:
            progress(int(status["created"]), count)
        if state["completed"]:
            break
        time.sleep(_POLL)
    if error := state.get("error"):
        raise Unavailable(f"OpenSearch could not reindex: {error.get('reason', error)}.")
    failures = state.get("response", {}).get("failures", ())
    if failures:
        first = failures[0]
        reason = first.get("cause", first).get("reason", first)
        raise InvalidInput(
            f"The new mapping does not take {len(failures)} documents; the first is "
            f"{first.get('id')!r}: {reason}. Correct mappings/product.json, or the document."
        )


def _cloned(
    client: OpenSearch,
    alias: str,
    source: str,
    body: Mapping[str, Any],
    _meta: Mapping[str, Any],
    count: int,
    progress: _Progress,
) -> Generation:
    """The source's files under another name, with the new analysis of queries."""
    index = free_name(client, alias)
    # The clone inherits the block that it needs of its source.
    client.indices.clone(index=source, target=index, body={"settings": {WRITE_BLOCK: None}})
    try:
        _ready(client, index)
        client.indices.close(index=index)
        client.indices.put_settings(
            index=index, body={"analysis": body["settings"].get("analysis", {})}
        )
        client.indices.open(index=index)
        _ready(client, index)
        client.indices.put_mapping(index=index, body={"properties": body["mappings"]["properties"]})
        generation = adopt(client, alias, index, body["settings"])
    except BaseException:
        client.indices.delete(index=index, params={"ignore_unavailable": "true"})
        raise
    if progress:
        progress(count, count)
    return generation


def _ready(client: OpenSearch, index: str) -> None:
    """Waits until every shard can be searched."""
    params = {"wait_for_status": "yellow", "request_timeout": _READY}
    try:
        client.cluster.health(index=index, params=params)
    except InvalidInput as error:  # 408: not within OpenSearch's 30 seconds
        raise Unavailable(
            f"Index {index} did not become searchable: {error} See its shards with GET "
            "_cluster/allocation/explain; the disk may be full."
        ) from error

"""The indexes and search pipelines of a run: made side by side, named after it, and taken away.

Documents come from the source index, vectors included, so that nothing is encoded twice. Each index
is merged into one segment: what is compared is then the mapping, and not how far OpenSearch's own
merging has come.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from neuralrank.encoders.matryoshka import cut
from neuralrank.errors import InvalidInput, NeuralrankError, NotFound, Unavailable
from neuralrank.opensearch.packing import PACKED, VECTOR, unpack
from neuralrank.opensearch.page import NO_PIPELINE
from neuralrank.opensearch.point_in_time import AS_STORED, batches, point_in_time
from neuralrank.opensearch.vectors import are_indexed_packed, text_fields
from neuralrank.opensearch.writing import bulk_write
from opensearch_config.engine import require_engine
from opensearch_config.tuning.variants import Planned, Source

__all__ = ["PREFIX", "Bench", "Built", "clear"]

# Of everything that a run makes in the cluster.
PREFIX: Final = "neuralrank-tune-"
# Documents read and written at a time: with vectors of 384 dimensions about 4 MB.
_BATCH: Final = 500
_KEEP_ALIVE: Final = "10m"
# Seconds that a merge into one segment may take.
_MERGE: Final = 3_600
_COMPLETE: Final = "complete"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Built:
    """An index that a variant searches."""

    index: str
    bytes: int
    # Writing and merging; None: the source itself, which was there.
    seconds: float | None

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Bench:
    """What a run makes in the cluster."""

    def __init__(self, client: OpenSearch, run: str, source: Source) -> None:
        """
        Args:
            run: the name of the run; everything is named after it.
        """
        self._client = client
        self._run = run
        self._name = f"{PREFIX}{run}"
        self._source = source

    def index(self, planned: Planned, progress: Progress) -> Built:
        """The index of a variant; one that an earlier attempt completed is taken as it is.

        Raises:
            InvalidInput: OpenSearch does not accept the mapping, or a document.
            Unsupported: the cluster lacks a plugin or library that it needs.
        """
        if not planned.key:
            return Built(self._source.index, _size(self._client, self._source.index), None)
        name = f"{self._name}-{planned.key}"
        with suppress(NotFound):
            meta = self._client.indices.get_mapping(index=name)[name]["mappings"]["_meta"]
            note = meta["neuralrank"].get("tune", {})
            if note.get("state") == _COMPLETE:
                return Built(name, _size(self._client, name), float(note["seconds"]))
            self._client.indices.delete(index=name)
        return self._build(name, planned, progress)

    def pipeline(self, planned: Planned, position: int) -> str:
        """Makes the search pipeline of a variant; `_none` for one without ranking."""
        if planned.pipeline is None:
            return NO_PIPELINE
        name = f"{self._name}-{position}"
        try:
            self._client.search_pipeline.put(id=name, body=dict(planned.pipeline))
        except InvalidInput as error:
            raise InvalidInput(f"The pipeline of variant {planned.name!r}: {error}") from error
        return name

    def clear(self) -> list[str]:
        """Deletes every index and pipeline of the run. Returns their names."""
        return clear(self._client, self._run)

    def _build(self, name: str, planned: Planned, progress: Progress) -> Built:
        require_engine(self._client, planned.body["mappings"])
        body = _filling(planned.body)
        try:
            self._client.indices.create(index=name, body=body)
        except InvalidInput as error:
            raise InvalidInput(f"The index of variant {planned.name!r}: {error}") from error
        began = time.monotonic()
        try:
            self._fill(name, planned, progress)
        except NeuralrankError:
            with suppress(NeuralrankError):
                self._client.indices.delete(index=name, params={"ignore_unavailable": "true"})
            raise
        self._client.indices.refresh(index=name)
        self._client.indices.forcemerge(
            index=name, params={"max_num_segments": 1, "request_timeout": _MERGE}
        )
        self._client.indices.flush(index=name)
        seconds = round(time.monotonic() - began, 3)
        found = int(self._client.count(index=name)["count"])
        if found != self._source.documents:
            raise Unavailable(
                f"Index {name} holds {found} documents, and {self._source.index} held "
                f"{self._source.documents}: something wrote to it meanwhile. Tune again."
            )
        note = {**body["mappings"]["_meta"]["neuralrank"]}
        note["tune"] = {"state": _COMPLETE, "seconds": seconds}
        self._client.indices.put_mapping(index=name, body={"_meta": {"neuralrank": note}})
        return Built(name, _size(self._client, name), seconds)

    def _fill(self, name: str, planned: Planned, progress: Progress) -> None:
        done = 0
        packed = are_indexed_packed(self._client, planned.body)
        for batch in self._batches():
            if planned.dimensions:
                self._with_vectors(batch, planned.dimensions, packed=packed)
            self._write(name, planned, list(batch.items()))
            done += len(batch)
            progress(done, self._source.documents)

    def _write(
        self, name: str, planned: Planned, batch: list[tuple[str, Mapping[str, Any]]]
    ) -> None:
        if refused := bulk_write(self._client, name, batch):
            raise InvalidInput(
                f"The index of variant {planned.name!r} does not take {len(refused)} documents; "
                f"the first is {refused[0].id!r}: {refused[0].reason}."
            )

    def _batches(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Every document of the source by id, without the vector that is searched.

        By a point in time and not by scroll: with k-NN 3.5.0, whoever ends a scroll on an index
        with a derived source closes the vectors' file under it, and each search that reads a whole
        `_source` fails from then on (opensearch-project/k-NN, issue 3191).
        """
        body = {"sort": [{"_shard_doc": "asc"}], "_source": {"excludes": [VECTOR]}}
        with point_in_time(self._client, self._source.index, _KEEP_ALIVE) as point:
            for hits in batches(
                self._client, point, _KEEP_ALIVE, body, size=_BATCH, params=AS_STORED
            ):
                yield {hit["_id"]: hit["_source"] for hit in hits}

    def _with_vectors(
        self, batch: Mapping[str, dict[str, Any]], width: int, *, packed: bool
    ) -> None:
        """Puts the vectors back, cut to `width`: from their packed form, where there is one, and
        as numbers only where those are needed (`text_fields`)."""
        without = []
        for identity, document in batch.items():
            vector = unpack(document.get(PACKED))
            if vector is None:
                without.append(identity)
            else:
                document |= text_fields(vector, width, packed=packed)
        if not without:
            return
        answer = self._client.mget(
            index=self._source.index,
            body={"ids": without},
            params={"_source_includes": VECTOR},
        )
        for item in answer["docs"]:
            if given := item.get("_source", {}).get(VECTOR):
                batch[item["_id"]][VECTOR] = _cut(np.asarray(given, np.float32), width)


def _cut(vector: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    return vector if len(vector) == width else cut(vector, width)


def clear(client: OpenSearch, run: str) -> list[str]:
    """Deletes every index and pipeline of a run.

    Returns:
        Their names.
    """
    prefix = f"{PREFIX}{run}-"
    gone = sorted(client.indices.get_settings(index=f"{prefix}*"))
    for name in gone:
        client.indices.delete(index=name, params={"ignore_unavailable": "true"})
    for name in client.search_pipeline.get():
        if name.startswith(prefix):
            with suppress(NotFound):
                client.search_pipeline.delete(id=name)
            gone.append(name)
    return gone


def _filling(body: Mapping[str, Any]) -> dict[str, Any]:
    """The index without replicas and refreshes; what a comparison on one copy needs."""
    settings = dict(body["settings"])
    index = {
        **settings.get("index", {}),
        "number_of_shards": 1,
        "number_of_replicas": 0,
        "auto_expand_replicas": "false",
        "refresh_interval": "-1",
    }
    # It is searched by the pipelines of the run only.
    index.pop("search", None)
    settings["index"] = index
    return {"settings": settings, "mappings": dict(body["mappings"])}


def _size(client: OpenSearch, index: str) -> int:
    """Bytes on disk of one copy, by its segments: the statistics of an index lag by seconds."""
    shards = client.indices.segments(index=index)["indices"][index]["shards"]
    return sum(
        int(segment["size_in_bytes"])
        for copies in shards.values()
        for copy in copies
        if copy["routing"]["primary"]
        for segment in copy["segments"].values()
    )

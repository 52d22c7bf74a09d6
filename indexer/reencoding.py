"""The vectors of a live index made anew by another encoder, behind its alias.

Products come from the index itself, so that no catalogue is needed and what was written since is
not lost. Encoding takes a while, in which the live index is searched and written to as before:
documents are copied in passes, each taking what changed since the one before, and writes are
refused (`read_only`) only during the last, which finds little or nothing.

A document's version in the new index is its sequence number in the live one, plus one. By that a
pass knows what it need not copy, also after an interruption.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from opensearchpy import OpenSearch

from indexer.run import PassageEncoder
from indexer.unfinished import give_up
from neuralrank.catalogue.product import headline
from neuralrank.errors import (
    InvalidInput,
    NotFound,
    Unavailable,
    Unsupported,
)
from neuralrank.opensearch.generation import Generation, create, find_unfinished
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, PACKED, VECTOR, unpack
from neuralrank.opensearch.point_in_time import AS_STORED, Hit, batches, point_in_time
from neuralrank.opensearch.succession import Live, lift_left_over, read_only
from neuralrank.opensearch.vectors import are_indexed_packed, photo_fields, text_fields
from neuralrank.opensearch.writing import bulk_write

__all__ = ["Reencoded", "reencode"]

# Ids in one page of a listing, and documents that are encoded at once.
_PAGE: Final = 5_000
_CHUNK: Final = 1_024
# For the next page: five chunks are encoded before it is asked for.
_KEEP_ALIVE: Final = "15m"

# Called with the documents that are copied and those that there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Reencoded:
    """What one run did."""

    alias: str
    before: str
    index: str
    encoder: str  # name@hash
    encoder_before: str  # empty: the index had no vectors
    documents: int
    encoded: int  # by this run; less than `documents` if it went on with an interrupted one
    seconds: float
    read_only_seconds: float  # how long writes were refused
    deleted: tuple[str, ...]  # earlier generations
    warnings: tuple[str, ...]  # writes that were let in again; what failed after the switch

    def json(self) -> dict[str, Any]:
        return asdict(self)


def reencode(
    client: OpenSearch,
    live: Live,
    body: Mapping[str, Any],
    encoder: PassageEncoder,
    *,
    dimensions: int = 0,
    resume: bool = False,
    keep: int = 1,
    progress: Progress | None = None,
) -> Reencoded:
    """Fills a new index with the documents of a live one and the encoder's vectors, and moves the
    aliases to it.

    Args:
        body: settings and mappings of the new index, for vectors of the encoder.
        dimensions: to which vectors are cut, as for `index_catalogue`; 0: they are not.
        resume: goes on with the index that an interrupted run left.
        keep: how many earlier generations stay, for going back.

    Raises:
        InvalidInput: the index holds vectors of this encoder already; a document has no title to
            encode, or is refused by OpenSearch.
        NotFound: `resume`, and there is nothing to resume; the alias stands for another index by
            now, or an index was deleted.
        Unavailable, Overloaded, Unsupported: OpenSearch does not answer, is too busy, or its disk
            is full. The alias is as it was; the message says what became of the new index.
    """
    began = time.monotonic()
    encoder_before = str(live.noted.get("encoder", ""))
    if encoder_before == encoder.ref:
        raise InvalidInput(
            f"{live.index} holds vectors of {encoder.ref} already. Name another encoder with "
            "--encoder; `neuralrank models list` shows them."
        )
    # Encoding takes hours, in which writes go on.
    lifted = lift_left_over(client, live.index)
    meta = {
        "encoder": encoder.ref,
        "dimensions": dimensions or encoder.dimensions,
        # Not the catalogue that the live index came from: it may have been written to since.
        "catalogue": f"index:{live.index}",
    }
    begin = find_unfinished if resume else create
    generation = begin(client, live.alias, body, meta, ingested=True)
    copy = _Copy(
        client, live.index, generation, encoder, dimensions, progress,
        packed=are_indexed_packed(client, body),
    )  # fmt: skip
    try:
        copy.catch_up()  # everything
        copy.catch_up()  # what was written meanwhile
        with read_only(client, live.index) as check:
            closed = time.monotonic()
            count = copy.catch_up()
            check()
            switched = generation.finish(client, count, keep, replaces=live.index)
    except BaseException as error:
        # Encoding took hours, and a document can be corrected; but a full disk needs the space, and
        # an index that is gone or not live any more gives nothing to go on with.
        resumable = not isinstance(error, Unsupported | NotFound)
        give_up(client, generation, error, resumable=resumable)
        raise
    ended = time.monotonic()
    return Reencoded(
        live.alias,
        live.index,
        generation.index,
        encoder.ref,
        encoder_before,
        count,
        copy.encoded,
        round(ended - began, 3),
        round(ended - closed, 3),
        switched.deleted,
        (*lifted, *switched.warnings),
    )


class _PointGone(Unavailable):
    """A point in time ends with its node, and when no page was asked for in `_KEEP_ALIVE`."""


class _Copy:
    """From one index to the next, in passes."""

    def __init__(
        self,
        client: OpenSearch,
        source: str,
        generation: Generation,
        encoder: PassageEncoder,
        dimensions: int,
        progress: Progress | None,
        *,
        packed: bool,
    ) -> None:
        """
        Args:
            packed: whether vectors that are packed need no numbers.
        """
        self.encoded = 0
        self._client = client
        self._source = source
        self._target = generation.index
        self._encoder = encoder
        self._width = dimensions or encoder.dimensions
        self._packed = packed
        self._progress = progress

    def catch_up(self) -> int:
        """Makes the target hold what the source holds now; returns how many documents that is."""
        while True:
            before = self.encoded
            try:
                return self._pass()
            except _PointGone:
                if self.encoded == before:  # else the next pass has less to do
                    raise

    def _pass(self) -> int:
        there = {hit["_id"]: int(hit["_version"]) for hit in self._listed(self._target)}
        done = 0
        stale: list[str] = []
        with self._opened(self._source) as (point, total):
            for hit in self._hits(point):
                if there.pop(hit["_id"], None) == int(hit["_seq_no"]) + 1:
                    done += 1
                    continue
                stale.append(hit["_id"])
                if len(stale) == _CHUNK:
                    done = self._copy(stale, done, total)
                    stale.clear()
            self._copy(stale, done, total)
        # What is left of them is gone from the source.
        for start in range(0, len(there), _CHUNK):
            ids = list(there)[start : start + _CHUNK]
            self._client.delete_by_query(
                index=self._target,
                body={"query": {"ids": {"values": ids}}},
                params={"refresh": "true"},
            )
        return total

    def _copy(self, ids: Sequence[str], done: int, total: int) -> int:
        if not ids:
            return done
        answer = self._client.mget(
            index=self._source,
            body={"ids": list(ids)},
            params={"_source_excludes": f"{VECTOR},{PACKED}"},
        )
        for item in answer["docs"]:
            if error := item.get("error"):  # not gone, such as of a shard that is away
                raise Unavailable(
                    f"OpenSearch could not read document {item['_id']!r} of {self._source}: "
                    f"{error.get('reason', error)}."
                )
        found = [item for item in answer["docs"] if item.get("found")]
        sources = {item["_id"]: item["_source"] for item in found}
        for identity, source in sources.items():
            if not str(source.get("title") or "").strip():
                raise InvalidInput(
                    f"Document {identity!r} of {self._source} has no title, which its vector would "
                    "be made of. Give it one, or delete it."
                )

        def encoded(count: int) -> None:
            self.encoded += count
            if self._progress:
                self._progress(min(done + self.encoded - before, total), total)

        before = self.encoded
        vectors = self._encoder.encode_passages([headline(s) for s in sources.values()], encoded)
        self.encoded = before + len(sources)
        documents = [
            (
                identity,
                {
                    **source,
                    **self._photo(source),
                    **text_fields(vector, self._width, packed=self._packed),
                },
            )
            for (identity, source), vector in zip(sources.items(), vectors, strict=True)
        ]
        versions = {item["_id"]: int(item["_seq_no"]) + 1 for item in found}
        refused = bulk_write(
            self._client, self._target, documents, versions=versions, ingested=True
        )
        if refused:
            raise InvalidInput(
                f"OpenSearch refused {len(refused)} documents of {self._source}; the first is "
                f"{refused[0].id!r}: {refused[0].reason}. Correct or delete it."
            )
        return done + len(ids)

    def _photo(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """The numbers of a photo's vector, where they are needed and the source has none."""
        if self._packed or IMAGE_VECTOR in source:
            return {}
        vector = unpack(source.get(IMAGE_PACKED))
        return {} if vector is None else photo_fields(vector, packed=False)

    def _listed(self, index: str) -> Iterator[Hit]:
        with self._opened(index) as (point, _):
            yield from self._hits(point)

    @contextmanager
    def _opened(self, index: str) -> Iterator[tuple[str, int]]:
        """A point in time of an index as it is now, and how many documents it has."""
        self._client.indices.refresh(index=index)
        with point_in_time(self._client, index, _KEEP_ALIVE) as point:
            body = {"size": 0, "track_total_hits": True, "pit": {"id": point}}
            with _point_there():
                answer = self._client.search(body=body, params=AS_STORED)
            yield point, int(answer["hits"]["total"]["value"])

    def _hits(self, point: str) -> Iterator[Hit]:
        """Id, version and sequence number of every document, without its content."""
        body = {
            "sort": [{"_shard_doc": "asc"}],
            "_source": False,
            "version": True,
            "seq_no_primary_term": True,
        }
        with _point_there():
            for hits in batches(
                self._client, point, _KEEP_ALIVE, body, size=_PAGE, params=AS_STORED
            ):
                yield from hits


@contextmanager
def _point_there() -> Iterator[None]:
    """Raises _PointGone: what is asked in the block finds the point in time gone."""
    try:
        yield
    except NotFound as error:
        raise _PointGone(
            f"The point in time that documents are listed by is gone: {error}"
        ) from error

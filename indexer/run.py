"""From a catalogue to an index: read, validate, encode, write, switch.

Encoding is what takes time, so writing goes on beside it, in another thread, and at most two chunks
wait to be written.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from indexer.photos import Photos
from indexer.rejects import Rejects
from indexer.unfinished import give_up
from neuralrank.catalogue.product import NoProduct, Product, document, headline
from neuralrank.catalogue.reading import Catalogue, Row
from neuralrank.errors import InvalidInput, NeuralrankError, Overloaded, Unavailable
from neuralrank.opensearch.generation import (
    Generation,
    check_name,
    create,
    digest,
    find_unfinished,
)
from neuralrank.opensearch.packing import IMAGE_PACKED, unpack
from neuralrank.opensearch.succession import lift_left_over
from neuralrank.opensearch.vectors import are_indexed_packed, photo_fields, text_fields
from neuralrank.opensearch.writing import bulk_write

__all__ = ["PassageEncoder", "Summary", "index_catalogue"]

# Rows in a chunk. Larger chunks pad less (texts are batched by length within one) and take memory.
_CHUNK: Final = 1024


class PassageEncoder(Protocol):
    """What turns passages into vectors; `neuralrank.encoders.encoder.Encoder` is one."""

    @property
    def ref(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode_passages(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What one run did."""

    read: int  # rows in the catalogue
    written: int  # documents in the index, those of a resumed run included
    rejected: int
    seconds: float
    documents_per_second: float
    index: str
    alias: str
    encoder: str  # name@hash; empty: no vectors
    image_encoder: str  # name@hash; empty: no vectors of photos
    photos: int  # documents with a vector of their photo, of this run
    photos_failed: int  # documents whose photo could not be had
    photo_problems: str  # the file that says why; empty: none failed
    rejects: str  # the rejects file; empty: nothing was rejected
    reject_reasons: Mapping[str, int]  # the commonest, and how many rows have each
    resumed: int  # documents that an earlier run had written
    deleted: tuple[str, ...]  # earlier generations
    warnings: tuple[str, ...]  # writes that were let in again; what failed after the switch

    def json(self) -> dict[str, Any]:
        return asdict(self)


def index_catalogue(
    client: OpenSearch,
    catalogue: Catalogue,
    name: str,
    body: Mapping[str, Any],
    encoder: PassageEncoder | None,
    rejects: Path,
    *,
    photos: Photos | None = None,
    dimensions: int = 0,
    resume: bool = False,
    keep: int = 1,
    max_rejected: float = 0.1,
    progress: Callable[[float, int, int], None] | None = None,
) -> Summary:
    """Indexes a catalogue and moves the alias `name` to it.

    Args:
        body: settings and mappings of the index.
        encoder: makes `text_vector`, which is written packed, and as numbers where the cluster
            needs them (`neuralrank.opensearch.vectors`); None: no vectors.
        photos: makes `image_vector` likewise; None: photos are not looked at. Why a photo could not
            be had is written beside `rejects`, in a file that ends in `.photos.jsonl`.
        dimensions: to which vectors are cut for the search of neighbours; 0: they are not. Packed
            ones, which rank, stay whole.
        rejects: where rows that can't be indexed go, as JSON Lines of line, reason and row. It is
            written only if there are any.
        resume: goes on with the index that an interrupted run left.
        keep: how many earlier generations stay.
        max_rejected: the largest share of rows, 0 to 1, that may be rejected: above it the alias
            does not move. A feed that went wrong would replace what is searched, and the one after
            it the last good index.
        progress: called with the part of the catalogue that is read in [0, 1], and how many
            documents were written and rejected.

    Raises:
        InvalidInput: the catalogue, the name or too many rows can't be used.
        Unavailable, Overloaded, Unsupported: OpenSearch does not answer, is too busy, or its disk
            is full. The alias is as it was; the message says what became of the new index.
    """
    began = time.monotonic()
    rejected, unseen = (Rejects(path, catalogue.path) for path in (rejects, _beside(rejects)))
    check_name(client, name)
    meta = {
        "encoder": encoder.ref if encoder else "",
        "dimensions": (dimensions or encoder.dimensions) if encoder else 0,
        "catalogue": catalogue.fingerprint,
        "mappings_and_settings": digest(body),
        "image_encoder": photos.encoder.ref if photos else "",
        "image_dimensions": photos.encoder.dimensions if photos else 0,
    }
    begin = find_unfinished if resume else create
    generation = begin(client, name, body, meta)
    try:
        # Encoding takes hours, in which writes to what serves go on.
        lifted = [
            said for index in generation.serving(client) for said in lift_left_over(client, index)
        ]
        with rejected, unseen:
            run = _Run(
                client,
                generation,
                encoder,
                photos,
                dimensions,
                rejected,
                unseen,
                resume,
                progress,
                packed=are_indexed_packed(client, body),
            )
            run.fill(catalogue)
        if run.written == 0:
            raise InvalidInput(_nothing_written(catalogue, rejected, run.read))
        # Of all rows, also where an interrupted run has written some of them.
        if rejected.count / run.read > max_rejected:
            raise InvalidInput(_too_many(catalogue, rejected, run.read, max_rejected))
        similarity = photos.similarity() if photos else None
        notes = {"image_similarity": similarity} if similarity else {}
        switched = generation.finish(client, run.written, keep, notes=notes)
    except BaseException as error:
        # After any other, the catalogue would have to change, and what is written is of this one.
        resumable = isinstance(error, KeyboardInterrupt | Unavailable | Overloaded)
        give_up(client, generation, error, resumable=resumable)
        raise
    seconds = time.monotonic() - began
    return Summary(
        read=run.read,
        written=run.written,
        rejected=rejected.count,
        seconds=round(seconds, 3),
        documents_per_second=round((run.written - run.resumed) / max(seconds, 1e-3), 1),
        index=generation.index,
        alias=name,
        encoder=encoder.ref if encoder else "",
        image_encoder=photos.encoder.ref if photos else "",
        photos=run.photos,
        photos_failed=unseen.count,
        photo_problems=str(unseen.path) if unseen.count else "",
        rejects=str(rejects) if rejected.count else "",
        reject_reasons=rejected.commonest,
        resumed=run.resumed,
        deleted=switched.deleted,
        warnings=(*lifted, *switched.warnings),
    )


@dataclass(slots=True)
class _Pending:
    """A product on its way into the index."""

    row: Row
    product: Product


class _Run:
    """One run and its counters."""

    def __init__(
        self,
        client: OpenSearch,
        generation: Generation,
        encoder: PassageEncoder | None,
        photos: Photos | None,
        dimensions: int,
        rejects: Rejects,
        unseen: Rejects,
        resume: bool,
        progress: Callable[[float, int, int], None] | None,
        *,
        packed: bool,
    ) -> None:
        """
        Args:
            packed: whether vectors that are packed need no numbers.
        """
        self.read = self.written = self.resumed = self.photos = 0
        self._client = client
        self._generation = generation
        self._encoder = encoder
        self._photos = photos
        self._width = dimensions or (encoder.dimensions if encoder else 0)
        self._packed = packed
        self._rejects = rejects
        self._unseen = unseen
        self._resume = resume
        self._progress = progress
        # Line of each id, to find duplicates: about 100 bytes a product.
        self._lines: dict[str, int] = {}
        # Why writing failed; set by the writing thread.
        self._failure: NeuralrankError | None = None

    def fill(self, catalogue: Catalogue) -> None:
        """Writes every valid row. Encoding runs here, writing in one other thread."""
        writer = ThreadPoolExecutor(1, thread_name_prefix="indexer-write")
        writing: deque[tuple[list[_Pending], Future[dict[str, str]]]] = deque()
        shown = 0.0
        try:
            for chunk in self._chunks(catalogue):
                documents = self._documents(chunk, shown, catalogue.progress)
                shown = catalogue.progress
                writing.append((chunk, writer.submit(self._write, documents)))
                while len(writing) > 2 or (writing and writing[0][1].done()):
                    self._settle(*writing.popleft())
                self._report(shown)
            while writing:
                self._settle(*writing.popleft())
            self._report(1.0)
        finally:
            writer.shutdown(wait=True, cancel_futures=True)

    def _chunks(self, catalogue: Catalogue) -> Iterator[list[_Pending]]:
        chunk: list[_Pending] = []
        for row in catalogue.rows():
            self.read += 1
            if (pending := self._valid(row)) is not None:
                chunk.append(pending)
            if len(chunk) == _CHUNK:
                yield self._without_present(chunk)
                chunk = []
        if chunk:
            yield self._without_present(chunk)

    def _valid(self, row: Row) -> _Pending | None:
        if row.problem:
            self._reject(row, row.problem)
            return None
        try:
            product = Product.from_row(row.value)
        except NoProduct as error:
            self._reject(row, str(error), error.kinds)
            return None
        if (first := self._lines.setdefault(product.id, row.line)) != row.line:
            self._reject(
                row,
                f"id: {product.id!r} is already in line {first}; the first one counts",
                ["id: is already in an earlier line"],
            )
            return None
        return _Pending(row, product)

    def _without_present(self, chunk: list[_Pending]) -> list[_Pending]:
        """Leaves out what an interrupted run has written."""
        if not self._resume:
            return chunk
        answer = self._client.mget(
            index=self._generation.index,
            body={"ids": [pending.product.id for pending in chunk]},
            params={"_source": IMAGE_PACKED if self._photos else "false"},
        )
        found = [item for item in answer["docs"] if item.get("found")]
        if self._photos:
            packed = (unpack(item.get("_source", {}).get(IMAGE_PACKED)) for item in found)
            self._photos.count(vector for vector in packed if vector is not None)
        present = {item["_id"] for item in found}
        self.resumed += len(present)
        self.written += len(present)
        return [pending for pending in chunk if pending.product.id not in present]

    def _documents(
        self, chunk: list[_Pending], start: float, end: float
    ) -> list[tuple[str, dict[str, Any]]]:
        """The chunk's documents, with vectors. Progress goes from `start` to `end` meanwhile."""
        documents = [(pending.product.id, document(pending.product)) for pending in chunk]
        if self._encoder and chunk:
            # float32 [chunk, dimensions]; the encoder batches by length itself.
            done = 0

            def encoded(count: int) -> None:
                nonlocal done
                done += count
                self._report(start + (end - start) * done / len(chunk))

            vectors = self._encoder.encode_passages([headline(p.product) for p in chunk], encoded)
            for (_, fields), vector in zip(documents, vectors, strict=True):
                fields |= text_fields(vector, self._width, packed=self._packed)
        if self._photos and chunk:
            seen = self._photos.see([pending.product for pending in chunk])
            for (_, fields), picture in zip(documents, seen.vectors, strict=True):
                if picture is not None:
                    fields |= photo_fields(picture, packed=self._packed)
                    self.photos += 1
            for place, reason in seen.problems.items():
                row = chunk[place].row
                self._unseen.write(row.line, reason, row.value)
        return documents

    def _write(self, documents: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
        if self._failure:
            raise self._failure  # what waits behind it would only wait in vain once more
        try:
            refused = bulk_write(self._client, self._generation.index, documents)
        except NeuralrankError as error:
            self._failure = error
            raise
        return {item.id: item.reason for item in refused}

    def _settle(self, chunk: list[_Pending], writing: Future[dict[str, str]]) -> None:
        """Waits for a chunk to be written, and counts it."""
        refused = writing.result()
        for pending in chunk:
            if (reason := refused.get(pending.product.id)) is not None:
                self._reject(
                    pending.row, f"OpenSearch refused it: {reason}", ["OpenSearch refused it"]
                )
            else:
                self.written += 1

    def _report(self, fraction: float) -> None:
        if self._progress:
            self._progress(fraction, self.written, self._rejects.count)

    def _reject(self, row: Row, reason: str, kinds: Iterable[str] = ()) -> None:
        self._rejects.write(row.line, reason, row.value, kinds)


def _nothing_written(catalogue: Catalogue, rejected: Rejects, read: int) -> str:
    if read == 0:
        return f"{catalogue.path} holds no product."
    return f"None of the {read} rows of {catalogue.path} could be indexed. {_reasons(rejected)}"


def _too_many(catalogue: Catalogue, rejected: Rejects, read: int, allowed: float) -> str:
    share = rejected.count / read
    return (
        f"{rejected.count:,} of the {read:,} rows of {catalogue.path} were rejected, a share of "
        f"{share:.4g}; --max-rejected allows {allowed:g}. {_reasons(rejected)} Mend the catalogue, "
        "or, if the rest is what is to be searched, index again with a higher --max-rejected."
    )


def _reasons(rejected: Rejects) -> str:
    named = ", ".join(f"{reason} ({count:,} ×)" for reason, count in rejected.commonest.items())
    return f"The commonest reasons: {named}. {rejected.path} says why, row by row."


def _beside(rejects: Path) -> Path:
    """The file of photos that could not be had."""
    stem = rejects.name.removesuffix(".jsonl").removesuffix(".rejects")
    return rejects.with_name(f"{stem}.photos.jsonl")

"""The photos of products as vectors: read from disk or fetched, decoded, encoded.

Decoding goes on in other threads while the photos before are encoded, and no more are held than
the next few. A photo that can't be had costs its product the vector, and nothing else.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import numpy as np
import urllib3
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from indexer.photo_hosts import Hosts, SilentHost
from neuralrank import __version__
from neuralrank.bundles.bundle import ImageInputs
from neuralrank.catalogue.product import Product
from neuralrank.encoders.pictures import MAX_BYTES, Picture, read_picture
from neuralrank.errors import InvalidInput
from neuralrank.opensearch.packing import IMAGE_PACKED, unpack

__all__ = ["Known", "LiveVectors", "PhotoEncoder", "Photos", "Seen"]

Vector = NDArray[np.float32]

# Photos that are decoded ahead, 600 KB each, and encoded in one run.
_AHEAD: Final = 32
# Threads that wait for other machines; decoding has as many cores as there are.
_FETCHING: Final = 16
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=20.0)
# Not when the server says: that may be hours, and is obeyed each time.
_RETRIES: Final = urllib3.Retry(
    total=3, redirect=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504),
    respect_retry_after_header=False,
)  # fmt: skip
# Seconds for a photo, from the first attempt on: one that drips in would hold its thread for hours.
_WHOLE: Final = 60.0
_PART: Final = 2**16
_SAMPLE: Final = 1_000
# Fewer photos say too little about what is alike among them.
_SAMPLE_AT_LEAST: Final = 50


class PhotoEncoder(Protocol):
    """What turns photos into vectors; `neuralrank.encoders.image_encoder.ImageEncoder` is one."""

    inputs: ImageInputs

    @property
    def ref(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, pictures: Sequence[Picture]) -> Vector: ...


class Known(Protocol):
    """Vectors of photos that were encoded before."""

    def of(self, products: Sequence[Product]) -> Mapping[str, Vector]:
        """By id, of products whose photo is at the same address as then."""
        ...


@dataclass(slots=True)
class Seen:
    """What became of the photos of some products: a vector or None each, and why there is none,
    where there is a photo."""

    vectors: list[Vector | None]
    problems: dict[int, str]


class Photos:
    """Reads and encodes photos."""

    def __init__(self, encoder: PhotoEncoder, folder: Path, known: Known | None = None) -> None:
        """
        Args:
            folder: that paths in the catalogue begin at, and lie in.
            known: asked before a photo is fetched from an address.
        """
        self.encoder = encoder
        self._folder = folder.resolve()
        self._known = known
        self._pool = urllib3.PoolManager(
            maxsize=_FETCHING, timeout=_TIMEOUT, retries=_RETRIES,
            headers={"user-agent": f"neuralrank/{__version__}", "accept": "image/*"},
        )  # fmt: skip
        self._hosts = Hosts()
        self._threads = ThreadPoolExecutor(_FETCHING, thread_name_prefix="photos")
        self._decoding = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")
        self._random = np.random.default_rng(7)
        self._sample: list[Vector] = []
        self._count = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._pool.clear()

    def see(self, products: Sequence[Product]) -> Seen:
        """Of each product the vector of its photo, float32 [dimensions] of length 1."""
        seen = Seen([None] * len(products), {})
        fetched = [product for product in products if _is_address(_reference(product))]
        known = self._known.of(fetched) if self._known and fetched else {}
        wanted: list[int] = []
        for place, product in enumerate(products):
            if (vector := known.get(product.id)) is not None:
                seen.vectors[place] = vector
            elif _reference(product):
                wanted.append(place)
        for places, pictures in self._pictures(products, wanted, seen.problems):
            for place, vector in zip(places, self.encoder.encode(pictures), strict=True):
                seen.vectors[place] = vector
        self.count(vector for vector in seen.vectors if vector is not None)
        return seen

    def count(self, vectors: Iterable[Vector]) -> None:
        """Has the vectors count for `similarity`; those of `see` do already."""
        for vector in vectors:
            self._keep(vector)

    def similarity(self) -> dict[str, float] | None:
        """What the cosine of two photos means in this catalogue: `low` is what two of its photos
        typically have, `high` what nine of ten have at most to the one nearest to them. None where
        there were too few.

        Photos of a shop that sells shoes alone are nearer to each other than any model can know.
        """
        if len(self._sample) < _SAMPLE_AT_LEAST:
            return None
        vectors = np.stack(self._sample)
        cosines = vectors @ vectors.T
        low = float(np.median(cosines[np.triu_indices(len(vectors), 1)]))
        np.fill_diagonal(cosines, -1.0)
        high = float(np.quantile(cosines.max(axis=1), 0.9))
        # A catalogue of one photo, many times, tells nothing apart.
        return {"low": round(low, 4), "high": round(high, 4)} if high - low > 0.01 else None

    def _keep(self, vector: Vector) -> None:
        """Reservoir sampling (Vitter, 1985): each has the same chance to be in the sample."""
        self._count += 1
        if len(self._sample) < _SAMPLE:
            self._sample.append(vector)
        elif (place := int(self._random.integers(self._count))) < _SAMPLE:
            self._sample[place] = vector

    def _pictures(
        self, products: Sequence[Product], wanted: Sequence[int], problems: dict[int, str]
    ) -> Iterator[tuple[list[int], list[Picture]]]:
        """What is to be encoded together: places and pictures."""
        parts = [wanted[start : start + _AHEAD] for start in range(0, len(wanted), _AHEAD)]
        ahead: list[Future[Picture]] = []
        for number, part in enumerate(parts):
            now = ahead or [self._begin(products[place]) for place in part]
            after = parts[number + 1] if number + 1 < len(parts) else []
            ahead = [self._begin(products[place]) for place in after]
            places, pictures = [], []
            for place, future in zip(part, now, strict=True):
                try:
                    pictures.append(future.result())
                    places.append(place)
                except InvalidInput as error:
                    problems[place] = str(error)
            if pictures:
                yield places, pictures

    def _begin(self, product: Product) -> "Future[Picture]":
        reference = _reference(product)
        read = self._fetched if _is_address(reference) else self._local
        threads = self._threads if _is_address(reference) else self._decoding
        return threads.submit(lambda: read_picture(read(reference), self.encoder.inputs))

    def _local(self, reference: str) -> bytes:
        try:
            path = (self._folder / reference).resolve()
            if not path.is_relative_to(self._folder):
                raise InvalidInput(
                    f"image: {reference!r} leads out of {self._folder}. Name the folder of all "
                    "photos with --image-folder."
                )
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"image: {reference!r} can't be read: {error}") from error

    def _fetched(self, address: str) -> bytes:
        until = time.monotonic() + _WHOLE
        body = bytearray()
        try:
            with (
                self._hosts.asking(urllib3.util.parse_url(address).netloc or ""),
                self._pool.request("GET", address, preload_content=False) as answer,
            ):
                if answer.status != 200:
                    raise InvalidInput(f"image: {address} answers {answer.status}.")
                while len(body) <= MAX_BYTES and (part := answer.read1(_PART, decode_content=True)):
                    body += part
                    if time.monotonic() > until:
                        raise TimeoutError(
                            f"after {_WHOLE:g} seconds {len(body):,} bytes of it were there, and "
                            "not all."
                        )
                return bytes(body)
        except (urllib3.exceptions.HTTPError, SilentHost, OSError, ValueError) as error:
            raise InvalidInput(f"image: {address} can't be fetched: {error}") from error


class LiveVectors:
    """`Known` from the index that serves, so that a catalogue that is indexed each night fetches
    only what is new."""

    def __init__(self, client: OpenSearch, index: str) -> None:
        self._client = client
        self._index = index

    def of(self, products: Sequence[Product]) -> Mapping[str, Vector]:
        answer = self._client.mget(
            index=self._index,
            body={"ids": [product.id for product in products]},
            params={"_source_includes": f"image,image_url,{IMAGE_PACKED}"},
        )
        before = {item["_id"]: item.get("_source", {}) for item in answer["docs"]}
        found: dict[str, Vector] = {}
        for product in products:
            source: Mapping[str, Any] = before.get(product.id, {})
            address = source.get("image") or source.get("image_url")
            vector = unpack(source.get(IMAGE_PACKED))
            if vector is not None and address == _reference(product):
                found[product.id] = vector
        return found


def _reference(product: Product) -> str:
    return product.image or product.image_url or ""


def _is_address(reference: str) -> bool:
    try:
        return urlsplit(reference).scheme.lower() in ("http", "https")
    except ValueError:
        return False

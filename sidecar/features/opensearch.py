"""What ranking reads from OpenSearch: items, users' events, what an index holds.

The only module of the sidecar that speaks to OpenSearch. Every call takes the seconds that it may
last, and raises `Unavailable` when they are over, whatever the network does, or where a shard is
missing (`answers`).
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from opensearchpy import AsyncOpenSearch

from neuralrank.bundles.bundle import Calibration
from neuralrank.catalogue.product import PASSAGE_FIELDS, passage, strings
from neuralrank.encoders.image_encoder import ALIKE
from neuralrank.errors import NotFound
from neuralrank.opensearch.packing import IMAGE_VECTOR, unpack
from neuralrank.opensearch.point_in_time import AS_STORED, WHOLE
from sidecar.domain import Attributes, Floats, Item, Profile
from sidecar.features import events
from sidecar.features.answers import understood, whole, within
from sidecar.sizes import shown

__all__ = ["Features", "IndexInfo", "OpenSearchFeatures", "PhotosInfo"]

# Ids in one search: a few MB of vectors.
_PAGE: Final = 1_000
# The hits that an index allows in one search, where it does not say.
_HITS: Final = 10_000
# What is read of an item beside its vectors.
_READ: Final = (*PASSAGE_FIELDS, "price", "in_stock")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index or alias is at the moment.

    `generation` names the concrete indexes behind it, each with its UUID: it changes when an alias
    is switched, and when an index is deleted and created again under the same name.
    `encoder` is the bundle, as name@hash, whose vectors it holds; "" where it does not say.
    `dimensions` is how long its vectors are; 0 where it does not say.
    `packed` is the field that holds the vectors in the form of `neuralrank.opensearch.packing`; ""
    for none.
    `photos` is what it says of vectors of photos; None where it has none.
    `hits` is how many it allows in one search.
    """

    name: str
    generation: str
    encoder: str
    packed: str = ""
    dimensions: int = 0
    photos: "PhotosInfo | None" = None
    hits: int = _HITS

    @property
    def names(self) -> frozenset[str]:
        """Of the concrete indexes."""
        return frozenset(part.partition("/")[0] for part in self.generation.split(","))

    @property
    def count(self) -> int:
        """Concrete indexes."""
        return self.generation.count(",") + 1


@dataclass(frozen=True, slots=True)
class PhotosInfo:
    """Vectors of photos in an index: the bundle, as name@hash, that made them, the field that holds
    them packed, and what their cosines mean."""

    encoder: str
    packed: str
    similarity: Calibration


class Features(Protocol):
    """The source of everything that a request does not carry. `timeout` is in seconds."""

    async def index(self, name: str, timeout: float) -> IndexInfo:
        """Raises NotFound where there is no such index, Unavailable where OpenSearch is silent."""
        ...

    async def items(self, index: IndexInfo, ids: Sequence[str], timeout: float) -> list[Item]:
        """Those of the items that the index has, in any order; raises Unavailable."""
        ...

    async def events(self, user: str, timeout: float) -> Profile:
        """An unknown user has an empty profile; raises Unavailable."""
        ...


class OpenSearchFeatures:
    """`Features` from a cluster."""

    def __init__(
        self,
        client: AsyncOpenSearch,
        *,
        events_index: str,
        vector_field: str,
        profile_events: int,
        text_characters: int,
    ) -> None:
        self._client = client
        self._events_index = events_index
        self._vector_field = vector_field
        self._profile_events = profile_events
        self._text_characters = text_characters

    async def index(self, name: str, timeout: float) -> IndexInfo:
        answer = await within(
            timeout,
            self._client.indices.get(
                index=name,
                # Not the fields, which may be many.
                params={
                    "filter_path": "*.settings.index.uuid,*.settings.index.max_result_window,"
                    "*.mappings._meta.neuralrank",
                    "request_timeout": timeout,
                },
            ),
            named_by_caller=True,
        )
        if not answer and "*" in name:
            raise NotFound(f"No index matches {shown(name)}. Name one that there is.")
        with understood():
            if not answer:  # OpenSearch itself says of a name that it does not know it
                raise ValueError("no index")
            settings = [_inner(body, "settings", "index") for body in answer.values()]
            uuids = [one.get("uuid") for one in settings]
            hits = min(int(one.get("max_result_window", _HITS)) for one in settings)
            said = [_inner(body, "mappings", "_meta", "neuralrank") for body in answer.values()]
            # Beside one that names its encoder, an index that says nothing has no vectors of ours,
            # nor has one that says that it has none (`neuralrank index --no-vectors`).
            notes = [note for note in said if note.get("encoder")]
            notes = notes or [note for note in said if note]
            encoders = {str(note.get("encoder", "")) for note in notes}
            dimensions = {int(note.get("dimensions") or 0) for note in notes}
            packed = {
                str(field)
                for note in notes
                if (field := _inner(note, "packed_vectors").get(self._vector_field))
            }
            photos = {_photos(note) for note in said if note}
        return IndexInfo(
            name,
            ",".join(sorted(f"{one}/{uuid}" for one, uuid in zip(answer, uuids, strict=True))),
            # Several indexes with several encoders match no single one, and so are a mismatch.
            " and ".join(sorted(encoders)),
            packed.pop() if len(packed) == 1 else "",
            dimensions.pop() if len(dimensions) == 1 else 0,
            photos.pop() if len(photos) == 1 else None,
            hits,
        )

    async def encoders(self, timeout: float) -> set[str]:
        """The bundles, as name@hash, that any index of the cluster names as its encoder.

        Raises:
            Unavailable: OpenSearch is silent, or does not allow it.
        """
        answer = await within(
            timeout,
            self._client.indices.get_mapping(
                # Of system indexes OpenSearch warns, and none of them has an encoder.
                index="*,-.*",
                params={
                    "filter_path": "*.mappings._meta.neuralrank.encoder",
                    "request_timeout": timeout,
                },
            ),
        )
        found = {
            str(_inner(body, "mappings", "_meta", "neuralrank").get("encoder", ""))
            for body in answer.values()
        }
        return {ref for ref in found if "@" in ref}

    async def items(self, index: IndexInfo, ids: Sequence[str], timeout: float) -> list[Item]:
        # Each index may have an item of the same id.
        length = max(1, min(_PAGE, index.hits // index.count))
        pages = [ids[start : start + length] for start in range(0, len(ids), length)]
        return await within(timeout, self._read(index, pages, timeout))

    async def _read(
        self, index: IndexInfo, pages: Sequence[Sequence[str]], timeout: float
    ) -> list[Item]:
        field = index.packed or self._vector_field
        first = (self._page(index, page, field, timeout) for page in pages)
        found = [item for page in await asyncio.gather(*first) for item in page]
        # An index that packs its vectors may hold documents that others wrote.
        without = {item.id for item in found if item.vector is None}
        if not index.packed or not without:
            return found
        again = [name for page in pages for name in page if name in without]
        length = len(pages[0])
        rest = [again[start : start + length] for start in range(0, len(again), length)]
        second = (self._page(index, page, self._vector_field, timeout) for page in rest)
        read = [item for page in await asyncio.gather(*second) for item in page]
        # Of several with the same id, each in an index of its own, some are there already.
        had = {(item.index, item.id): item for item in found if item.vector is not None}
        return [*had.values(), *(item for item in read if (item.index, item.id) not in had)]

    async def _page(
        self, index: IndexInfo, ids: Sequence[str], field: str, timeout: float
    ) -> list[Item]:
        image = index.photos.packed if index.photos else ""
        answer = await self._client.search(
            index=index.name,
            body={
                "query": {"ids": {"values": list(ids)}},
                "size": min(index.hits, len(ids) * index.count),
                "track_total_hits": False,
                "sort": ["_doc"],
                "seq_no_primary_term": True,
                "_source": [field, *([image] if image else ()), *_READ],
            },
            # The index may have our own pipeline as its default, which would call us again.
            params={"request_timeout": timeout, **AS_STORED},
            # Packing and unpacking vectors takes longer than sending them.
            headers={"accept-encoding": "identity"},
        )
        with understood():
            return [self._item(hit, field, image) for hit in whole(answer, index.name)]

    def _item(self, hit: Mapping[str, Any], field: str, image: str) -> Item:
        source: Mapping[str, Any] = hit.get("_source") or {}
        return Item(
            id=hit["_id"],
            vector=_vector(source.get(field)),
            image=_vector(source.get(image)) if image else None,
            text=passage(source, self._text_characters),
            brand=next(iter(strings(source.get("brand"))), ""),
            price=_lowest(source.get("price")),
            in_stock=_in_stock(source.get("in_stock")) is not False,
            category=tuple(strings(source.get("category"))),
            attributes=_attributes(source),
            version=int(hit.get("_seq_no", -1)),
            index=str(hit.get("_index", "")),
        )

    async def events(self, user: str, timeout: float) -> Profile:
        return await within(timeout, self._profile(user, timeout))

    async def has_events(self, timeout: float) -> bool:
        """Whether there is an index of events at all; raises Unavailable."""
        answers = await within(timeout, self._search_events([{"size": 0}], timeout))
        with understood():
            whole(answers[0], self._events_index)
            return bool(answers[0]["_shards"]["total"])

    async def _profile(self, user: str, timeout: float) -> Profile:
        most, now = self._profile_events, int(time.time() * 1_000)
        bodies = events.recent(user, most, now), events.lasting(user)
        answers = await self._search_events(bodies, timeout)
        with understood():
            newest, lasting = answers
            rows = events.interactions(whole(newest, self._events_index), most, now)
            found = events.by_item(lasting, self._events_index)
        if found is None:
            answers = await self._search_events([events.lasting_events(user)], timeout)
            with understood():
                found = events.by_event(whole(answers[0], self._events_index))
        bought, blocked = found
        return Profile(interactions=rows, purchased=bought, blocked_items=blocked)

    async def _search_events(
        self, bodies: Sequence[dict[str, Any]], timeout: float
    ) -> list[Mapping[str, Any]]:
        """The answers to searches in the events, in order."""
        header = {"index": self._events_index, "ignore_unavailable": True, **WHOLE}
        answer = await self._client.msearch(
            body=[line for body in bodies for line in (header, body)],
            params={"request_timeout": timeout, "max_concurrent_searches": len(bodies)},
        )
        with understood():
            return list(answer["responses"])


def _photos(note: Mapping[str, Any]) -> PhotosInfo | None:
    encoder = str(note.get("image_encoder") or "")
    packed = str(_inner(note, "packed_vectors").get(IMAGE_VECTOR, ""))
    if not encoder or not packed:
        return None
    said = _inner(note, "image_similarity")
    low, high = _number(said.get("low")), _number(said.get("high"))
    return PhotosInfo(encoder, packed, Calibration(low=low, high=high) if low < high else ALIKE)


def _vector(value: Any) -> Floats | None:
    """float32 [d] of length 1, or None where there is none that could be used."""
    vector = unpack(value)
    if vector is None:
        if not isinstance(value, list) or not value:
            return None
        try:
            with np.errstate(over="ignore"):
                vector = np.array(value, np.float32)
        except (OverflowError, TypeError, ValueError):
            return None
    norm = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not np.isfinite(norm) or norm == 0.0:
        return None
    return vector / np.float32(norm)


def _attributes(source: Mapping[str, Any]) -> Attributes:
    """Attributes as lists of strings; the colour, which is a field of its own, among them, and of
    several brands all."""
    brands = strings(source.get("brand"))
    several = {"brand": brands} if len(brands) > 1 else {}
    given = {"color": source.get("color")}, source.get("attributes"), several
    return {
        str(name): tuple(texts)
        for named in given
        if isinstance(named, Mapping)
        for name, value in named.items()
        if (texts := strings(value))
    }


def _lowest(value: Any) -> float:
    """The lowest of the numbers in a field, from which on a product with variants is had; NaN
    without one. The plugin reads arrays alike."""
    if not isinstance(value, list):
        return _number(value)
    found = (_lowest(one) for one in value)
    return min((number for number in found if not math.isnan(number)), default=math.nan)


def _in_stock(value: Any) -> bool | None:
    """Whether there is any of it, of variants any of one of them; None where nothing says so."""
    if isinstance(value, list):
        said = [known for one in value if (known := _in_stock(one)) is not None]
        return any(said) if said else None
    if value in ("true", "false"):
        return bool(value == "true")
    count = _number(value)
    return None if math.isnan(count) else count > 0


def _number(value: Any) -> float:
    """NaN where it is no number."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (OverflowError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _inner(value: Any, *path: str) -> Mapping[str, Any]:
    """The object at the path; empty where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}

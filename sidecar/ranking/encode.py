"""Queries, passages, users and items as vectors of one encoder."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from neuralrank.encoders.matryoshka import cut
from neuralrank.errors import EncoderMismatch, NotFound
from neuralrank.personal.inputs import Event
from neuralrank.text.exclusions import wanted_part
from sidecar.deadline import Deadline
from sidecar.domain import PHOTOS, EncodeInput, Encoding, Floats, Interest, Item, Profile
from sidecar.features.items import ItemStore
from sidecar.features.opensearch import IndexInfo
from sidecar.features.profile import Users
from sidecar.inference.inference import Inference
from sidecar.models.follower import Models
from sidecar.models.serving import EncoderModel, Serving
from sidecar.ranking.interests import interests
from sidecar.ranking.space import strict_space
from sidecar.ranking.taste import done
from sidecar.sizes import MAX_EXCLUDED, shown

__all__ = ["Vectors"]

# Users whose events and items are read beside each other: one after the other, 256 of them would
# take longer than a request may.
_USERS_AT_ONCE: Final = 16


class Vectors:
    """Makes vectors to search neighbours with. Unlike ranking it has no lesser answer: a vector of
    the wrong space is an error."""

    def __init__(
        self, models: Models, items: ItemStore, users: Users, inference: Inference
    ) -> None:
        self._models = models
        self._items = items
        self._users = users
        self._inference = inference

    async def encode(
        self,
        inputs: Sequence[EncodeInput],
        encoder: str,
        index: str,
        deadline: Deadline,
        *,
        exclusions: bool = False,
    ) -> tuple[list[Encoding], str]:
        """One encoding for each input, in order, and the name@hash of the encoder that made them.
        For an index of shorter vectors they are cut to its length, if the encoder allows that.

        Args:
            encoder: name or name@hash; "" for the index's own, else the default.
            index: where the vectors are to be searched, and where users' items and items are
                looked up; "" for none.
            exclusions: whether what queries exclude is read: they are encoded without it.

        Raises:
            NotFound: the encoder, the index or an item is not there.
            EncoderMismatch: the index holds vectors of another encoder, or of a length to which
                this one's can't be cut.
            Unavailable: OpenSearch did not answer in time.
            DeadlineExceeded: a model could not run in time, or there was too little for OpenSearch.
        """
        serving = self._models.serving
        info = await self._items.index(index, deadline) if index else None
        if any(entry.kind in PHOTOS for entry in inputs):
            return await self._photos(inputs, encoder, info, deadline)
        model = strict_space(serving, info, encoder)
        width = _width(model, info)
        found: dict[int, Encoding] = {}
        texts: dict[str, list[int]] = {"query": [], "passage": [], "item": []}
        users: list[int] = []
        for position, entry in enumerate(inputs):
            (users if entry.kind == "user" else texts[entry.kind]).append(position)
        for start in range(0, len(users), _USERS_AT_ONCE):
            some = users[start : start + _USERS_AT_ONCE]
            made = await asyncio.gather(
                *(self._user(inputs[place], info, model, serving, deadline) for place in some)
            )
            found.update(zip(some, made, strict=True))
        asked = [inputs[place].value for place in texts["query"]]
        queries, passages, items = await asyncio.gather(
            self._queries(list(map(wanted_part, asked)) if exclusions else asked, model, deadline),
            self._passages([inputs[place].value for place in texts["passage"]], model, deadline),
            self._lookup([inputs[place].value for place in texts["item"]], info, deadline),
        )
        for kind, encodings in (("query", queries), ("passage", passages), ("item", items)):
            found.update(zip(texts[kind], encodings, strict=True))
        return [_cut(found[position], width) for position in range(len(inputs))], model.ref

    async def _photos(
        self,
        inputs: Sequence[EncodeInput],
        encoder: str,
        info: IndexInfo | None,
        deadline: Deadline,
    ) -> tuple[list[Encoding], str]:
        """As `encode`, of photos alone."""
        ref = _of_photos(info, encoder)
        found: dict[int, Encoding] = {}
        places = [place for place, entry in enumerate(inputs) if entry.kind == "photo"]
        items = await self._found([inputs[place].value for place in places], info, deadline)
        for place, item in zip(places, items, strict=True):
            why = f"item {item.id!r} has no vector of a photo in its index"
            found[place] = _encoding(item.image, why)
        places = [place for place, entry in enumerate(inputs) if entry.kind == "image"]
        # What is named has to be the index's also where nothing is left to encode.
        if places or encoder:
            model = self._models.serving.image_encoder(ref)
            held = info.photos if info is not None else None
            if info is not None and held is not None and model.ref != held.encoder:
                raise EncoderMismatch(
                    f"Index {info.name!r} holds vectors of photos by {held.encoder}, and "
                    f"{model.ref} is to be used. Serve that bundle, or index the catalogue again."
                )
            ref = model.ref
            images = [inputs[place].image for place in places]
            vectors = await self._inference.encode_images(model, images, deadline)
            found.update(zip(places, _encodings(vectors), strict=True))
        return [found[place] for place in range(len(inputs))], ref

    async def _queries(
        self, queries: Sequence[str], model: EncoderModel, deadline: Deadline
    ) -> list[Encoding]:
        if not queries:
            return []
        return _encodings(await self._inference.encode_queries(model, queries, deadline))

    async def _passages(
        self, passages: Sequence[str], model: EncoderModel, deadline: Deadline
    ) -> list[Encoding]:
        if not passages:
            return []
        return _encodings(await self._inference.encode_passages(model, passages, deadline))

    async def _lookup(
        self, ids: Sequence[str], index: IndexInfo | None, deadline: Deadline
    ) -> list[Encoding]:
        name = index.name if index else ""
        return [
            _encoding(item.vector, f"item {item.id!r} has no vector in index {name!r}")
            for item in await self._found(ids, index, deadline)
        ]

    async def _found(
        self, ids: Sequence[str], index: IndexInfo | None, deadline: Deadline
    ) -> list[Item]:
        """The items of an index, one for each id.

        Raises:
            NotFound: it lacks one.
            Unavailable: OpenSearch did not answer in time.
        """
        if index is None or not ids:
            return []
        found = await self._items.get(index, list(dict.fromkeys(ids)), deadline)
        missing = [name for name in ids if name not in found.items]
        if missing and found.problem:
            raise found.problem
        if missing:
            raise NotFound(
                f"Index {index.name!r} has no item {shown(missing[0])}. Use the id of an item "
                "there."
            )
        return [found.items[name] for name in ids]

    async def _user(
        self,
        entry: EncodeInput,
        index: IndexInfo | None,
        model: EncoderModel,
        serving: Serving,
        deadline: Deadline,
    ) -> Encoding:
        profile = entry.profile
        if profile is None:
            profile = await self._users.profile(entry.value, deadline)
        found = await self._of_profile(entry, profile, index, model, serving, deadline)
        return replace(found, excluded=_excluded(entry, profile))

    async def _of_profile(
        self,
        entry: EncodeInput,
        profile: Profile,
        index: IndexInfo | None,
        model: EncoderModel,
        serving: Serving,
        deadline: Deadline,
    ) -> Encoding:
        if not profile.interactions:
            why = "no events and no interactions of the user"
            return Encoding(None, why, collaborative=_likely(entry, serving, model, (), profile))
        events = done(profile)
        # Who did nothing with any item, and searched for some, is not one of whom nothing is known.
        likely = _likely(entry, serving, model, events, profile) if events else ()
        taste, problem = await self._users.taste(profile, index, model, deadline)
        if taste.interest is None:
            if problem:
                raise problem
            count = len(profile.interactions)
            why = f"none of the user's {count} interactions has a vector here"
            likely = likely or _likely(entry, serving, model, (), profile)
            return Encoding(None, why, collaborative=likely)
        apart = interests(taste.vectors, taste.weights, entry.interests) if entry.interests else ()
        return Encoding(taste.interest, interests=apart, collaborative=likely)


def _likely(
    entry: EncodeInput,
    serving: Serving,
    model: EncoderModel,
    events: Sequence[Event],
    profile: Profile,
) -> tuple[str, ...]:
    """What those who did the same have, by the ranker that ranks for this user, too, where a part
    of them has a canary. Nothing that the user has bought or blocked, however long ago."""
    if not entry.collaborative:
        return ()
    ranker = serving.arm(entry.value).personal_ranker(model.ref)
    if not ranker:
        return ()
    had = profile.purchased | profile.blocked_items
    return tuple(ranker[0].likely(events, entry.collaborative, had))


def _excluded(entry: EncodeInput, profile: Profile) -> tuple[str, ...]:
    blocked = profile.blocked_items if entry.list_blocked else frozenset[str]()
    purchased = profile.purchased - blocked if entry.list_purchased else frozenset[str]()
    return (*sorted(blocked), *sorted(purchased))[:MAX_EXCLUDED]


def _of_photos(info: IndexInfo | None, named: str) -> str:
    """The image encoder, by name or name@hash: the one that was named, else the index's own, else
    "" for any.

    Raises:
        EncoderMismatch: the index has no vectors of photos.
    """
    if info is None:
        return named
    if info.photos is None:
        raise EncoderMismatch(
            f"Index {info.name!r} has no vectors of photos. Index the catalogue with `neuralrank "
            "index --image-encoder`."
        )
    return named or info.photos.encoder


def _width(model: EncoderModel, info: IndexInfo | None) -> int:
    """How long vectors for an index are."""
    width = info.dimensions if info else 0
    if not info or width in (0, model.dimensions):
        return model.dimensions
    if width not in model.matryoshka:
        allowed = ", ".join(map(str, (*model.matryoshka, model.dimensions)))
        raise EncoderMismatch(
            f"Index {info.name!r} holds vectors of {width} dimensions; those of {model.ref} may "
            f"have {allowed}. Index the catalogue again."
        )
    return width


def _cut(encoding: Encoding, width: int) -> Encoding:
    if encoding.vector is None or len(encoding.vector) == width:
        return encoding
    apart = (Interest(cut(one.vector, width), one.share) for one in encoding.interests)
    return replace(encoding, vector=cut(encoding.vector, width), interests=tuple(apart))


def _encoding(vector: Floats | None, why: str) -> Encoding:
    """The vector, or why there is none."""
    return Encoding(vector) if vector is not None else Encoding(None, why)


def _encodings(vectors: Floats) -> list[Encoding]:
    return [Encoding(vector) for vector in vectors]

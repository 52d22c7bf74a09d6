"""What has to be read before candidates can be scored: the user, the items, the query's vector.

The three wait for different things (two searches and a model), so they run at once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuralrank.errors import DeadlineExceeded, NeuralrankError, NotFound, Overloaded
from sidecar.deadline import Deadline
from sidecar.domain import DegradedReason, Floats, Item, ItemKey, Profile, RankQuery
from sidecar.features.items import ItemStore
from sidecar.features.opensearch import IndexInfo
from sidecar.features.profile import Users
from sidecar.inference.inference import Inference
from sidecar.models.serving import Serving
from sidecar.ranking.score import Photos, image_cosines, lacking
from sidecar.ranking.space import Space, space_of, space_of_unread
from sidecar.ranking.taste import Taste
from sidecar.sizes import shown
from sidecar.telemetry.trace import Trace

__all__ = ["Gathered", "Gatherer"]

_NOBODY = Profile()
_EARLIER = "What was read of the user before is used."
# A page with less of what the user wants is expected of a late read; one with what they never want
# to see is not, and has to be said.
_UNKNOWN = "What the user has blocked or bought is not known, and may be shown."


@dataclass(frozen=True, slots=True)
class Gathered:
    """`query_vector` float32 [d] of length 1: the query's, or that of the item of `similar_to`.

    `late`: the deadline left no time for the query's. `unread`: why items that the index may have
    were not read; None: all were. `photos`: how alike those of the candidates are to that of
    `similar_to`; None where the index has none.
    """

    space: Space
    profile: Profile
    taste: Taste | None
    items: Mapping[ItemKey, Item]
    query_vector: Floats | None
    late: bool = False
    unread: DegradedReason | None = None
    photos: Photos | None = None


class Gatherer:
    """Reads what a request needs; what can't be had in time is noted and left out."""

    def __init__(self, items: ItemStore, users: Users, inference: Inference) -> None:
        self._items = items
        self._users = users
        self._inference = inference

    async def gather(
        self, query: RankQuery, serving: Serving, deadline: Deadline, trace: Trace
    ) -> Gathered:
        """Raises NotFound where the index, the item of `similar_to` or the encoder is not there."""
        index, unread = await self._index(query, deadline, trace)
        space = self._space(serving, index, unread, query, trace)
        personal = space.encoder is not None and serving.personal_ranker(space.encoder.ref)
        reads = query.weights.relevance > 0 or bool(personal and query.weights.affinity > 0)
        read = await self._read(query, index, space, deadline, trace, reads_query=reads)
        return replace(read, unread=unread) if unread else read

    async def _index(
        self, query: RankQuery, deadline: Deadline, trace: Trace
    ) -> tuple[IndexInfo | None, DegradedReason | None]:
        """What the index is, and why that could not be read."""
        if not query.index:
            return None, None
        try:
            return await self._items.index(query.index, deadline), None
        except NotFound:
            raise
        except NeuralrankError as error:
            trace.degrade(_reason(error), str(error))
            return None, _reason(error)

    def _space(
        self,
        serving: Serving,
        index: IndexInfo | None,
        unread: DegradedReason | None,
        query: RankQuery,
        trace: Trace,
    ) -> Space:
        if unread is None:
            space = space_of(serving, index, query.encoder)
        else:
            width = query.candidates.vectors.shape[1]
            space = space_of_unread(serving, query.encoder, width)
            if width and space.encoder is None and not space.missing:
                trace.degrade(
                    unread,
                    "vectors: it is not known which encoder made those of the request, as the "
                    "index that says so was not read. Name it in options.encoder.",
                )
        if space.mismatch:
            trace.degrade(DegradedReason.ENCODER_MISMATCH, space.mismatch)
        if space.missing:
            trace.degrade(DegradedReason.MODEL_UNAVAILABLE, space.missing)
        return space

    async def _read(
        self,
        query: RankQuery,
        index: IndexInfo | None,
        space: Space,
        deadline: Deadline,
        trace: Trace,
        *,
        reads_query: bool,
    ) -> Gathered:
        """Profile, items and query vector: they wait for different things, so they run at once."""
        if deadline.passed:
            earlier = None if query.profile else self._users.earlier(query.user_id)
            unmade = {
                "profile": _has_user(query),
                "features": index is not None,
                "query vector": reads_query and _has_use_of_vector(query, space),
            }
            # A request that has none of them, as those over HTTP, is answered in full by what was
            # read lately.
            if left_out := [what for what, wanted in unmade.items() if wanted]:
                detail = f"{_listed(left_out)} left out: no time was left."
                if unmade["profile"] and query.profile is None:
                    detail = f"{detail} {_EARLIER if earlier else _UNKNOWN}"
                trace.degrade(DegradedReason.DEADLINE, detail)
            unread = DegradedReason.DEADLINE if index is not None else None
            known = query.profile or earlier or _NOBODY
            return Gathered(space, known, None, {}, None, unmade["query vector"], unread)
        try:
            async with asyncio.TaskGroup() as group:
                user = group.create_task(self._user(query, index, space, deadline, trace))
                items = group.create_task(self._features(query, index, space, deadline, trace))
                vector = group.create_task(
                    self._query_vector(query, space, deadline, trace, wanted=reads_query)
                )
        except ExceptionGroup as errors:
            # The group wraps what its tasks raise; the caller is to see the error itself.
            raise errors.exceptions[0] from None
        profile, taste = user.result()
        query_vector, late = vector.result()
        found, unread = items.result()
        photos: Photos | None = None
        if query.similar_to:
            item = found.get(query.similar_to)
            if item is not None and space.vectors and space.encoder is not None:
                query_vector = item.vector_of(space.encoder.dimensions)
            if index is not None and index.photos is not None:
                cosines = image_cosines(query.candidates.keys, found, item)
                photos = Photos(index.photos.encoder, cosines, index.photos.similarity)
            # Of a mismatch and of a missing encoder the answer says so already.
            lacks = query_vector is None and not space.mismatch and space.encoder is not None
            if item is not None and lacks and not (photos and item.image is not None):
                trace.degrade(
                    DegradedReason.FEATURES_UNAVAILABLE,
                    "the item of similar_to has no vector here to compare others with",
                    partial=index is None or space.vectors or index.photos is not None,
                )
        return Gathered(space, profile, taste, found, query_vector, late, unread, photos)

    async def _user(
        self,
        query: RankQuery,
        index: IndexInfo | None,
        space: Space,
        deadline: Deadline,
        trace: Trace,
    ) -> tuple[Profile, Taste | None]:
        if not query.user_id and query.profile is None:
            return _NOBODY, None
        with trace.stage("profile", len(query.candidates)):
            profile = query.profile
            try:
                if profile is None:
                    profile = await self._profile(query.user_id, deadline, trace)
                if not profile.interactions:
                    trace.degrade(
                        DegradedReason.NO_USER, "no events and no interactions of the user",
                        partial=False,
                    )  # fmt: skip
                    return profile, None
                if space.encoder is None:
                    return profile, None
                usable = index if space.vectors else None
                known = {} if usable else _known(query, profile, space.encoder.dimensions)
                taste, problem = await self._users.taste(
                    profile, usable, space.encoder, deadline, known
                )
            except NeuralrankError as error:
                said = f"profile: {error}"
                trace.degrade(_reason(error), said if profile else f"{said} {_UNKNOWN}")
                return profile or _NOBODY, None
            except Exception as error:  # a model that fails must not cost the page
                trace.degrade(DegradedReason.MODEL_UNAVAILABLE, f"profile: {error}")
                return profile or _NOBODY, None
        if problem:
            trace.degrade(_reason(problem), f"profile: {problem}")
        elif taste.interest is None:
            trace.degrade(
                DegradedReason.FEATURES_UNAVAILABLE,
                f"none of the user's {len(profile.interactions)} interactions has a vector here",
                partial=index is None or space.vectors,
            )
        return profile, taste

    async def _profile(self, user: str, deadline: Deadline, trace: Trace) -> Profile:
        """As it is, or, where that can't be had, as it was read before; raises where it was not."""
        try:
            return await self._users.profile(user, deadline)
        except NeuralrankError as error:
            earlier = self._users.earlier(user)
            if earlier is None:
                raise
            trace.degrade(_reason(error), f"profile: {error} {_EARLIER}")
            return earlier

    async def _features(
        self,
        query: RankQuery,
        index: IndexInfo | None,
        space: Space,
        deadline: Deadline,
        trace: Trace,
    ) -> tuple[Mapping[ItemKey, Item], DegradedReason | None]:
        """The items that were read, and why there may be more."""
        if index is None:
            return {}, None
        with trace.stage("features", len(query.candidates)):
            positions = lacking(
                query.candidates,
                vectors=space.vectors,
                attributes=bool(query.filters.attributes),
                photos=bool(query.similar_to and index.photos),
            )
            known = query.candidates.keys
            keys: list[ItemKey] = [known[position] for position in positions]
            versions = [query.candidates.versions[position] for position in positions]
            if query.similar_to:
                keys.append(query.similar_to)
                versions.append(None)
            found = await self._items.get(index, keys, deadline, versions)
        if found.problem:
            trace.degrade(_reason(found.problem), f"features: {found.problem}")
        elif query.similar_to and query.similar_to not in found.items:
            raise NotFound(
                f"similar_to names item {shown(query.similar_to)}, which index {query.index!r} "
                "does not have. Use the id of an item that is there."
            )
        return found.items, _reason(found.problem) if found.problem else None

    async def _query_vector(
        self, query: RankQuery, space: Space, deadline: Deadline, trace: Trace, *, wanted: bool
    ) -> tuple[Floats | None, bool]:
        """The vector, and whether it is lacking for lack of time."""
        if not (wanted and space.encoder and _has_use_of_vector(query, space)):
            return None, False
        try:
            vectors = await self._inference.encode_queries(
                space.encoder, [query.query], deadline, trace.spend
            )
            return np.asarray(vectors[0], np.float32), False
        except (DeadlineExceeded, Overloaded) as error:
            trace.degrade(_reason(error), f"query vector: {error}")
            return None, isinstance(error, DeadlineExceeded)
        except Exception as error:  # a model that fails must not cost the page
            trace.degrade(DegradedReason.MODEL_UNAVAILABLE, f"{space.encoder.ref}: {error}")
        return None, False


def _reason(error: NeuralrankError) -> DegradedReason:
    """What an error on the way to OpenSearch or a model is called in the answer."""
    if isinstance(error, DeadlineExceeded):
        return DegradedReason.DEADLINE
    if isinstance(error, Overloaded):
        return DegradedReason.OVERLOAD
    return DegradedReason.FEATURES_UNAVAILABLE


def _has_user(query: RankQuery) -> bool:
    """Whether there is anything to be read of a user."""
    given = query.profile
    return bool(query.user_id) if given is None else bool(given.interactions)


def _has_use_of_vector(query: RankQuery, space: Space) -> bool:
    """Whether there is a query, and something to compare its vector with. Encoding is the dearest
    step of a small request: not for items that have no vectors."""
    asked = bool(query.query) and not query.similar_to and len(query.candidates) > 0
    comparable = space.vectors or bool(query.candidates.has_vector.any())
    return asked and comparable and space.encoder is not None


def _listed(names: Sequence[str]) -> str:
    """a, b and c."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _known(query: RankQuery, profile: Profile, dimensions: int) -> dict[str, Item]:
    """Items of the profile that are among the candidates and came with their vectors: all that is
    known of items where no index holds usable vectors."""
    candidates = query.candidates
    if candidates.vectors.shape[1] != dimensions:
        return {}
    touched = {row.item_id for row in profile.interactions}
    return {
        name: Item(
            name,
            candidates.vectors[position],
            brand=candidates.brands[position] or "",
            category=candidates.categories[position],
        )
        for position, name in enumerate(candidates.item_ids)
        if name in touched and candidates.has_vector[position]
    }

"""Users, read from their events, and their tastes, both cached.

Events serve for a moment only, so that a click changes the next query. What was computed from
them is kept by what it was computed from, the events and the versions of their items: it is never
stale, and reading events anew costs one small search. Both are kept for minutes, since nobody says
when a user is to be forgotten: events of before stand in where reading them anew fails or is late,
as without them a page would show what the user has blocked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from neuralrank.errors import NeuralrankError
from neuralrank.text.exclusions import wanted_part
from sidecar.deadline import Clock, Deadline
from sidecar.domain import Floats, Item, Profile
from sidecar.features.items import ItemStore
from sidecar.features.opensearch import Features, IndexInfo
from sidecar.features.shared import SharedReads
from sidecar.inference.inference import Inference
from sidecar.models.serving import EncoderModel
from sidecar.ranking.taste import Taste, query_texts, taste
from sidecar.telemetry.metrics import Metrics

__all__ = ["Users"]

_EMPTY: Mapping[str, Item] = {}
# Seconds that profiles and tastes are kept: a session's searches, and no longer after a user was
# forgotten.
_KEPT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """A profile as it was read at a time."""

    profile: Profile
    at: float


class Users:
    """Profiles and tastes of users."""

    def __init__(
        self,
        features: Features,
        items: ItemStore,
        inference: Inference,
        metrics: Metrics,
        *,
        ttl: float,
        max_bytes: int,
        half_life_days: float,
        wait: float,
        read_timeout: float,
        exclusions: bool,
        clock: Clock,
    ) -> None:
        """
        Args:
            ttl: seconds after which a user's events are read anew; 0 reads them for every request.
            max_bytes: of profiles and tastes, half each; the least recently used go first.
            half_life_days: see `sidecar.ranking.taste.taste`.
            wait: the most seconds that a request waits for a read.
            read_timeout: the most seconds that a read goes on, waited for or not.
            exclusions: whether what a user searched for is read without what it excludes.
        """
        self._features = features
        self._exclusions = exclusions
        self._items = items
        self._inference = inference
        self._metrics = metrics
        self._half_life_days = half_life_days
        self._read_timeout = read_timeout
        self._ttl = ttl
        self._reads = SharedReads(wait=wait, clock=clock)
        half = max_bytes // 2
        self._clock = clock
        self._profiles: TTLCache[str, _Kept] = TTLCache(
            half,
            max(ttl, _KEPT_SECONDS),
            timer=clock,
            getsizeof=lambda kept: kept.profile.size,
        )
        # Of each user the reads under way, in the order in which they began.
        self._reading: dict[str, list[object]] = {}
        self._tastes: TTLCache[tuple[object, ...], Taste] = TTLCache(
            half, _KEPT_SECONDS, timer=clock, getsizeof=lambda taste: taste.size
        )

    async def profile(self, user: str, deadline: Deadline) -> Profile:
        """The user's profile; an empty one for an unknown user.

        Raises:
            DeadlineExceeded: the deadline left too little time for OpenSearch.
            Unavailable: OpenSearch did not answer in time.
        """
        kept = self._profiles.get(user)
        fresh = kept is not None and self._clock() - kept.at < self._ttl
        self._metrics.cache("user", hits=fresh, misses=not fresh)
        if kept is not None and fresh:
            return kept.profile
        return await self._reads.get(user, lambda: self._read(user), deadline, self._ttl)

    def earlier(self, user: str) -> Profile | None:
        """The user's profile as it was read last, within ten minutes; None if it is not kept. For
        when `profile` raises: better what the user had blocked then than nothing of it."""
        kept = self._profiles.get(user)
        return None if kept is None else kept.profile

    async def taste(
        self,
        profile: Profile,
        index: IndexInfo | None,
        encoder: EncoderModel,
        deadline: Deadline,
        known: Mapping[str, Item] = _EMPTY,
    ) -> tuple[Taste, NeuralrankError | None]:
        """The user's taste in the encoder's space, and why items lack in it; None if none do.

        Args:
            index: where items are looked up; None: only `known` is used.
            known: items that need no look-up.

        Raises:
            DeadlineExceeded: there was no time to encode the user's queries.
        """
        wanted = list(dict.fromkeys(row.item_id for row in profile.interactions if row.item_id))
        items: Mapping[str, Item] = known
        problem: NeuralrankError | None = None
        if index is not None and wanted:
            read = await self._items.get(index, wanted, deadline)
            fresh = {name: read.items[name] for name in wanted if name in read.items}
            items, problem = {**known, **fresh}, read.problem
        # One made of a part of the items is good enough for now, and for now only.
        lasting = index is not None and not problem
        versions = tuple(items[name].version if name in items else None for name in wanted)
        generation = index.generation if index else ""
        blocked = profile.blocked_items.intersection(wanted)
        key = (profile.interactions, blocked, encoder.ref, generation, versions)
        if lasting:
            cached = self._tastes.get(key)
            self._metrics.cache("taste", hits=cached is not None, misses=cached is None)
            if cached is not None:
                return cached, None
        queries = query_texts(profile)
        vectors: dict[str, Floats] = {}
        if queries:
            texts = list(map(wanted_part, queries)) if self._exclusions else queries
            encoded = await self._inference.encode_queries(encoder, texts, deadline)
            vectors = dict(zip(queries, encoded, strict=True))
        found = taste(profile, items, vectors, self._half_life_days, encoder.dimensions)
        if lasting and found.size <= self._tastes.maxsize:
            self._tastes[key] = found
        return found, problem

    @property
    def profile_bytes(self) -> int:
        """Of the profiles that are kept."""
        return int(self._profiles.currsize)

    @property
    def taste_bytes(self) -> int:
        """Of the tastes that are kept."""
        return int(self._tastes.currsize)

    def expire(self) -> None:
        """Frees what is too old to be used, where no request comes that would."""
        self._profiles.expire()
        self._tastes.expire()

    async def close(self) -> None:
        await self._reads.close()

    async def _read(self, user: str) -> Profile:
        reading = self._reading.setdefault(user, [])
        me = object()
        reading.append(me)
        try:
            profile = await self._features.events(user, self._read_timeout)
            # Out of the list: a read that began later, and so knows more, has ended before.
            if me in reading:
                del reading[: reading.index(me)]
                # One larger than the whole cache is used and not kept, nor is what it replaces.
                if profile.size <= self._profiles.maxsize:
                    self._profiles[user] = _Kept(profile, self._clock())
                else:
                    self._profiles.pop(user, None)
            return profile
        finally:
            if me in reading:
                reading.remove(me)
            if not reading and self._reading.get(user) is reading:
                del self._reading[user]

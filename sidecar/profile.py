"""Users, read from their events, and their tastes, both cached.

Two ages: events are kept for a moment only, so that a click changes the next query; what was
computed from them is kept by content, so that reading them again costs one small search.
"""

from collections.abc import Mapping

from cachetools import TTLCache

from sidecar.deadline import Clock, Deadline
from sidecar.domain import Floats, Item, Profile
from sidecar.features import Features, IndexInfo
from sidecar.inference import Inference
from sidecar.items import ItemStore
from sidecar.metrics import Metrics
from sidecar.serving import EncoderModel
from sidecar.shared import SharedReads
from sidecar.taste import Taste, query_texts, taste

__all__ = ["Users"]

_EMPTY: Mapping[str, Item] = {}


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
        entries: int,
        taste_ttl: float,
        half_life_days: float,
        wait: float,
        read_timeout: float,
        clock: Clock,
    ) -> None:
        """
        Args:
            ttl: seconds that a user's events are kept; 0 reads them for every request.
            entries: users kept.
            taste_ttl: seconds that a taste is kept while its events stay the same; the items behind
                it may change meanwhile.
            half_life_days: see `sidecar.taste.taste`.
            wait: the most seconds that a request waits for a read.
            read_timeout: the most seconds that a read goes on, waited for or not.
        """
        self._features = features
        self._items = items
        self._inference = inference
        self._metrics = metrics
        self._half_life_days = half_life_days
        self._read_timeout = read_timeout
        self._reads = SharedReads(wait=wait)
        self._profiles: TTLCache[str, Profile] = TTLCache(entries, ttl, timer=clock)
        self._tastes: TTLCache[tuple[object, ...], Taste] = TTLCache(
            entries, taste_ttl, timer=clock
        )

    async def profile(self, user: str, deadline: Deadline) -> Profile:
        """The user's profile; an empty one for an unknown user.

        Raises:
            Unavailable: OpenSearch did not answer in time.
        """
        profile = self._profiles.get(user)
        self._metrics.cache("user", hits=profile is not None, misses=profile is None)
        if profile is not None:
            return profile
        return await self._reads.get(user, lambda: self._read(user), deadline)

    async def taste(
        self,
        profile: Profile,
        index: IndexInfo | None,
        encoder: EncoderModel,
        deadline: Deadline,
        known: Mapping[str, Item] = _EMPTY,
    ) -> tuple[Taste, str]:
        """The user's taste in the encoder's space, and why items lack in it; "" if none do.

        Args:
            index: where items are looked up; None: only `known` is used.
            known: items that need no look-up.

        Raises:
            DeadlineExceeded: there was no time to encode the user's queries.
        """
        key = (profile.interactions, encoder.ref, index.generation if index else None)
        cached = self._tastes.get(key) if index else None
        if cached is not None:
            return cached, ""
        wanted = list(dict.fromkeys(row.item_id for row in profile.interactions if row.item_id))
        items, problem = known, ""
        if index is not None and wanted:
            read = await self._items.get(index, wanted, deadline)
            items, problem = {**known, **read.items}, read.problem
        queries = query_texts(profile)
        vectors: dict[str, Floats] = {}
        if queries:
            encoded = await self._inference.encode_queries(encoder, queries, deadline)
            vectors = dict(zip(queries, encoded, strict=True))
        found = taste(profile, items, vectors, self._half_life_days)
        # One made of a part of the items is good enough for now, and for now only.
        if index is not None and not problem:
            self._tastes[key] = found
        return found, problem

    def close(self) -> None:
        self._reads.close()

    async def _read(self, user: str) -> Profile:
        profile = await self._features.events(user, self._read_timeout)
        self._profiles[user] = profile
        return profile

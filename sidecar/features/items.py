"""Items and index facts from OpenSearch, cached: bounded in bytes, refreshed by age and version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache, TTLCache

from neuralrank.errors import NeuralrankError, Unavailable
from sidecar.deadline import Clock, Deadline
from sidecar.domain import Item, ItemKey
from sidecar.features.opensearch import Features, IndexInfo
from sidecar.features.shared import SharedReads
from sidecar.telemetry.metrics import Metrics

__all__ = ["Found", "ItemStore"]

# What the note that an item does not exist takes in the cache beside the item's id: its key there,
# which of an item's is the smallest part, is most of it.
_MISSING_BYTES: Final = 350


@dataclass(frozen=True, slots=True)
class Found:
    """Items by their keys. `problem` is why some that the index may have are lacking; None if none
    are."""

    items: Mapping[ItemKey, Item]
    problem: NeuralrankError | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """An item as it was read at a time; None: the index had none. `size` is roughly the bytes that
    it takes in the cache."""

    item: Item | None
    at: float
    size: int


class ItemStore:
    """Reads items through a cache.

    What is kept is known by the concrete indexes, by their UUIDs, and the item's key, so that
    nothing of an old index is seen after its alias was switched, or after it was deleted and
    created again under its name, where versions begin anew. That an index lacks an item is
    remembered too.
    """

    def __init__(
        self,
        features: Features,
        metrics: Metrics,
        *,
        max_bytes: int,
        item_ttl: float,
        index_ttl: float,
        wait: float,
        read_timeout: float,
        clock: Clock,
    ) -> None:
        """
        Args:
            max_bytes: of items kept; the least recently used go first.
            item_ttl: seconds after which an item is read again, for callers that send no version.
                With one, what is cached under it is the item, however old.
            index_ttl: seconds after which alias and encoder of an index are read again.
            wait: the most seconds that a request waits for a read.
            read_timeout: the most seconds that a read goes on, waited for or not.
        """
        self._features = features
        self._metrics = metrics
        self._read_timeout = read_timeout
        self._reads = SharedReads(wait=wait, clock=clock)
        self._clock = clock
        self._item_ttl = item_ttl
        self._items: LRUCache[tuple[str, ItemKey], _Kept] = LRUCache(
            max_bytes, getsizeof=lambda kept: kept.size
        )
        self._indexes: TTLCache[str, IndexInfo] = TTLCache(1_000, index_ttl, timer=clock)

    async def index(self, name: str, deadline: Deadline) -> IndexInfo:
        """What the index or alias is.

        Raises:
            NotFound: there is no such index.
            DeadlineExceeded: the deadline left too little time for OpenSearch.
            Unavailable: OpenSearch did not answer in time.
        """
        info = self._indexes.get(name)
        self._metrics.cache("index", hits=info is not None, misses=info is None)
        if info is not None:
            return info
        return await self._reads.get(("index", name), lambda: self._read_index(name), deadline)

    async def get(
        self,
        index: IndexInfo,
        keys: Sequence[ItemKey],
        deadline: Deadline,
        versions: Sequence[int | None] | None = None,
    ) -> Found:
        """Those of the items that the index has. What is not read in time is lacking, and is in the
        cache for a later request.

        Args:
            versions: the version that the caller saw of each; another one cached is read anew.
        """
        found: dict[ItemKey, Item] = {}
        wanted: list[ItemKey] = []
        # With their versions: a read that began before an update does not serve who saw it.
        asked: list[int | None] = []
        generation, cached = index.generation, self._items
        for position, name in enumerate(keys):
            kept = cached.get((generation, name))
            version = versions[position] if versions else None
            if kept is None or not self._fresh(kept, version):
                wanted.append(name)
                asked.append(version)
            elif kept.item is not None:
                found[name] = kept.item
        self._metrics.cache("item", hits=len(keys) - len(wanted), misses=len(wanted))
        if not wanted:
            return Found(found)
        key = (generation, *wanted, *asked)
        try:
            fresh = await self._reads.get(key, lambda: self._read_items(index, wanted), deadline)
        except NeuralrankError as error:
            return Found(found, error)
        return Found(found | fresh)

    @property
    def bytes(self) -> int:
        """Of the items that are kept."""
        return int(self._items.currsize)

    async def close(self) -> None:
        await self._reads.close()

    async def _read_index(self, name: str) -> IndexInfo:
        info = await self._features.index(name, self._read_timeout)
        self._indexes[name] = info
        return info

    async def _read_items(self, index: IndexInfo, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        began = self._clock()
        names = dict.fromkeys(key if isinstance(key, str) else key[1] for key in keys)
        items = await self._features.items(index, list(names), self._read_timeout)
        known = index.names
        if any(item.index not in known for item in items):
            # Under what is known of it these would be kept as items of the index that was behind
            # the alias before, and be taken for its own once it is again.
            self._indexes.pop(index.name, None)
            raise Unavailable(
                f"Another index than before is behind {index.name!r}. Ask again; what it is, is "
                "read anew."
            )
        by_key: dict[ItemKey, Item] = {item.id: item for item in items}
        by_key |= {(item.index, item.id): item for item in items}
        fresh = {name: by_key[name] for name in keys if name in by_key}
        now = self._clock()
        for name in keys:
            item = fresh.get(name)
            key, kept = (index.generation, name), _Kept(item, now, _size(name, item))
            # An item larger than the whole cache is used and not kept.
            if kept.size <= self._items.maxsize and not self._overtaken(key, kept, began):
                self._items[key] = kept
        return fresh

    def _overtaken(self, key: tuple[str, ItemKey], kept: _Kept, began: float) -> bool:
        """Whether a read that began later, and ended sooner, has brought a newer one."""
        held = self._items.get(key)
        return (
            held is not None
            and held.at > began
            and held.item is not None
            and (kept.item is None or kept.item.version < held.item.version)
        )

    def _fresh(self, kept: _Kept, version: int | None) -> bool:
        if version is not None:
            return kept.item is not None and kept.item.version == version
        return self._clock() - kept.at < self._item_ttl


def _size(key: ItemKey, item: Item | None) -> int:
    if item is not None:
        return item.size
    return _MISSING_BYTES + len(key if isinstance(key, str) else key[1])

"""Items and index facts from OpenSearch, cached: bounded in bytes, refreshed by age and version."""

from collections.abc import Mapping, Sequence

from cachetools import TTLCache

from sidecar.deadline import Clock, Deadline
from sidecar.domain import Item
from sidecar.features import Features, IndexInfo
from sidecar.metrics import Metrics

__all__ = ["ItemStore"]

# What the note that an item does not exist takes in the cache.
_MISSING_BYTES = 200


class ItemStore:
    """Reads items through a cache.

    The key is the concrete index and the id, so that nothing of an old index is seen after its
    alias was switched. That an index lacks an item is remembered too.
    """

    def __init__(
        self,
        features: Features,
        metrics: Metrics,
        *,
        max_bytes: int,
        item_ttl: float,
        index_ttl: float,
        call_timeout: float,
        clock: Clock,
    ) -> None:
        """
        Args:
            max_bytes: of items kept; the least recently used go first.
            item_ttl: seconds after which an item is read again.
            index_ttl: seconds after which alias and encoder of an index are read again.
            call_timeout: seconds that one call to OpenSearch may take, if the deadline allows it.
        """
        self._features = features
        self._metrics = metrics
        self._call_timeout = call_timeout
        self._items: TTLCache[tuple[str, str], Item | None] = TTLCache(
            max_bytes, item_ttl, timer=clock, getsizeof=_size
        )
        self._indexes: TTLCache[str, IndexInfo] = TTLCache(1_000, index_ttl, timer=clock)

    async def index(self, name: str, deadline: Deadline) -> IndexInfo:
        """What the index or alias is.

        Raises:
            NotFound: there is no such index.
            Unavailable: OpenSearch did not answer in time.
        """
        info = self._indexes.get(name)
        self._metrics.cache("index", hits=info is not None, misses=info is None)
        if info is None:
            info = await self._features.index(name, self._timeout(deadline))
            self._indexes[name] = info
        return info

    async def get(
        self,
        index: IndexInfo,
        ids: Sequence[str],
        deadline: Deadline,
        versions: Sequence[int | None] | None = None,
    ) -> Mapping[str, Item]:
        """Those of the items that the index has, by id.

        Args:
            versions: the version that the caller saw of each; another one cached is read anew.

        Raises:
            Unavailable: some had to be read, and OpenSearch did not answer in time.
        """
        found: dict[str, Item] = {}
        wanted: list[str] = []
        generation, cached = index.generation, self._items
        for position, name in enumerate(ids):
            try:
                item = cached[generation, name]
            except KeyError:
                wanted.append(name)
                continue
            version = versions[position] if versions else None
            if version is not None and (item is None or item.version != version):
                wanted.append(name)
            elif item is not None:
                found[name] = item
        self._metrics.cache("item", hits=len(ids) - len(wanted), misses=len(wanted))
        if wanted:
            fresh = {
                item.id: item
                for item in await self._features.items(
                    index.name, wanted, self._timeout(deadline)
                )
            }
            for name in wanted:
                self._keep(generation, name, fresh.get(name))
            found |= fresh
        return found

    @property
    def bytes(self) -> int:
        return int(self._items.currsize)

    def _keep(self, generation: str, name: str, item: Item | None) -> None:
        # An item larger than the whole cache is used and not kept.
        if _size(item) <= self._items.maxsize:
            self._items[generation, name] = item

    def _timeout(self, deadline: Deadline) -> float:
        return max(0.001, min(self._call_timeout, deadline.remaining()))


def _size(item: Item | None) -> int:
    return _MISSING_BYTES if item is None else item.size

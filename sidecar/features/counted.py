"""Reads from OpenSearch, counted by how they end: whether it answers, and in time."""

import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from neuralrank.errors import NotFound
from sidecar.deadline import Clock
from sidecar.domain import Item, Profile
from sidecar.features.opensearch import Features, IndexInfo
from sidecar.telemetry.metrics import Metrics

__all__ = ["CountedFeatures"]

_Result = TypeVar("_Result")


class CountedFeatures:
    """`Features` that are read as before.

    Counted here and not where requests wait: a read is shared by many of them, a request may have
    several, and one that gives up for its short deadline says nothing of OpenSearch.
    """

    def __init__(
        self, features: Features, metrics: Metrics, *, wait: float, clock: Clock = time.monotonic
    ) -> None:
        """
        Args:
            wait: the most seconds that a request waits for a read: one that takes longer is late.
        """
        self._features = features
        self._metrics = metrics
        self._wait = wait
        self._clock = clock

    async def index(self, name: str, timeout: float) -> IndexInfo:
        return await self._counted("index", self._features.index(name, timeout))

    async def items(self, index: IndexInfo, ids: Sequence[str], timeout: float) -> list[Item]:
        return await self._counted("items", self._features.items(index, ids, timeout))

    async def events(self, user: str, timeout: float) -> Profile:
        return await self._counted("events", self._features.events(user, timeout))

    async def _counted(self, what: str, read: Awaitable[_Result]) -> _Result:
        began = self._clock()
        try:
            found = await read
        except NotFound:  # an answer too: it has no such index
            self._answered(what, began)
            raise
        except Exception:  # not that it was cancelled: the sidecar stops
            self._metrics.opensearch_read(what, "failed")
            raise
        self._answered(what, began)
        return found

    def _answered(self, what: str, began: float) -> None:
        late = self._clock() - began > self._wait
        self._metrics.opensearch_read(what, "late" if late else "done")

"""Reads that outlive the request that began them.

A request waits for a read as long as its deadline allows; the read itself goes on and fills the
cache. Otherwise a cluster that is a little slower than the deadline would never fill it, and every
request would be answered without what it asked for.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from neuralrank.errors import DeadlineExceeded, Unavailable
from sidecar.deadline import Clock, Deadline
from sidecar.telemetry.logs import without_reason

__all__ = ["SharedReads"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
# Of a deadline, the most that waiting for OpenSearch may take: what it gives must still be used.
_SHARE: Final = 0.6
# Seconds between warnings, however many reads fail.
_LOG_EVERY: Final = 10.0


class SharedReads:
    """Reads under way, by key: requests that want the same wait for the same read."""

    def __init__(self, *, wait: float, limit: int = 128, clock: Clock = time.monotonic) -> None:
        """
        Args:
            wait: the most seconds that a request waits for a read.
            limit: reads under way at once; one more fails at once. They pile up only where
                OpenSearch hangs.
        """
        self._wait = wait
        self._limit = limit
        self._clock = clock
        # With when they began: the newest of each key, and all that are under way, oldest first.
        self._reads: dict[object, tuple[asyncio.Task[Any], float]] = {}
        self._running: dict[asyncio.Task[Any], float] = {}
        self._silent_until = 0.0
        self._closed = False

    async def get(
        self,
        key: object,
        read: Callable[[], Coroutine[Any, Any, _Result]],
        deadline: Deadline,
        max_age: float = math.inf,
    ) -> _Result:
        """The result of `read`, begun now or joined.

        Args:
            max_age: seconds since a read began beyond which it is not joined: what it gives may
                lack what has happened meanwhile.

        Raises:
            DeadlineExceeded: the deadline left too little time for it.
            Unavailable: OpenSearch is silent, too many are under way, or it was closed.
            NeuralrankError: what `read` raised.
        """
        task, began = self._reads.get(key, (None, 0.0))
        if task is None or self._clock() - began > max_age:
            if self._closed:
                raise Unavailable("The sidecar stops: nothing more is read from OpenSearch.")
            if len(self._running) >= self._limit:
                raise Unavailable(
                    f"{len(self._running)} reads from OpenSearch are under way; no more are begun. "
                    "See its log and load."
                )
            task = asyncio.create_task(read())
            self._reads[key] = (task, self._clock())
            self._running[task] = self._clock()
            task.add_done_callback(lambda done: self._finished(key, done))
        share = _SHARE * deadline.remaining()
        seconds = min(self._wait, share)
        # Not `wait_for`: a request that gives up or is cancelled must not take the read with it.
        done, _ = await asyncio.wait((task,), timeout=seconds)
        if not done and share < self._wait and not self._silent:
            raise DeadlineExceeded(
                f"OpenSearch was waited for {seconds * 1_000:.0f} ms, the part of the deadline "
                "that there is for it. Give more time: raise deadline_ms and, in a pipeline, "
                "timeout_ms."
            )
        if not done:
            raise Unavailable(
                f"OpenSearch did not answer within {seconds * 1_000:.0f} ms. See its log and load, "
                "or let it have more time: NEURALRANK_SIDECAR_OPENSEARCH_TIMEOUT_MS."
            )
        return task.result()  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Ends the reads under way, and waits until they have ended: one that still tried again
        would open a connection anew after its client was closed."""
        self._closed = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    @property
    def _silent(self) -> bool:
        """Whether OpenSearch keeps a read waiting for longer than any request would: then it is at
        fault, and not the deadline of whoever asks."""
        oldest = next(iter(self._running.values()), math.inf)
        return self._clock() - oldest > self._wait

    def _finished(self, key: object, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        # A younger read may have taken its place.
        if key in self._reads and self._reads[key][0] is task:
            del self._reads[key]
        # Seen here, so that a failure which nobody waits for any more is no warning.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Unavailable) and time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _LOG_EVERY
            about = without_reason(error)
            _log.warning("OpenSearch can't be read; ranking goes on without it: %s", about)
            _log.debug("OpenSearch can't be read", exc_info=error)

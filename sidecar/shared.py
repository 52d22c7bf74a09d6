"""Reads that outlive the request that began them.

A request waits for a read as long as its deadline allows; the read itself goes on and fills the
cache. Otherwise a cluster that is a little slower than the deadline would never fill it, and every
request would be answered without what it asked for.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from neuralrank.errors import Unavailable
from sidecar.deadline import Deadline
from sidecar.logs import without_reason

__all__ = ["SharedReads"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
# Of a deadline, the most that waiting for OpenSearch may take: what it gives must still be used.
_SHARE: Final = 0.6
# Seconds between warnings, however many reads fail.
_LOG_EVERY: Final = 10.0


class SharedReads:
    """Reads under way, by key: requests that want the same wait for the same read."""

    def __init__(self, *, wait: float, limit: int = 128) -> None:
        """
        Args:
            wait: the most seconds that a request waits for a read.
            limit: reads under way at once; one more fails at once. They pile up only where
                OpenSearch hangs.
        """
        self._wait = wait
        self._limit = limit
        self._reads: dict[object, asyncio.Task[Any]] = {}
        self._silent_until = 0.0

    async def get(
        self,
        key: object,
        read: Callable[[], Coroutine[Any, Any, _Result]],
        deadline: Deadline,
    ) -> _Result:
        """The result of `read`, begun now or joined.

        Raises:
            Unavailable: it did not come in time, or too many are under way.
            NeuralrankError: what `read` raised.
        """
        task = self._reads.get(key)
        if task is None:
            if len(self._reads) >= self._limit:
                raise Unavailable(
                    f"{len(self._reads)} reads from OpenSearch are under way; no more are begun. "
                    "See its log and load."
                )
            task = asyncio.create_task(read())
            self._reads[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        seconds = min(self._wait, _SHARE * deadline.remaining())
        # Not `wait_for`: a request that gives up or is cancelled must not take the read with it.
        done, _ = await asyncio.wait((task,), timeout=seconds)
        if not done:
            raise Unavailable(
                f"OpenSearch did not answer within {seconds * 1_000:.0f} ms. See its log and load."
            )
        return task.result()  # type: ignore[no-any-return]

    def close(self) -> None:
        for task in self._reads.values():
            task.cancel()

    def _finished(self, key: object, task: asyncio.Task[Any]) -> None:
        del self._reads[key]
        # Seen here, so that a failure which nobody waits for any more is no warning.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Unavailable) and time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _LOG_EVERY
            about = without_reason(error)
            _log.warning("OpenSearch can't be read; ranking goes on without it: %s", about)
            _log.debug("OpenSearch can't be read", exc_info=error)

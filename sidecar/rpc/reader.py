"""Where requests are read: small ones in place, large ones in a thread beside the event loop.

Reading is work of the interpreter, which two threads can't do at once: a thread makes no request
faster. But every half a millisecond (`sidecar/main.py`) it lets the loop's thread in, and who asks
little is answered meanwhile. The way there and back takes 0.15 ms on an idle machine, which small
requests don't pay.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from neuralrank.errors import NeuralrankError, Overloaded, Unavailable
from sidecar.sizes import LARGE_BYTES

__all__ = ["MANY_CANDIDATES", "Reader", "Turn"]

_Read = TypeVar("_Read")
_Refuse = Callable[[NeuralrankError], NoReturn]

# A message of more candidates is read there, however short it is: 5 to 10 µs each, so that one of
# fewer keeps the loop for 5 ms at most.
MANY_CANDIDATES: Final = 500
# Of the requests that may be in work, the share that may be read in the thread or wait for it: a
# quarter. The others are for those that are answered meanwhile.
_SHARE: Final = 4


class Reader:
    """One thread for all large requests, which are read one after the other as they came."""

    def __init__(self, max_in_flight: int) -> None:
        """
        Args:
            max_in_flight: requests that may be in work.
        """
        self._most = max(1, max_in_flight // _SHARE)
        self._threads = ThreadPoolExecutor(1, "read")
        self._lock = asyncio.Lock()
        # That are read in the thread, or wait for it.
        self._large = 0
        self._closed = False

    @asynccontextmanager
    async def turn(self, refuse: _Refuse) -> AsyncIterator["Turn"]:
        """One request's reading.

        Args:
            refuse: called where too many others wait for the thread.
        """
        made = Turn(self, refuse)
        try:
            yield made
        finally:
            made.end()

    async def _enter(self, refuse: _Refuse) -> None:
        if self._large >= self._most:
            refuse(
                Overloaded(
                    f"{self._large} large requests are being read, allowed are {self._most}. Send "
                    f"fewer candidates ({MANY_CANDIDATES} or {LARGE_BYTES // 1024} KiB are not "
                    "large), try again later, or add a sidecar."
                )
            )
        self._large += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._large -= 1
            raise

    def _leave(self) -> None:
        self._large -= 1
        self._lock.release()

    def _begin(self, work: Callable[[], _Read]) -> Future[_Read]:
        if self._closed:
            raise Unavailable("This sidecar is stopping. Ask another, or again in a moment.")
        return self._threads.submit(work)

    def close(self) -> None:
        """Begins no more; what the thread is at, it ends by itself. Again: does nothing."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)


class Turn:
    """The steps in which one request is read. From the first that is large to the end the thread is
    this request's alone: the one that came first is answered first, and no two are decoded and wait
    for each other."""

    def __init__(self, reader: Reader, refuse: _Refuse) -> None:
        self._reader = reader
        self._refuse = refuse
        self._entered = False
        self._step: Future[Any] | None = None

    async def run(self, step: Callable[[], _Read], *, large: bool) -> _Read:
        """What `step` returns, or raises.

        A caller that goes away meanwhile takes what has not begun along; a step that has begun goes
        on to its end, and the thread is not given away before.
        """
        if not (large or self._entered):
            return step()
        if not self._entered:
            await self._reader._enter(self._refuse)
            self._entered = True
        self._step = self._reader._begin(step)
        return await asyncio.wrap_future(self._step)

    def end(self) -> None:
        """Gives the thread to the next one."""
        if not self._entered:
            return
        self._entered = False
        leave = self._reader._leave
        if self._step is None or self._step.done():
            leave()
            return
        self._step.add_done_callback(partial(_later, asyncio.get_running_loop(), leave))


def _later(loop: asyncio.AbstractEventLoop, leave: Callable[[], None], _step: Any) -> None:
    """Called in the thread."""
    with suppress(RuntimeError):  # the loop has ended: nobody waits
        loop.call_soon_threadsafe(leave)

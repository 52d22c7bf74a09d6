"""Requests that wait to be let in while too many are in work.

Who is refused at once asks again at once, and refusing takes a sixth of what answering does: a few
such callers kept a sidecar from all other work. Who waits asks no more meanwhile, and is let in
when one of those in work is done.

The newest first: it has the most of its deadline left. First come, first served has all of them
answered late once there are more than can be answered (Maurer, "Fail at Scale", ACM Queue 13(8),
2015).
"""

import asyncio

__all__ = ["Turns"]


class Turns:
    """Those that wait. Of one event loop."""

    def __init__(self, most: int) -> None:
        """
        Args:
            most: that may wait. One more, and the oldest waits no longer.
        """
        self._most = most
        # In the order of their arrival.
        self._waiting: dict[asyncio.Future[bool], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, seconds: float) -> bool:
        """Whether it is this request's turn; False: it has waited for so long, or others wait that
        have more time."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        if len(self._waiting) >= self._most:
            self._end(next(iter(self._waiting)), False)
        self._waiting[turn] = None
        timer = loop.call_later(seconds, self._end, turn, False)
        try:
            return await turn
        finally:
            timer.cancel()
            self._waiting.pop(turn, None)

    def next(self) -> None:
        """It is the newest's turn."""
        if self._waiting:
            self._end(next(reversed(self._waiting)), True)

    def all(self) -> None:
        """Nobody waits any longer."""
        for turn in list(self._waiting):
            self._end(turn, False)

    def _end(self, turn: asyncio.Future[bool], is_next: bool) -> None:
        self._waiting.pop(turn, None)
        if not turn.done():
            turn.set_result(is_next)

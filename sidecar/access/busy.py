"""How busy the event loop is: what no count of requests shows.

gRPC hands requests to the loop one at a time. Once the loop is never idle, they wait before anyone
has seen them, their deadlines not yet begun, and every answer comes later than the one before: the
only cure is to refuse, which is cheap, until the loop is idle again from time to time.
"""

import asyncio
import math
import selectors
from collections.abc import Callable
from typing import Any, Final

from sidecar.deadline import Clock

__all__ = ["Busy"]

# Seconds over which it is averaged, exponentially: a burst of requests is shorter.
_SPAN_S: Final = 0.05
# The most that counts of one piece of work. A machine that stands still for a moment, or a pause of
# the interpreter, is no load: those who come after it must not be refused for it. Work without end
# is many pieces.
_PIECE_S: Final = 0.02
# How often it is said how long the loop worked, in seconds: seldom enough to cost nothing.
_SAID_S: Final = 0.1


class Busy:
    """The share of its time that a loop was at work, lately: in [0, 1]."""

    def __init__(self, clock: Clock, worked: Callable[[float], None] = lambda _: None) -> None:
        """
        Args:
            worked: told, a few times a second, for how many more seconds the loop was at work.
        """
        self._clock = clock
        self._worked = worked
        # Seconds of work since the beginning, of each piece no more than counts.
        self.total = 0.0
        self._working = 0.0
        self._whole = 0.0
        # Seconds of work, and in all, of which `worked` was not told.
        self._unsaid = 0.0
        self._since = 0.0
        self._stop: Callable[[], None] | None = None

    @property
    def share(self) -> float:
        """0 before anything was seen."""
        # What is never idle comes to a little more than 1 by rounding.
        return min(1.0, self._working / self._whole) if self._whole else 0.0

    def note(self, working: float, idle: float) -> None:
        """That it worked for so many seconds and then was idle for so many."""
        working, idle = max(0.0, working), max(0.0, idle)
        self._unsaid += working
        self._since += working + idle
        counted = min(working, _PIECE_S)
        self.total += counted
        # The older, the less, within a piece too: a long idleness counts no more than the span.
        worked, idled = math.exp(-counted / _SPAN_S), math.exp(-idle / _SPAN_S)
        self._working = (self._working * worked + 1.0 - worked) * idled
        self._whole = 1.0 - (1.0 - self._whole) * worked * idled
        if self._since >= _SAID_S:
            self._worked(self._unsaid)
            self._unsaid = self._since = 0.0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sees every wait of the loop from now on. Nothing is seen of a loop without a selector."""
        selector = getattr(loop, "_selector", None)
        if self._stop is not None or not isinstance(selector, selectors.BaseSelector):
            return
        original = selector.select
        since = self._clock()

        def select(timeout: float | None = None) -> Any:
            nonlocal since
            begun = self._clock()
            ready = original(timeout)
            ended = self._clock()
            # With work at hand it only looks: what that takes, such as waiting for the interpreter,
            # is not idleness.
            idle = 0.0 if timeout is not None and timeout <= 0 else ended - begun
            self.note(ended - since - idle, idle)
            since = ended
            return ready

        selector.select = select  # type: ignore[method-assign]

        def stop() -> None:
            selector.select = original  # type: ignore[method-assign]

        self._stop = stop

    def close(self) -> None:
        """Sees no more."""
        if self._stop is not None:
            self._stop()
            self._stop = None

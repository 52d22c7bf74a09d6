"""Log lines of which there is one a second at most: when all goes wrong, the log must not."""

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Seldom"]

_EVERY: Final = 1.0


class Seldom:
    """When the next line of one kind may be written, and how many were not since the last one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_until = float("-inf")
        self._unsaid = 0

    def due(self) -> int | None:
        """To be asked for each line: how many were left out before this one; None: so is it."""
        now = self._clock()
        if now < self._silent_until:
            self._unsaid += 1
            return None
        self._silent_until = now + _EVERY
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid

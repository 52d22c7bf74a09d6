"""Time that is left for a request, on an injected clock."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock", "Deadline"]

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant on `clock` (seconds, monotonic) at which an answer is of no more use."""

    at: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> "Deadline":
        return cls(clock() + seconds, clock)

    @classmethod
    def never(cls) -> "Deadline":
        return cls(math.inf)

    def remaining(self) -> float:
        """Seconds that are left; 0 when it has passed."""
        return max(0.0, self.at - self.clock())

    def affords(self, seconds: float) -> bool:
        """Whether work of that length would be done in time."""
        return self.clock() + seconds < self.at

    @property
    def passed(self) -> bool:
        return self.clock() >= self.at

"""Time that is left for a request, on an injected clock, and how much it is given."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from sidecar.settings import SidecarSettings

__all__ = ["Allowance", "Clock", "Deadline"]

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


@dataclass(frozen=True, slots=True)
class Allowance:
    """How long requests may take: the one place where their deadlines are made."""

    # The most that a request may ask for, in seconds.
    most: float
    # Kept back to answer in: so many seconds, a quarter at most, so that of a very short deadline a
    # part at least is left to work in.
    margin: float
    clock: Clock = time.monotonic

    @classmethod
    def of(cls, settings: SidecarSettings, clock: Clock) -> Self:
        return cls(settings.max_deadline_ms / 1_000, settings.margin_ms / 1_000, clock)

    def deadline(self, asked: float, left: float = math.inf, gone: float = 0.0) -> Deadline:
        """When the work of a request has to be done; it may have passed already.

        Args:
            asked: seconds that the request asks for.
            left: seconds until the transport's own deadline; infinite where it has none.
            gone: seconds since the request arrived, from where all of it counts.
        """
        seconds = max(0.0, min(asked, self.most, left + gone))
        return Deadline.after(seconds - min(self.margin, seconds / 4) - gone, self.clock)

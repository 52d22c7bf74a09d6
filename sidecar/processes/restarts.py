"""When a worker that ended is started again."""

from dataclasses import dataclass, field

__all__ = ["Restarts"]


@dataclass
class Restarts:
    """How long a worker that ended waits for its next start: doubled each time, until one has lived
    for a while. Pure."""

    first: float = 0.5
    longest: float = 30.0
    forgotten_after: float = 60.0
    _next: float = field(default=0.0, init=False)

    def pause(self, lived: float) -> float:
        """Seconds until the next start.

        Args:
            lived: seconds from the last start to its end.
        """
        again = self._next and lived < self.forgotten_after
        self._next = min(self.longest, 2 * self._next) if again else self.first
        return self._next

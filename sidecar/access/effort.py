"""What a request takes of the event loop, learned while none is refused.

It says how long those that came before will keep the loop from the next one. In the first moments
of a burst nothing else does: how busy the loop is, is an average of what was.
"""

from collections.abc import Callable
from typing import Final

__all__ = ["Effort"]

# How much the newest request counts: what is told is an average of about twenty.
_NEWEST: Final = 0.05


class Effort:
    """Seconds of work a request, averaged exponentially."""

    def __init__(self, worked: Callable[[], float]) -> None:
        """
        Args:
            worked: the seconds that the loop has worked since its beginning.
        """
        self._worked = worked
        self._last = 0.0
        self._known = False
        # 0 before any request has ended.
        self.seconds = 0.0

    def ended(self) -> None:
        """A request has ended: what the loop did since the one before was for it."""
        now = self._worked()
        if self._known:
            self.seconds += _NEWEST * (now - self._last - self.seconds)
        self._last, self._known = now, True

    def refused(self) -> None:
        """A request was turned away. What the loop did since the last one that ended was not for
        requests alone; counted in, refusals would make for more refusals."""
        self._known = False

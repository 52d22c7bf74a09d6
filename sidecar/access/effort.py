"""What a request takes of the event loop, learned while none is refused.

It says how long those that came before will keep the loop from the next one. In the first moments
of a burst nothing else does: how busy the loop is, is an average of what was.
"""

from collections.abc import Callable
from typing import Final

__all__ = ["Effort"]

# How much the newest request counts: what is told is an average of about twenty.
_NEWEST: Final = 0.05
# The most that is learned from one request. What is rare, such as a thousand texts over HTTP, must
# not have others refused.
_MOST_S: Final = 0.02
# What is left of it after each refusal for its sake. While requests are refused nothing is learned:
# what is wrong would stay so.
_DOUBT: Final = 0.99


class Effort:
    """Seconds of work a request, averaged exponentially."""

    def __init__(self, worked: Callable[[], float]) -> None:
        """
        Args:
            worked: the seconds that the loop has worked since its beginning.
        """
        self._worked = worked
        # When the work began that is for requests alone; None: some of it is for something else.
        self._since: float | None = None
        # 0 before any request has ended.
        self.seconds = 0.0

    def began(self) -> None:
        """A request was let in while there was none: what the loop did before was not for it."""
        self._since = self._worked()

    def ended(self) -> None:
        """A request has ended: what the loop did since the one before was for it."""
        now = self._worked()
        if self._since is not None:
            self.seconds += _NEWEST * (min(now - self._since, _MOST_S) - self.seconds)
        self._since = now

    def refused(self, *, late: bool) -> None:
        """A request was turned away. What the loop did since the last one that ended was not for
        requests alone; counted in, refusals would make for more refusals.

        Args:
            late: because of what is told here.
        """
        self._since = None
        if late:
            self.seconds *= _DOUBT

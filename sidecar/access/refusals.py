"""A line for callers that were refused by their token, so that who guesses tokens, or has an old
one, can be found."""

import logging
import time

from neuralrank.errors import Unauthenticated
from sidecar.deadline import Clock
from sidecar.telemetry.seldom import Seldom

__all__ = ["Refusals"]

_log = logging.getLogger(__name__)


class Refusals:
    """Of one sidecar, over gRPC and HTTP together: one line a second, whoever asks how often."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._seldom = Seldom(clock)

    def note(self, error: Unauthenticated, peer: str) -> None:
        """
        Args:
            error: that the caller gets. It says whether a token was sent, and nothing of that one.
            peer: the address of the other end.
        """
        unsaid = self._seldom.due()
        if unsaid is not None:
            # What the caller is told to do is of no use here.
            reason = str(error).partition(". ")[0]
            about = {"reason": reason, "peer": peer, "refused_before_unsaid": unsaid}
            _log.warning("token refused", extra=about)

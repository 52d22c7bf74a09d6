"""Machines that photos come from, and which of them have fallen silent.

One that takes connections and never answers costs each photo a minute and more: a catalogue of
100,000 photos would wait for days, to learn the same each time.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from urllib3 import exceptions

__all__ = ["Hosts", "SilentHost"]

# Requests without an answer, one after the other, after which a machine is silent.
_MOST: Final = 16
# Seconds until a silent one is asked again, by one request.
_PAUSE: Final = 60.0


class SilentHost(Exception):
    """A machine is not asked now; the text says why."""


@dataclass(slots=True)
class _Host:
    unanswered: int = 0
    ask_again: float = 0.0


class Hosts:
    """Counts by machine. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            clock: seconds that only rise.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    @contextmanager
    def asking(self, host: str) -> Iterator[None]:
        """Around a request to it, whose end says whether there was an answer.

        Raises:
            SilentHost: it is silent, and not to be asked yet.
        """
        with self._lock:
            known = self._hosts.setdefault(host, _Host())
            if known.unanswered >= _MOST:
                now = self._clock()
                if now < known.ask_again:
                    raise SilentHost(
                        f"{host} gave no answer to {known.unanswered} requests in a row, and is "
                        f"asked but once in {_PAUSE:g} seconds until it does. Index again when it "
                        "answers: photos that are there are not fetched again."
                    )
                known.ask_again = now + _PAUSE
        silent = False
        try:
            yield
        except (exceptions.HTTPError, OSError) as error:
            silent = _no_answer(error)
            raise
        finally:
            with self._lock:
                known.unanswered = known.unanswered + 1 if silent else 0
                known.ask_again = self._clock() + _PAUSE


def _no_answer(error: Exception) -> bool:
    """Not so if it answered 503 each time, or was never asked, as nobody can read its address."""
    if isinstance(error, exceptions.MaxRetryError):
        return not isinstance(error.reason, exceptions.ResponseError)
    return not isinstance(error, exceptions.LocationValueError)

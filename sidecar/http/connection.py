"""One HTTP connection: uvicorn's, with a bound on the time of everything that the other end does.

uvicorn bounds how long a connection may be idle after a request, and nothing else: one on which no
request ever comes, or half of one, would stay for ever and take the place of others.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sidecar.http.edge import PROBE_PATHS, SUBJECT

__all__ = ["Connection", "Patience"]

# A connection that is closed with something left to send has so long to take it.
_FLUSH_SECONDS: Final = 5.0
# The application itself says that a body is late; a connection that goes on sending is closed so
# much later.
_MORE_SECONDS: Final = 1.0
_PROBES: Final = frozenset(path.encode() for path in PROBE_PATHS)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that the other end may take."""

    # For TLS; and from the connection, or the first byte of a further request, to the end of its
    # head.
    head: float = 10.0
    # From there to the end of the body.
    body: float = 10.0
    # Without taking any of an answer that waits.
    answer: float = 10.0


class Connection(HttpToolsProtocol):
    """A connection that is closed when a request does not come in time.

    Probes are answered however many connections there are: who is asked too much is alive.
    """

    def __init__(self, *, patience: Patience, max_age: float, **given: Any) -> None:
        """
        Args:
            max_age: seconds after which the connection is closed with its next answer, so that the
                client makes another: load spreads, and changed certificates are used by all.
        """
        super().__init__(**given)
        self._patience = patience
        # A tenth more or less, as gRPC has it: not all at once.
        self._ends = self.loop.time() + max_age * random.uniform(0.9, 1.1)
        self._most = self.limit_concurrency
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._subject = ""
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._subject = _common_name(transport.get_extra_info("peercert") or {})
        self._wait(self._patience.head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # The first byte of a request, after others were answered. Empty lines may come before a
        # request, and are none.
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._wait(self._patience.head)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][SUBJECT] = self._subject
        self._in_head = True
        if self._timer is None:  # the request before is still in work
            self._wait(self._patience.head)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._wait(self._patience.body + _MORE_SECONDS)
        path = self.url.partition(b"?")[0]
        self.limit_concurrency = None if path in _PROBES else self._most
        super().on_headers_complete()
        if self.loop.time() >= self._ends:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._stop_waiting()
        if self.cycle.response_complete:  # it was answered before it was whole
            self._wait(self.timeout_keep_alive)
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        self._stop_looking()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self._drop()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._drop()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._expired)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if self.pipeline or (self._in_head and self.cycle and not self.cycle.response_complete):
            # The request before is not answered yet: until it is, nothing needs to come.
            self._wait(self._patience.head)
        else:
            self._drop()

    def _look_later(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._look = self.loop.call_later(self._patience.answer, self._looked, waiting)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _looked(self, waiting: int) -> None:
        """Ends the connection if of so many bytes that waited before none was taken: the next
        answer would wait for them for ever, and the connection with it."""
        if self.transport.get_write_buffer_size() < waiting:
            self._look_later()
        else:
            self.transport.abort()

    def _drop(self) -> None:
        """Closes it; with what the other end does not read, soon after."""
        self.transport.close()
        self.loop.call_later(_FLUSH_SECONDS, self.transport.abort)


def _common_name(certificate: dict[str, Any]) -> str:
    """Of the subject of a certificate that TLS has verified; "" where there is none."""
    names = (pair for part in certificate.get("subject", ()) for pair in part)
    return next((value for name, value in names if name == "commonName"), "")

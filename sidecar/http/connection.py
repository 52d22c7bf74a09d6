"""One HTTP connection: uvicorn's, with a bound on the time of everything that the other end does,
and on the bytes that are kept of it.

uvicorn bounds how long a connection may be idle after a request, and nothing else: one on which no
request ever comes, or half of one, would stay for ever and take the place of others, and the head
of a request might be of any length.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sidecar.access.connections import most_open
from sidecar.http.edge import CROWDED, METRICS_PATH, PROBE_PATHS, SUBJECT
from sidecar.http.parser import Parser

__all__ = ["Connection", "Patience"]

# A connection that is closed with something left to send has so long to take it.
_FLUSH_SECONDS: Final = 5.0
# The application itself says that a body is late; a connection that goes on sending is closed so
# much later.
_MORE_SECONDS: Final = 1.0
# Bytes of a request beside its body: of its first line and headers, and of what may stand after it.
_MAX_HEAD: Final = 2**16
_TOO_LONG: Final = (
    b'{"message":"The head of the request has more than 65,536 bytes; allowed are 65,536. Send '
    b'fewer or shorter headers."}'
)
_REFUSED: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_TOO_LONG), _TOO_LONG)
)
_ALWAYS: Final = frozenset(path.encode() for path in (*PROBE_PATHS, METRICS_PATH))


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

    Probes and metrics are answered however many connections there are: who is asked too much is
    alive, and says how much it is asked.
    """

    # In place of uvicorn's.
    parser: Parser  # type: ignore[assignment]

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
        # Beyond it the application answers, in its own words, and counts.
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._subject = ""
        self.parser = Parser(self, self._head)
        self._in_head = False
        # Bytes since a request last began or some of a body came.
        self._beside = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._most is not None and len(self.connections) > most_open(self._most):
            transport.abort()
            return
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
        self._beside += len(data)
        super().data_received(data)
        if self._beside > _MAX_HEAD and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][SUBJECT] = self._subject
        self._in_head = True
        self._beside = 0
        if self._timer is None:  # the request before is still in work
            self._wait(self._patience.head)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # nobody reads those that stand after a body
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        # One that came in a single piece.
        length = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if length > _MAX_HEAD:
            self._refuse_head()
            raise ValueError("too long")  # ends the parser's work
        if self.parser.offers:
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no proxy")
            return
        self._in_head = False
        self._wait(self._patience.body + _MORE_SECONDS)
        crowded = self._is_crowded() and self.url.partition(b"?")[0] not in _ALWAYS
        if crowded:
            self.logger.warning("Exceeded concurrency limit.")
            self.scope["state"][CROWDED] = self._most
        super().on_headers_complete()
        if crowded or self.loop.time() >= self._ends:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.offers:
            return
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

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _is_crowded(self) -> bool:
        """Whether more connections are open, or requests in work, than are answered."""
        most = self._most
        return most is not None and (len(self.connections) > most or len(self.tasks) >= most)

    def _head(self) -> bytes:
        """The current request's, without an offer of another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _refuse_head(self) -> None:
        """Closes the connection; says why where no other answer is due first."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_REFUSED)
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

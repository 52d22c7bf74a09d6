"""httptools' parser of requests, without its way with an `Upgrade`.

A server may pass over an offer of another protocol (RFC 9110, 7.8). httptools can't: it takes the
body of a request that makes one for the next request. Java's `HttpClient` offers HTTP/2 with its
first request; and who decides what stands in somebody's body would make requests of theirs by it.
"""

from collections.abc import Callable
from typing import Any

import httptools

__all__ = ["Parser"]


class Parser:
    """Tells of a request that makes an offer as if it had made none: its head is read once more,
    without the offer, and the body after it."""

    def __init__(self, receiver: Any, head: Callable[[], bytes]) -> None:
        """
        Args:
            receiver: is told of requests, as httptools has it; while `offers`, of a head that will
                be read once more, and of an end that is none.
            head: the current request's, without its offer.
        """
        self._receiver = receiver
        self._head = head
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self._receiver)
        # As uvicorn has it: what comes after a request that was to be the last is passed over.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    @property
    def offers(self) -> bool:
        """Whether the current request makes an offer (or is a CONNECT)."""
        return self._parser.should_upgrade()

    def feed_data(self, data: bytes) -> None:
        """
        Raises:
            httptools.HttpParserError: it is no HTTP.
        """
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = self._head() + data[offer.args[0] :]
                self._begin()
            else:
                return

    def get_http_version(self) -> str:
        return self._parser.get_http_version()

    def get_method(self) -> bytes:
        return self._parser.get_method()

    def should_keep_alive(self) -> bool:
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        """False: nothing but HTTP/1 is spoken here."""
        return False

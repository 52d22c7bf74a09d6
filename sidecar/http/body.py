"""A request's body, received whole before anything is decoded."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from neuralrank.errors import DeadlineExceeded
from sidecar.http.problems import TooLarge

__all__ = ["Message", "Receive", "Whole", "check_length", "receive_body"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
_GONE: Final = "http.disconnect"
# More digits are more than any limit, whatever they say.
_DIGITS: Final = 18


def check_length(stated: str, most: int) -> None:
    """Refuses a body by its Content-Length.

    Raises:
        TooLarge: it says more than `most` bytes.
    """
    digits = stated.lstrip("0")[:_DIGITS]
    if digits.isascii() and digits.isdigit() and int(digits) > most:
        raise _too_large(f"{int(digits):,}", most)


async def receive_body(
    receive: Receive, *, most: int, arrived: float, seconds: float
) -> bytes | None:
    """The body; None where the caller hung up before it was whole.

    Args:
        most: bytes.
        arrived: when the head was read, on `time.monotonic`.
        seconds: how long after that the last byte may come.

    Raises:
        TooLarge: it has more bytes.
        DeadlineExceeded: it did not come in time.
    """
    parts: list[bytes] = []
    size = 0
    until = arrived + seconds
    while True:
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The body did not come within {seconds:g} s; {size:,} bytes of it did. Send it "
                "faster, or less."
            ) from error
        if message["type"] == _GONE:
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(f"{size:,}", most)
        if not message.get("more_body", False):
            return b"".join(parts)


class Whole:
    """`receive` of a request whose body is here: gives it at once, and then what comes after it,
    which is that the caller has gone."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}


def _too_large(size: str, most: int) -> TooLarge:
    return TooLarge(
        f"The body has {size} bytes or more; allowed are {most:,}. Send fewer or shorter documents."
    )

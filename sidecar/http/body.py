"""A request's body, received whole before anything is decoded."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from neuralrank.errors import DeadlineExceeded, Overloaded
from sidecar.http.problems import TooLarge

__all__ = ["Message", "Receive", "Room", "Whole", "check_length", "receive_body"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
_GONE: Final = "http.disconnect"
# Of each body so much is received whatever others take: usual requests are no longer, and
# connections are bounded.
_FREE: Final = 2**16
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


class Room:
    """The bytes that bodies may have together while they are being received: there is no other
    bound on how many do at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def take(self, count: int) -> None:
        """
        Raises:
            Overloaded: there is not so much left; none is taken.
        """
        if self._taken + count > self._most:
            raise Overloaded(
                f"Bodies of {self._taken:,} bytes are being received, allowed are {self._most:,} "
                f"together; {_FREE:,} of each don't count. Try again later, or send less."
            )
        self._taken += count

    def give(self, count: int) -> None:
        """Gives back what was taken."""
        self._taken -= count


async def receive_body(
    receive: Receive, *, most: int, arrived: float, seconds: float, room: Room
) -> bytes | None:
    """The body; None where the caller hung up before it was whole.

    Args:
        most: bytes.
        arrived: when the head was read, on `time.monotonic`.
        seconds: how long after that the last byte may come.
        room: is held until the body is whole.

    Raises:
        TooLarge: it has more bytes.
        DeadlineExceeded: it did not come in time.
        Overloaded: there is no room for it.
    """
    parts: list[bytes] = []
    size = held = 0
    until = arrived + seconds
    try:
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"The body did not come within {seconds:g} s; {size:,} bytes of it did. Send "
                    "it faster, or less."
                ) from error
            if message["type"] == _GONE:
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise _too_large(f"{size:,}", most)
            more = max(0, size - _FREE) - held
            room.take(more)
            held += more
            if not message.get("more_body", False):
                return b"".join(parts)
    finally:
        room.give(held)


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

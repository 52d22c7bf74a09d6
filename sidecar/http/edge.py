"""What every HTTP request goes through before and after its route: an id, a bound on the body's
bytes and time, and a count."""

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from neuralrank.errors import DeadlineExceeded, InvalidInput, NeuralrankError
from sidecar.http.problems import DEFECT, TooLarge, problem, status_problem

__all__ = ["REQUEST_ID", "Edge", "arrived", "request_id"]

_log = logging.getLogger(__name__)

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

REQUEST_ID: Final = "x-request-id"
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


def request_id(scope: _Scope) -> str:
    """The request's id: the caller's, else one that was made here."""
    return str(scope["state"]["request_id"])


def arrived(scope: _Scope) -> float:
    """When the request's head was read, on `time.monotonic`: its deadline counts from there."""
    return float(scope["state"]["arrived"])


class Edge:
    """ASGI middleware around all routes."""

    def __init__(self, app: _App, *, max_bytes: int, body_seconds: float) -> None:
        """
        Args:
            max_bytes: the longest body that is received.
            body_seconds: how long a caller may take to send it.
        """
        self._app = app
        self._max_bytes = max_bytes
        self._body_seconds = body_seconds

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(REQUEST_ID.encode(), b"").decode("latin-1")
        usable = bool(_ID.fullmatch(given))
        scope.setdefault("state", {})
        scope["state"]["request_id"] = given if usable else uuid.uuid4().hex
        scope["state"]["arrived"] = time.monotonic()
        begun = False

        async def sending(message: _Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [
                    *message.get("headers", []),
                    (REQUEST_ID.encode(), request_id(scope).encode()),
                ]
            await send(message)

        try:
            if given and not usable:
                raise InvalidInput(
                    f"{REQUEST_ID} has {len(given)} characters; allowed are 1 to 128 printable "
                    "ones of ASCII without blanks. Shorten it or leave it out."
                )
            self._check_length(headers.get(b"content-length", b"0"))
            await self._app(scope, self._bounded(scope, receive), sending)
        except NeuralrankError as error:
            if begun:
                raise
            await problem(scope["path"], error)(scope, receive, sending)
        except Exception as error:
            # Without the error's own words: they may quote texts.
            where = "".join(traceback.format_tb(error.__traceback__))
            kind = type(error).__name__
            _log.error(
                "request failed: %s", kind, extra={"method": scope["path"], "traceback": where}
            )
            _log.debug("request failed", exc_info=True)
            if not begun:
                await status_problem(scope["path"], 500, DEFECT, {})(scope, receive, sending)

    def _check_length(self, stated: bytes) -> None:
        if stated.isdigit() and int(stated) > self._max_bytes:
            raise self._too_large(int(stated))

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(
            f"The body has {size:,} bytes or more; allowed are {self._max_bytes:,}. Send fewer or "
            "shorter documents."
        )

    def _bounded(self, scope: _Scope, receive: _Receive) -> _Receive:
        """Receives the body, within bytes and time, in one message: what is decoded is whole."""
        complete = False

        async def bounded() -> _Message:
            nonlocal complete
            if complete:
                return await receive()  # that the caller has gone
            parts: list[bytes] = []
            size = 0
            until = arrived(scope) + self._body_seconds
            while True:
                try:
                    message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
                except TimeoutError as error:
                    raise DeadlineExceeded(
                        f"The body did not come within {self._body_seconds:g} s; {size:,} bytes "
                        "of it did. Send it faster, or less."
                    ) from error
                if message["type"] != "http.request":
                    return message
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._max_bytes:
                    raise self._too_large(size)
                if not message.get("more_body", False):
                    complete = True
                    return {"type": "http.request", "body": b"".join(parts), "more_body": False}

        return bounded

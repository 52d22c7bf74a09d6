"""What every HTTP request goes through before and after its route: an id, who asks, a bound on the
body's bytes and time, a place among the requests in work, and a count.

In this order, so that who may not ask costs nothing: a body is received once its caller is known,
and decoded once the request is let in.
"""

import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

from neuralrank.errors import InvalidInput, NeuralrankError, NotFound, Overloaded
from sidecar.deadline import Allowance, Deadline
from sidecar.http.body import Message, Receive, Room, Whole, check_length, receive_body
from sidecar.http.problems import DEFECT, Encoded, grpc_name, problem, status_problem
from sidecar.telemetry.calls import Call, Calls
from sidecar.telemetry.metrics import Metrics

__all__ = [
    "CROWDED",
    "METRICS_PATH",
    "PROBE_PATHS",
    "REQUEST_ID",
    "RERANK_PATHS",
    "SUBJECT",
    "Admission",
    "Edge",
    "arrived",
    "deadline",
    "request_id",
]

_log = logging.getLogger(__name__)

_Scope = MutableMapping[str, Any]
_Send = Callable[[Message], Awaitable[None]]
_App = Callable[[_Scope, Receive, _Send], Awaitable[None]]

REQUEST_ID: Final = "x-request-id"
_TIMEOUT: Final = "x-request-timeout-ms"
# The routes that cost something, and so are for callers that may ask.
RERANK_PATHS: Final = ("/v1/rerank", "/v2/rerank", "/rerank")
# Those that ask how the sidecar is.
PROBE_PATHS: Final = ("/healthz", "/readyz", "/health")
METRICS_PATH: Final = "/metrics"
# In a request's state: the common name of the certificate that its caller showed.
SUBJECT: Final = "subject"
# There, where it came on a connection too many: how many there may be.
CROWDED: Final = "crowded"
# Every other path has one name in metrics: callers could make up any number of them.
_OTHER: Final = "other"
# Of the longest, how many bodies are received at once.
_BODIES: Final = 4
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_TIMEOUT_DIGITS: Final = 9


class Admission(Protocol):
    """Who asks and whether they are let in: the one that gRPC asks too."""

    def caller(self, authorization: str, subject: str, peer: str) -> str: ...
    async def turn(self, deadline: Deadline, size: int) -> None: ...
    def admitted(self, caller: str, deadline: Deadline) -> AbstractContextManager[object]: ...


def request_id(scope: _Scope) -> str:
    """The request's id: the caller's, else one that was made here."""
    return str(scope["state"]["request_id"])


def arrived(scope: _Scope) -> float:
    """When the request's head was read, on `time.monotonic`: its deadline counts from there."""
    return float(scope["state"]["arrived"])


def deadline(scope: _Scope) -> Deadline:
    """When the work of a request to `RERANK_PATHS` has to be done."""
    found = scope["state"]["deadline"]
    assert isinstance(found, Deadline)  # set before the route is called
    return found


class Edge:
    """ASGI middleware around all routes."""

    def __init__(
        self,
        app: _App,
        admission: Admission,
        calls: Calls,
        metrics: Metrics,
        allowance: Allowance,
        *,
        milliseconds: int,
        max_bytes: int,
        body_seconds: float,
    ) -> None:
        """
        Args:
            admission: asked for requests to `RERANK_PATHS`; probes need nobody's leave.
            calls: opens these requests for logs and traces.
            milliseconds: that such a request has where it does not say, from its arrival.
            max_bytes: the longest body that is received.
            body_seconds: how long a caller may take to send it.
        """
        self._app = app
        self._admission = admission
        self._calls = calls
        self._metrics = metrics
        self._allowance = allowance
        self._milliseconds = milliseconds
        self._max_bytes = max_bytes
        self._body_seconds = body_seconds
        self._room = Room(_BODIES * max_bytes)

    async def __call__(self, scope: _Scope, receive: Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        state = scope.setdefault("state", {})
        state["arrived"] = time.monotonic()
        given = headers.get(REQUEST_ID, "")
        state["request_id"] = given if _ID.fullmatch(given) else uuid.uuid4().hex
        answer = _Answer(send, request_id(scope))
        path = scope["path"]
        known = path in RERANK_PATHS
        asks = known and scope["method"] == "POST"
        opened: AbstractContextManager[Call | None] = (
            self._calls.open(path, headers.items(), request_id(scope)) if asks else nullcontext()
        )
        with opened as call:
            try:
                if CROWDED in state:
                    self._metrics.refused("connections")
                    message = (
                        f"More connections are open than the {state[CROWDED]} that are allowed "
                        "(NEURALRANK_SIDECAR_MAX_CONNECTIONS). Keep fewer; send the next request "
                        "in a moment, or to another sidecar."
                    )
                    await status_problem(path, 503, message, {})(scope, receive, answer)
                else:
                    await (self._ask if asks else self._look)(scope, headers, receive, answer)
            except NeuralrankError as error:
                if answer.status:
                    raise
                await problem(path, error)(scope, receive, answer)
            except Exception as error:
                # Without the error's own words: they may quote texts.
                where = "".join(traceback.format_tb(error.__traceback__))
                kind = type(error).__name__
                _log.error("request failed: %s", kind, extra={"method": path, "traceback": where})
                _log.debug("request failed", exc_info=True)
                if not answer.status:
                    await status_problem(path, 500, DEFECT, {})(scope, receive, answer)
            finally:
                ended = grpc_name(answer.status)
                if call is not None:
                    call.status = ended
                # Of probes and metrics only what is refused: they are asked every few seconds.
                if known or CROWDED in state or 400 <= answer.status < 500:
                    seconds = time.monotonic() - arrived(scope)
                    self._metrics.request(path if known else _OTHER, ended, seconds)

    async def _look(
        self, scope: _Scope, headers: Mapping[str, str], receive: Receive, answer: "_Answer"
    ) -> None:
        """A request that costs nothing."""
        if not scope["path"].isprintable():
            # Starlette takes "/rerank\n" for "/rerank", and none of what is asked of that path
            # would have been asked.
            raise NotFound("Not Found")
        self._check(headers)
        if scope["method"] == "HEAD" and scope["path"] not in RERANK_PATHS:
            # What answers GET answers HEAD, as some load balancers ask (RFC 9110, 9.1).
            await self._app({**scope, "method": "GET"}, receive, _without_body(answer))
            return
        await self._app(scope, receive, answer)

    async def _ask(
        self, scope: _Scope, headers: Mapping[str, str], receive: Receive, answer: "_Answer"
    ) -> None:
        """A request for work."""
        client = scope.get("client")
        peer = client[0] if client else ""
        caller = self._admission.caller(
            headers.get("authorization", ""), scope["state"].get(SUBJECT, ""), peer
        )
        self._check(headers)
        _check_encoding(headers.get("content-encoding", ""))
        asked = _milliseconds(headers.get(_TIMEOUT), self._milliseconds) / 1_000
        gone = time.monotonic() - arrived(scope)
        until = scope["state"]["deadline"] = self._allowance.deadline(asked, gone=gone)
        try:
            body = await receive_body(
                receive,
                most=self._max_bytes,
                arrived=arrived(scope),
                seconds=self._body_seconds,
                room=self._room,
            )
        except Overloaded:
            self._metrics.refused("bodies")
            raise
        if body is None:  # the caller has hung up: nobody reads an answer
            return
        # Sent when its place is free again: who does not read an answer holds none.
        made: list[Message] = []
        await self._admission.turn(until, len(body))
        with self._admission.admitted(caller, until):
            await self._app(scope, Whole(body, receive), _keeping(made))
        for message in made:
            await answer(message)

    def _check(self, headers: Mapping[str, str]) -> None:
        given = headers.get(REQUEST_ID, "")
        if given and not _ID.fullmatch(given):
            raise InvalidInput(
                f"{REQUEST_ID} has {len(given)} characters; allowed are 1 to 128 printable "
                "ones of ASCII without blanks. Shorten it or leave it out."
            )
        check_length(headers.get("content-length", ""), self._max_bytes)


def _milliseconds(given: str | None, usual: int) -> int:
    """What a request's timeout header says, or what is usual without one."""
    if given is None:
        return usual
    usable = given.isascii() and given.isdigit() and len(given) <= _TIMEOUT_DIGITS
    if not (usable and 1 <= int(given) <= 600_000):
        raise InvalidInput(
            f"{_TIMEOUT} is {given[:80]!r}; allowed is a whole number of milliseconds from 1 to "
            f"600000, of at most {_TIMEOUT_DIGITS} digits."
        )
    return int(given)


def _check_encoding(coding: str) -> None:
    """Refuses a body that is compressed: a few bytes can become any number of them.

    Raises:
        Encoded: it says that it is.
    """
    if coding.strip().lower() not in ("", "identity"):
        raise Encoded(
            f"Content-Encoding is {coding[:80]!r}; allowed is none, or identity. Send the JSON as "
            "it is."
        )


def _without_body(send: _Send) -> _Send:
    """`send` of an answer to HEAD, whose headers are those of GET's."""

    async def head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return head


def _keeping(messages: list[Message]) -> _Send:
    """`send` that puts them there."""

    async def send(message: Message) -> None:
        messages.append(message)

    return send


class _Answer:
    """`send`, which puts the request's id into the answer and keeps its status."""

    def __init__(self, send: _Send, identity: str) -> None:
        self._send = send
        self._identity = identity
        # 0 until an answer is begun.
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                (REQUEST_ID.encode(), self._identity.encode()),
            ]
        await self._send(message)

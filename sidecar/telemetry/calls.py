"""The request that is being worked on: its ids, for logs, for traces and for what is sent on.

It is held by a context variable, so it is there in every task that the request began, and nowhere
else. Reads that outlive a request (`sidecar.features.shared`) go on under the request that began
them.
"""

import logging
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final

from sidecar.sizes import MAX_REQUEST_ID
from sidecar.telemetry.seldom import Seldom
from sidecar.telemetry.tracing import Tracing

__all__ = ["Call", "Calls", "current", "opensearch_call", "span"]

_log = logging.getLogger(__name__)

# Where a request id is looked for, in this order, when the message has none. The plugin sends the
# second: OpenSearch's own name for it.
_ID_HEADERS: Final = ("x-request-id", "x-opaque-id")
# W3C Trace Context: version, trace id, parent id, flags; later versions may add fields.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


class Call:
    """One request: `request_id` is the caller's, or one that was made up; `trace_id` and
    `traceparent` are empty where neither the caller nor we trace it. `caller` is who asks by token
    or certificate; "" where nobody has shown one."""

    __slots__ = ("caller", "method", "request_id", "stages", "status", "trace_id", "traceparent",
                 "tracestate", "tracing")  # fmt: skip

    def __init__(
        self, method: str, request_id: str, traceparent: str, tracestate: str, tracing: Tracing
    ) -> None:
        self.caller = ""
        self.method = method
        self.request_id = request_id
        self.traceparent = traceparent
        self.tracestate = tracestate
        self.trace_id = traceparent[3:35]
        self.tracing = tracing
        self.status = "OK"
        # Milliseconds by stage, for the line on a slow request.
        self.stages: dict[str, float] = {}

    def named(self, given: str) -> None:
        """Takes the id that the message itself has, once it is decoded: it goes before those of the
        headers. "" is none."""
        self.request_id = _request_id(given, {}) or self.request_id


_current: ContextVar[Call | None] = ContextVar("call", default=None)


def current() -> Call | None:
    """The request that this task works for; None outside of one."""
    return _current.get()


def span(name: str) -> AbstractContextManager[Any]:
    """A span of the current request, where requests are traced."""
    call = _current.get()
    return nullcontext() if call is None else call.tracing.span(name)


@contextmanager
def opensearch_call(method: str, path: str) -> Iterator[dict[str, str]]:
    """Headers by which a call to OpenSearch continues the current request: X-Opaque-Id, which its
    slow logs and tasks show, and the trace, whether it is exported from here or not."""
    call = _current.get()
    if call is None:
        yield {}
        return
    headers = {"X-Opaque-Id": call.request_id}
    if call.traceparent:
        headers["traceparent"] = call.traceparent
        if call.tracestate:
            headers["tracestate"] = call.tracestate
    with call.tracing.client_span(f"OpenSearch {method}", path, headers):
        yield headers


class Calls:
    """Opens a `Call` for each request of one server."""

    def __init__(self, tracing: Tracing, *, slow_seconds: float) -> None:
        """
        Args:
            slow_seconds: a request that takes longer is logged, with its stages. 0: none is.
        """
        self._tracing = tracing
        self._slow = slow_seconds
        self._seldom = Seldom()

    @contextmanager
    def open(
        self, method: str, headers: Iterable[tuple[str, str | bytes]], request_id: str = ""
    ) -> Iterator[Call]:
        """The request as everything under it sees it; set its `status` where it is not OK.

        Args:
            method: Rank, Encode, … or the path of an HTTP route.
            headers: HTTP headers or gRPC metadata, names in lower case. What can't be used of them
                is passed over: a caller with a broken trace still gets its answer.
            request_id: from the message; "" for that of the headers.
        """
        known = {
            name: value
            for name, value in headers
            if isinstance(value, str) and name in ("traceparent", "tracestate", *_ID_HEADERS)
        }
        traceparent = known.get("traceparent", "")
        if not _TRACEPARENT.fullmatch(traceparent):
            traceparent = ""
        call = Call(
            method,
            _request_id(request_id, known) or secrets.token_hex(8),
            traceparent,
            known.get("tracestate", "") if traceparent else "",
            self._tracing,
        )
        token = _current.set(call)
        start = time.perf_counter()
        try:
            with self._tracing.server_span(call):
                yield call
        finally:
            # Within the call still, so that the line has its ids.
            self._say(call, time.perf_counter() - start)
            _current.reset(token)

    def _say(self, call: Call, seconds: float) -> None:
        slow = 0.0 < self._slow < seconds
        if not slow and not _log.isEnabledFor(logging.DEBUG):
            return
        facts = {
            "status": call.status,
            "milliseconds": round(seconds * 1_000, 1),
            "stages": {name: round(value, 1) for name, value in call.stages.items()},
        }
        if not slow:
            _log.debug("request", extra=facts)
        elif (unsaid := self._seldom.due()) is not None:
            _log.warning("slow request", extra={**facts, "slow_before_unsaid": unsaid})


def _request_id(given: str, headers: dict[str, str]) -> str:
    """The caller's id as far as it can be sent on as a header: printable ASCII, and not long."""
    found = given or next((headers[name] for name in _ID_HEADERS if headers.get(name)), "")
    return "".join(sign for sign in found[:MAX_REQUEST_ID] if " " < sign <= "~")

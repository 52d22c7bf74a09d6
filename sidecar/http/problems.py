"""Errors as HTTP answers: the status from the one table, the body as the route's clients expect."""

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from neuralrank.errors import (
    GRPC_STATUS,
    HTTP_STATUS,
    InvalidInput,
    NeuralrankError,
    RateExceeded,
    http_status,
)
from sidecar.http.strict import NAMED
from sidecar.http.tei import TeiError, tei_type

__all__ = [
    "DEFECT",
    "Encoded",
    "Problem",
    "TooLarge",
    "grpc_name",
    "invalid",
    "problem",
    "status_problem",
]

# Paths whose clients read TEI's errors.
_TEI: Final = frozenset({"/rerank", "/info", "/health"})
# Metrics, logs and traces have gRPC's statuses for both.
_NAMES: Final = {
    0: "CANCELLED",  # no answer: the caller had gone
    200: "OK",
    **{code: GRPC_STATUS[kind] for kind, code in HTTP_STATUS.items()},
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    499: "CANCELLED",
    500: "INTERNAL",
}
DEFECT: Final = "The sidecar failed on this request; its log has the traceback."
_SHOWN: Final = 80
# More than there is room for.
_ENTRIES: Final = _SHOWN // 2


class Problem(BaseModel):
    """What went wrong: what was received, what is allowed, what to do."""

    message: str
    # The same: clients of Jina's read it here.
    detail: str


class TooLarge(InvalidInput):
    """A body that is longer than what is received."""


class Encoded(InvalidInput):
    """A body that was compressed, or encoded otherwise, on its way."""


_OF_HTTP: Final = ((TooLarge, 413), (Encoded, 415))


def grpc_name(status: int) -> str:
    """The gRPC status that means what an HTTP status of ours does; of 0, that of no answer."""
    return _NAMES.get(status, "UNKNOWN")


def problem(path: str, error: NeuralrankError) -> Response:
    """The answer for an error."""
    headers = {}
    if isinstance(error, RateExceeded) and error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    # Those that HTTP has a better word for than the table.
    status = next((code for kind, code in _OF_HTTP if isinstance(error, kind)), http_status(error))
    if status == 415:  # so it says which coding is taken (RFC 9110, 15.5.16)
        headers["accept-encoding"] = "identity"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return _answer(path, status, str(error), tei_type(error), headers)


def status_problem(path: str, status: int, message: str, headers: Mapping[str, str]) -> Response:
    """The answer for what is not an error of ours: no such path, a defect."""
    return _answer(path, status, message, "Backend" if status >= 500 else "Validation", headers)


def _answer(
    path: str, status: int, message: str, kind: str, headers: Mapping[str, str]
) -> Response:
    # A lone surrogate in what was received has no UTF-8.
    message = message.encode("utf-8", "backslashreplace").decode()
    if path in _TEI:
        body: dict[str, Any] = TeiError(error=message, error_type=kind).model_dump()
    else:
        body = Problem(message=message, detail=message).model_dump()
    return JSONResponse(body, status, dict(headers))


def invalid(errors: list[Mapping[str, Any]], allowed: list[str], content_type: str) -> InvalidInput:
    """pydantic's findings in a body, in our words.

    Args:
        allowed: the names of the body's fields.
        content_type: the request's header; the body is taken for JSON only where it says so.
    """
    if any(isinstance(entry.get("input"), bytes) for entry in errors):
        said = f"Content-Type is {_shown(content_type)}" if content_type else "no Content-Type"
        return InvalidInput(
            f"The body was not read as JSON: {said}; allowed is application/json. Send a JSON "
            "object with Content-Type: application/json."
        )
    for entry in errors:
        if entry["type"] == "json_invalid":
            why = entry.get("ctx", {}).get("error", entry["msg"])
            return InvalidInput(
                f"The body is no JSON: {why} at character {entry['loc'][-1]}. Send a JSON object."
            )
    unknown = [str(entry["loc"][-1]) for entry in errors if entry["type"] == "extra_forbidden"]
    parts = []
    if unknown:
        names = ", ".join(repr(name[:_SHOWN])[:_SHOWN] for name in unknown[:NAMED])
        parts.append(f"{names} is no field of this request; allowed are {', '.join(allowed)}")
    for entry in errors:
        if entry["type"] != "extra_forbidden":
            where = _where(entry["loc"])
            given = "" if entry["type"] == "missing" else f": got {_shown(entry.get('input'))}"
            # Its first word alone: values that are allowed keep their case.
            parts.append(f"{where}{given}, {entry['msg'][:1].lower()}{entry['msg'][1:]}")
    more = f"; and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
    return InvalidInput(f"The body can't be used: {'; '.join(parts[:NAMED])}{more}.")


def _where(loc: tuple[str | int, ...]) -> str:
    """("body", "documents", 3, "str") as documents[3]; the branch of a union says nothing."""
    text = ""
    for part in loc[1:]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("str", "dict[str,any]"):
            text += f".{part}" if text else part
    return text or "body"


def _shown(value: object) -> str:
    """A value for a message. Of a long one only so much is written as is shown: all of it would
    hold up others for a second."""
    text = repr(_begin(value))
    if len(text) <= _SHOWN:
        return text
    length = f" ({len(value)} characters)" if isinstance(value, str) else ""
    return f"{text[:_SHOWN]}…{length}"


def _begin(value: Any, levels: int = 3) -> object:
    """As much of a value as there is room for in a message, and some more."""
    if isinstance(value, str):
        return value[:_SHOWN]
    if not isinstance(value, list | dict):
        return value
    if not levels:
        return "…"
    if isinstance(value, list):
        return [_begin(entry, levels - 1) for entry in value[:_ENTRIES]]
    entries = islice(value.items(), _ENTRIES)
    return {key[:_SHOWN]: _begin(entry, levels - 1) for key, entry in entries}

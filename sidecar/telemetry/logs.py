"""Logs: one JSON object a line on stderr, with the ids of the request that a line belongs to."""

import json
import logging
import sys
import traceback
from collections import defaultdict
from typing import Any, Final

from neuralrank.errors import NeuralrankError
from sidecar.telemetry.calls import current
from sidecar.telemetry.seldom import Seldom

__all__ = ["JsonLines", "configure_logs", "without_reason"]

_GRPC: Final = "grpc._cython.cygrpc"
_CALLER_GONE: Final = "ExecuteBatchError raised in core by servicer method"

# What every log record has; what it has beyond these was given as `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName",
    # uvicorn's, for terminals: the message once more, with colours.
    "color_message",
}  # fmt: skip


class JsonLines(logging.Formatter):
    """Time, level, logger, message; of a request its method, request_id and trace_id; and what was
    given as `extra`. Control characters are escaped, so a value can't pass for another line.

    An exception is its type and where it happened; what it says may quote ids of users and items,
    and is in the log at DEBUG only."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        call = current()
        if call is not None:
            entry |= {"method": call.method, "request_id": call.request_id}
            if call.trace_id:
                entry["trace_id"] = call.trace_id
        entry |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            entry["traceback"] = (
                self.formatException(record.exc_info)
                if logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
                else _without_words(record.exc_info[1])
            )
        return json.dumps(entry, ensure_ascii=False, default=str)


class _OneASecond(logging.Filter):
    """Of each warning one a second, with how many were left out before it."""

    def __init__(self) -> None:
        super().__init__()
        # By message; they are constants of the library's.
        self._seldom: defaultdict[str, Seldom] = defaultdict(Seldom)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        unsaid = self._seldom[record.msg].due()
        record.same_before_unsaid = unsaid
        return unsaid is not None


_ONE_A_SECOND: Final = _OneASecond()


def without_reason(error: NeuralrankError) -> str:
    """What an error says, up to OpenSearch's own reason, which may quote what was asked for: ids.
    OpenSearch's log has it too."""
    return str(error).partition(": ")[0]


def configure_logs(level: str) -> None:
    """Sends the logs of this process to stderr, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries' warnings would be lines that are no JSON.
    logging.captureWarnings(True)
    # It logs every request as INFO, and every 404 as a warning; our own errors say it better.
    logging.getLogger("opensearch").setLevel(logging.ERROR)
    logging.getLogger(_GRPC).addFilter(_is_of_ours)
    # It has one for each request that is no HTTP, or of a connection too many: whoever scans ports
    # makes as many as they like.
    logging.getLogger("uvicorn.error").addFilter(_ONE_A_SECOND)


def _is_of_ours(record: logging.LogRecord) -> bool:
    """gRPC has an ERROR for an answer that it could not give since its caller had just hung up; a
    busy moment has many of those."""
    return not record.getMessage().startswith(_CALLER_GONE)


def _message(record: logging.LogRecord) -> str:
    """asyncio's messages go on with the failed task, and its error in its own words."""
    message = record.getMessage()
    return message.partition("\n")[0] if record.name == "asyncio" else message


def _without_words(error: BaseException | None) -> str:
    """Types and places of an error and of those that led to it, the last one first."""
    parts = []
    while error is not None:
        parts.append("".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nafter:\n".join(parts)

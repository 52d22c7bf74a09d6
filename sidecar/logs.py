"""Logs: one JSON object a line on stderr, with the ids of the request that a line belongs to."""

import json
import logging
import sys
from typing import Any, Final

from sidecar.calls import current

__all__ = ["JsonLines", "configure_logs"]

# What every log record has; what it has beyond these was given as `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName",
}  # fmt: skip


class JsonLines(logging.Formatter):
    """Time, level, logger, message; of a request its method, request_id and trace_id; and what was
    given as `extra`. Control characters are escaped, so a value can't pass for another line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        call = current()
        if call is not None:
            entry |= {"method": call.method, "request_id": call.request_id}
            if call.trace_id:
                entry["trace_id"] = call.trace_id
        entry |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure_logs(level: str) -> None:
    """Sends the logs of this process to stderr, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It logs every request as INFO, and every 404 as a warning; our own errors say it better.
    logging.getLogger("opensearch").setLevel(logging.ERROR)

"""The file of rows that could not be used: JSON Lines of line, reason and row."""

import errno
import json
from pathlib import Path
from typing import IO, Any

import orjson

from neuralrank.errors import InvalidInput, Unsupported

__all__ = ["Rejects"]


class Rejects:
    """Counts rejected rows and writes them down. The file is made when the first one comes, and
    then replaces one of an earlier run."""

    def __init__(self, path: Path, source: Path) -> None:
        """
        Args:
            source: the file that the rows are from.

        Raises:
            InvalidInput: both are the same: it would be gone before it was read.
        """
        if path.exists() and path.samefile(source):
            raise InvalidInput(
                f"The rejects would be written to {path}, which is the file that is read. Name "
                "another one with --rejects, or read from a file of another name."
            )
        self.path = path
        self.count = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def write(self, line: int, reason: str, row: Any) -> None:
        """
        Raises:
            InvalidInput: the file can't be written.
            Unsupported: its disk is full.
        """
        entry = {"line": line, "reason": reason, "row": row}
        self.count += 1
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("wb")
            self._file.write(_line(entry))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Unsupported(
                    f"The disk is full at the rejects file {self.path}. Free some space, or name "
                    "another one with --rejects."
                ) from error
            raise InvalidInput(
                f"The rejects file {self.path} can't be written: {error.strerror or error}. Name "
                "another one with --rejects."
            ) from error


def _line(entry: dict[str, Any]) -> bytes:
    """As JSON, whatever it is that was refused: also texts that are no Unicode, or huge numbers."""
    try:
        return orjson.dumps(entry, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        text = json.dumps(entry, default=str, ensure_ascii=False)
        return f"{text}\n".encode("utf-8", "replace")

"""The file of rows that could not be used: JSON Lines of line, reason and row."""

import errno
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

import orjson

from neuralrank.errors import InvalidInput, Unsupported

__all__ = ["Rejects"]

# How many kinds of reasons a summary names: a feed that went wrong has one or two.
_NAMED: Final = 3


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
        self._kinds: Counter[str] = Counter()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    @property
    def commonest(self) -> dict[str, int]:
        """The commonest kinds of reasons, and how many rows have each: most first."""
        return dict(self._kinds.most_common(_NAMED))

    def write(self, line: int, reason: str, row: Any, kinds: Iterable[str] = ()) -> None:
        """
        Args:
            kinds: what the reason has in common with those of other rows, where that is not all up
                to the last colon.

        Raises:
            InvalidInput: the file can't be written.
            Unsupported: its disk is full.
        """
        entry = {"line": line, "reason": reason, "row": row}
        self.count += 1
        self._kinds.update(set(kinds) or {reason.rpartition(": ")[0] or reason})
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

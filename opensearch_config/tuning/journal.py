"""What a run has found so far, on disk line by line, so that the same command goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from neuralrank.errors import InvalidInput
from neuralrank.files.exclusive import exclusive

__all__ = ["Journal", "open_journal"]


class Journal:
    """Values by key, in memory and in a file of JSON lines. A line that was cut by a crash is
    taken off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[tuple[str, ...], Any] = {}
        whole = 0
        raw = path.read_bytes() if path.exists() else b""
        for line in raw.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                row = orjson.loads(line)
                self._values[tuple(row["key"])] = row["value"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                break
            whole += len(line)
        if whole < len(raw):
            with path.open("r+b") as file:
                file.truncate(whole)
        self._file = path.open("ab")

    def begin(self, identity: str) -> bool:
        """Goes on with a run, or begins anew where what is known is of another one.

        Returns:
            Whether it begins anew.
        """
        if self.get("run") == identity:
            return False
        self._values = {}
        self._file.truncate(0)
        self.put("run", value=identity)
        return True

    def get(self, *key: str) -> Any:
        """The value; None where there is none yet."""
        return self._values.get(key)

    def put(self, *key: str, value: Any) -> None:
        """Keeps a value; it survives the process."""
        self._values[key] = value
        self._file.write(orjson.dumps({"key": key, "value": value}) + b"\n")
        self._file.flush()

    def __len__(self) -> int:
        return len(self._values)

    def forget(self) -> None:
        """Deletes the file: what it knew is not needed any more."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal of a run, for one process at a time.

    Raises:
        InvalidInput: another process has it.
        Unsupported: the folder can't be written to.
    """
    busy = InvalidInput(
        "Another `neuralrank tune` of this spec is running. Wait for it, or stop it."
    )
    with exclusive(folder / "lock", busy):
        journal = Journal(folder / "journal.ndjson")
        try:
            yield journal
        finally:
            journal.close()

"""Rows on their way to disk, in pieces: what is written is kept, whatever happens next."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuralrank.files.whole import whole_file
from trainer.feedback.reading import Place

__all__ = ["Pieces"]

# Rows of a piece: what a kill costs at most.
_ROWS: Final = 50_000


@dataclass
class Pieces:
    """Files `<name>-000000.parquet`, … of one folder, each written beside and then renamed."""

    folder: Path
    name: str
    schema: pa.Schema

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._waiting: list[dict[str, Any]] = []
        self.rows = sum(pq.read_metadata(path).num_rows for path in self.files())

    def files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}-*.parquet"))

    def tables(self) -> Iterator[pa.Table]:
        """The pieces in order; one is in memory at a time."""
        for path in self.files():
            yield pq.read_table(path, schema=self.schema)

    def place(self, since: int) -> Place:
        """Behind the last row that is written, else at `since` (ms)."""
        last, ids = since, frozenset[str]()
        for path in reversed(self.files()):
            table = pq.read_table(path, columns=["time", "id"])
            if not ids:
                last = int(table["time"][-1].as_py())
            same = table.filter(pc.equal(table["time"], last))["id"].to_pylist()
            ids |= frozenset(same)
            if len(same) < table.num_rows:
                break
        return Place(last, ids)

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._waiting += rows
        # Never a part of what was added: of a document all rows are in one piece, or none.
        if len(self._waiting) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with whole_file(self.folder / f"{self.name}-{len(self.files()):06}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(rows, self.schema), file, compression="zstd")
        self.rows += len(rows)

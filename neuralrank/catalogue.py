"""Reads catalogues: JSON Lines, CSV, TSV (each also .gz) and Parquet, row by row.

Nothing is ever held but one row (Parquet: one batch), so a catalogue may be larger than memory.
"""

import contextlib
import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, cast

import orjson

from neuralrank.errors import InvalidInput, NotFound

__all__ = ["FORMATS", "Catalogue", "Row"]

FORMATS: Final = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_PARQUET_BATCH: Final = 1000
# A line beyond this is no product but a file that is not in lines.
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
# CSV fields that may hold JSON, since CSV itself has no lists and no objects.
_JSON_FIELDS: Final = ("attributes", "category", "bullet_points")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a catalogue, or why it can't be read."""

    line: int  # from 1; the row's number where the format has no lines
    value: Any  # what was read; the raw text where it could not be decoded
    problem: str = ""  # empty: none


class Catalogue:
    """A catalogue file."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            NotFound: there is no such file.
            InvalidInput: its name tells no known format.
        """
        self.path = path
        if not path.is_file():
            raise NotFound(f"There is no file {path}. Name a catalogue: {_allowed()}.")
        suffixes = [suffix.lower() for suffix in path.suffixes]
        self._zipped = suffixes[-1:] == [".gz"]
        if self._zipped:
            suffixes.pop()
        self._format = suffixes[-1] if suffixes else ""
        if self._format not in FORMATS or (self._zipped and self._format == ".parquet"):
            raise InvalidInput(f"{path} is of an unknown format; allowed is {_allowed()}.")
        self._size = max(path.stat().st_size, 1)
        self._read = 0.0

    @property
    def progress(self) -> float:
        """How much of the file has been read, in [0, 1]."""
        return min(self._read, 1.0)

    @property
    def fingerprint(self) -> str:
        """Tells whether the file is still the same: its name, size and time of change."""
        status = self.path.stat()
        return f"{self.path.name}:{status.st_size}:{status.st_mtime_ns}"

    def rows(self) -> Iterator[Row]:
        """The rows in order.

        Raises:
            InvalidInput: the file is damaged, or has no columns id and title.
        """
        try:
            if self._format == ".parquet":
                yield from self._parquet()
            else:
                with self.path.open("rb") as raw, self._unzipped(raw) as stream:
                    if self._format in (".csv", ".tsv"):
                        yield from self._separated(raw, stream)
                    else:
                        yield from self._json_lines(raw, stream)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidInput(
                f"{self.path} is a damaged gzip file ({error}). Get it anew; nothing was changed."
            ) from error
        except OSError as error:
            raise InvalidInput(f"{self.path} can't be read: {error.strerror or error}.") from error

    def _unzipped(self, raw: IO[bytes]) -> contextlib.AbstractContextManager[IO[bytes]]:
        return cast("IO[bytes]", gzip.open(raw)) if self._zipped else contextlib.nullcontext(raw)

    def _json_lines(self, raw: IO[bytes], stream: IO[bytes]) -> Iterator[Row]:
        number = 0
        while line := stream.readline(_MAX_LINE_BYTES):
            number += 1
            self._read = raw.tell() / self._size
            if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (rest := stream.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                text = line[:200].decode("utf-8", "replace")
                yield Row(number, text, f"line is longer than {_MAX_LINE_BYTES} bytes")
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                yield Row(number, orjson.loads(line))
            except orjson.JSONDecodeError as error:
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                yield Row(number, text, f"is not JSON in UTF-8: {error}")

    def _separated(self, raw: IO[bytes], stream: IO[bytes]) -> Iterator[Row]:
        # Bytes that are no UTF-8 become lone surrogates, so that only their own row is refused.
        csv.field_size_limit(_MAX_LINE_BYTES)
        with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text:
            yield from self._cells(raw, text)

    def _cells(self, raw: IO[bytes], text: IO[str]) -> Iterator[Row]:
        reader = csv.reader(text, delimiter="\t" if self._format == ".tsv" else ",")
        header = [name.strip() for name in next(reader, [])]
        if not {"id", "title"} <= set(header):
            raise InvalidInput(
                f"{self.path} must begin with a line of column names, id and title among them; "
                f"got {', '.join(header)[:200] or 'an empty file'}."
            )
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(reader.line_num, "", f"is not CSV: {error}")
                continue
            if cells is None:
                return
            self._read = raw.tell() / self._size
            if cells:
                yield _separated_row(reader.line_num, header, cells)

    def _parquet(self) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                if missing := {"id", "title"} - set(file.schema_arrow.names):
                    raise InvalidInput(
                        f"{self.path} has no column {' and no column '.join(sorted(missing))}; it "
                        f"has {', '.join(file.schema_arrow.names)[:200]}."
                    )
                total = max(file.metadata.num_rows, 1)
                number = 0
                for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                    for value in batch.to_pylist():
                        number += 1
                        self._read = number / total
                        yield Row(number, _plain(value))
        except pa.ArrowException as error:
            raise InvalidInput(
                f"{self.path} is not a Parquet file that can be read: {error}."
            ) from error


def _separated_row(line: int, header: list[str], cells: list[str]) -> Row:
    value: dict[str, Any] = {
        name: cell for name, cell in zip(header, cells, strict=False) if name and cell != ""
    }
    if len(cells) > len(header):
        return Row(line, value, f"has {len(cells)} cells; the header names {len(header)} columns")
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        safe = {name: cell.encode("utf-8", "replace").decode() for name, cell in value.items()}
        return Row(line, safe, "is not UTF-8")
    for name in _JSON_FIELDS:
        cell = str(value.get(name, "")).strip()
        if cell[:1] in ("{", "["):
            try:
                value[name] = orjson.loads(cell)
            except orjson.JSONDecodeError as error:
                return Row(line, value, f"{name}: begins like JSON but is none: {error}")
    return Row(line, value)


def _plain(value: Any) -> Any:
    """Parquet's values as JSON has them. NaN is how data frames write "not known"."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        # A map column comes as a list of pairs.
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            return {str(name): _plain(inner) for name, inner in value}
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value


def _allowed() -> str:
    zipped = [f"{suffix}.gz" for suffix in FORMATS if suffix != ".parquet"]
    return f"a file ending in {', '.join([*FORMATS, *zipped])}"

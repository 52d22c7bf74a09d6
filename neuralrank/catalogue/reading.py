"""Reads catalogues: JSON Lines, CSV, TSV (each also .gz) and Parquet, row by row.
Whether a file is gzip its first bytes say, not its name.

Nothing is ever held but one row (Parquet: one batch), so a catalogue may be larger than memory.
"""

import csv
import io
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final

import orjson

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.files.zipped import DAMAGED, unzipped

__all__ = ["FORMATS", "Catalogue", "Row"]

FORMATS: Final = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_PARQUET_BATCH: Final = 1000
# A line beyond this is no product but a file that is not in lines.
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
# A row of CSV that runs over several lines ends by here, or one of its quotes is not closed.
_MAX_RECORD: Final = 1024 * 1024
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
        zipped = suffixes[-1:] == [".gz"]
        if zipped:
            suffixes.pop()
        self._format = suffixes[-1] if suffixes else ""
        if self._format not in FORMATS or (zipped and self._format == ".parquet"):
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
            InvalidInput: the file is damaged, has no columns id and title, or two of one name.
        """
        try:
            if self._format == ".parquet":
                yield from self._parquet()
            else:
                with self.path.open("rb") as raw:
                    stream = unzipped(raw)
                    if self._format in (".csv", ".tsv"):
                        yield from self._separated(raw, stream)
                    else:
                        yield from self._json_lines(raw, stream)
        except DAMAGED as error:
            raise InvalidInput(
                f"{self.path} is a damaged gzip file ({error}). Get it anew; nothing was changed."
            ) from error
        except OSError as error:
            raise InvalidInput(f"{self.path} can't be read: {error.strerror or error}.") from error

    def titles(self) -> Iterator[str]:
        """Those of the rows that have one.

        Raises:
            InvalidInput: as `rows`.
        """
        for row in self.rows():
            if isinstance(row.value, dict) and row.value.get("title"):
                yield str(row.value["title"])

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
        tabs = self._format == ".tsv"
        lines = _Lines(text)
        reader = csv.reader(lines, delimiter="\t" if tabs else ",", strict=True)
        header = self._header(reader)
        # Up to this line, what stood behind an open quote is read again.
        doubtful = 0
        while True:
            lines.begin()
            try:
                cells = next(reader, None)
                if tabs and cells and any("\n" in cell and "\t" in cell for cell in cells):
                    raise csv.Error("several lines with tabs are no cell")
            except csv.Error as error:
                wrong = lines.number
                doubtful = max(doubtful, wrong)
                problem = f"is not CSV: {error}"
                if lines.back() or "end of data" in str(error):
                    problem = f"opens a quote that is not closed: line {wrong}, {error}"
                line = lines.first.rstrip("\r\n")
                # Many exports to TSV know no quotes: there one is a character like any other.
                cells = line.split("\t") if tabs else []
                if len(cells) != len(header):
                    yield Row(lines.number, _safe(line), problem)
                    continue
            if cells is None:
                return
            self._read = raw.tell() / self._size
            if not cells:
                continue
            row = _separated_row(lines.number, header, cells)
            odd = len(cells) < len(header) or (not tabs and any('"' in cell for cell in cells))
            if odd and lines.number <= doubtful and not row.problem:
                # Rather the rest of the text that the open quote began than a product.
                row = Row(row.line, row.value, "comes after a quote that is not closed")
            yield row

    def _header(self, reader: Iterator[list[str]]) -> list[str]:
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise InvalidInput(
                f"{self.path} must begin with a line of column names, which is not CSV: {error}."
            ) from error
        if header != [_safe(name) for name in header]:
            raise InvalidInput(
                f"The column names of {self.path} are not UTF-8: {_safe(', '.join(header))[:200]}. "
                'Save it as UTF-8 (in Excel: "CSV UTF-8"), or convert it, e.g. `iconv -f GBK -t '
                "UTF-8`."
            )
        if not {"id", "title"} <= set(header):
            raise InvalidInput(
                f"{self.path} must begin with a line of column names, id and title among them; "
                f"got {', '.join(header)[:200] or 'an empty file'}."
            )
        self._require_once(filter(None, header))
        return header

    def _require_once(self, columns: Iterable[str]) -> None:
        """Of two columns of one name only one's values would be kept."""
        if twice := [name for name, count in Counter(columns).items() if count > 1]:
            raise InvalidInput(
                f"{self.path} has more than one column {', '.join(twice)[:200]}. Rename all but "
                "one, or leave them out."
            )

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
                self._require_once(file.schema_arrow.names)
                total = max(file.metadata.num_rows, 1)
                number = 0
                for batch in map(_in_microseconds, file.iter_batches(batch_size=_PARQUET_BATCH)):
                    for value, problem in _values(batch):
                        number += 1
                        self._read = number / total
                        yield Row(number, _plain(value), problem)
        except pa.ArrowException as error:
            raise InvalidInput(
                f"{self.path} is not a Parquet file that can be read: {error}."
            ) from error


class _Lines:
    """The lines of a CSV file. Those of the record that is being read are kept: a quote that nobody
    closes takes the lines behind it for its own, and they must not be lost with it."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self._record: list[str] = []
        self._again: deque[str] = deque()
        self._size = 0
        self.number = 0  # of the line read last

    @property
    def first(self) -> str:
        return self._record[0]

    def begin(self) -> None:
        """A new record begins."""
        self._record.clear()
        self._size = 0

    def back(self) -> bool:
        """Goes back to behind the record's first line; whether it had more of them."""
        rest = self._record[1:]
        del self._record[1:]
        self._again.extendleft(reversed(rest))
        self.number -= len(rest)
        return bool(rest)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self._record.append(line)
        self.number += 1
        self._size += len(line)
        if self._size > _MAX_RECORD and len(self._record) > 1:
            raise csv.Error(f"it would be longer than {_MAX_RECORD} characters")
        return line


def _safe(text: str) -> str:
    """Without the lone surrogates that stand for bytes that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _separated_row(line: int, header: list[str], cells: list[str]) -> Row:
    value: dict[str, Any] = {
        name: cell for name, cell in zip(header, cells, strict=False) if name and cell != ""
    }
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        safe = {name: _safe(cell) for name, cell in value.items()}
        return Row(line, safe, "is not UTF-8")
    if len(cells) > len(header):
        return Row(line, value, f"has {len(cells)} cells; the header names {len(header)} columns")
    for name in _JSON_FIELDS:
        cell = str(value.get(name, "")).strip()
        if cell[:1] in ("{", "["):
            try:
                value[name] = orjson.loads(cell)
            except orjson.JSONDecodeError as error:
                # Texts begin so, too: "[Light] weighs 200 g".
                if name == "attributes" or cell[1:].lstrip()[:1] in ("'", '"'):
                    return Row(line, value, f"{name}: begins like JSON but is none: {error}")
    return Row(line, value)


def _values(batch: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a Parquet batch, each with why one of its values can't be read, "" mostly. What
    can't is left out."""
    try:
        rows = batch.to_pylist()
    except ValueError:  # such as text that is no UTF-8: it costs its own row
        rows = None
    if rows is not None:
        yield from ((row, "") for row in rows)
        return
    for place in range(batch.num_rows):
        row: dict[str, Any] = {}
        problem = ""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                row[name] = column[place].as_py()
            except ValueError as error:
                problem = f"{name}: can't be read: {error}"
        yield row, problem


def _in_microseconds(batch: Any) -> Any:
    """A Parquet batch whose times Python can hold: it knows no nanoseconds, in which data frames
    keep them."""
    import pyarrow as pa

    def column(values: Any) -> Any:
        kind = values.type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            return values.cast(pa.timestamp("us", kind.tz), safe=False)
        return values

    return pa.RecordBatch.from_arrays(list(map(column, batch.columns)), batch.schema.names)


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

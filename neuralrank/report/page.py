"""A report as one HTML file: opened from disk, mailed, or kept with a build's artifacts.

Nothing is fetched: styles, the script that sorts tables and every plot are in the file, and its
Content-Security-Policy forbids the rest. All text is escaped, so a product's title or a query can't
become markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.extras import install
from neuralrank.files.whole import write_whole
from neuralrank.report.plots import Plot

__all__ = ["Cell", "Column", "Report", "Section", "Table", "writable"]

# None: an empty cell, which sorts last.
Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    # Python's format of its numbers, such as "+.4f" or ",".
    format: str = ""
    # What it means, shown when the pointer rests on the title.
    help: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a click on a column's title sorts.

    Raises:
        InvalidInput: a row has another number of cells than there are columns.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise InvalidInput(
                    f"row {number} of a report's table has {len(row)} cells; it has "
                    f"{len(self.columns)} columns. Give one cell for each."
                )


@dataclass(frozen=True, slots=True)
class Section:
    """A part with a heading: paragraphs, then tables, then plots."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What is reported."""

    title: str
    sections: Sequence[Section]
    # Shown at the top: what was compared, on what, when.
    facts: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """The page.

        Raises:
            Unsupported: the extra `evaluate` is not installed.
        """
        try:
            import jinja2
        except ImportError as error:
            raise Unsupported(f"An HTML report needs jinja2: {install('evaluate')}.") from error
        template = jinja2.Environment(
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ).from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
        return template.render(report=self, shown=_shown, is_number=_is_number)

    def write(self, path: Path) -> None:
        """Writes the page in one step: a reader sees the old file or the new one.

        Raises:
            Unsupported: the extra `evaluate` is not installed, or the file can't be written.
        """
        page = self.html()
        try:
            write_whole(path, page)
        except OSError as error:
            raise Unsupported(f"The report {path} can't be written: {error}.") from error


def writable(path: Path) -> None:
    """Sees that a report can be written to a place: before the work that it is of.

    Raises:
        InvalidInput: it is a folder.
        Unsupported: nothing can be written there.
    """
    if path.is_dir():
        raise InvalidInput(
            f"The report {path} is a folder. Name a file, as {path / 'report.html'}."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise Unsupported(f"The report {path} can't be written: {error}.") from error


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _shown(cell: Cell, column: Column) -> str:
    """A cell in words: numbers by the column's format, nothing for None."""
    if cell is None:
        return ""
    return format(cell, column.format) if _is_number(cell) else str(cell)

"""A benchmark's result: a table on standard output, and JSON beside it."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
from rich.console import Console
from rich.table import Table

__all__ = ["Report", "percentiles", "repeat", "show", "where_and_when", "write_json"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Report:
    """Rows of one benchmark, each with the same columns, and what counts for all of them. `when`:
    the time of the newest of them, where they may come from an earlier run; now where it is empty.
    """

    name: str
    title: str
    rows: Sequence[dict[str, Any]]
    note: str = ""
    totals: Mapping[str, Any] = field(default_factory=dict)
    when: str = ""

    def publish(self) -> None:
        """Prints the rows and writes the file."""
        show(self.title, self.rows, self.note)
        name = self.write().name
        Console(width=140).print(f"Written to bench/results/{name}\n", style="dim", highlight=False)

    def write(self) -> Path:
        """Writes the file alone."""
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{self.name}.json"
        write_json(
            file,
            {
                "name": self.name,
                **where_and_when(),
                **({"when": self.when} if self.when else {}),
                "rows": list(self.rows),
                **({"totals": dict(self.totals)} if self.totals else {}),
                "note": self.note,
            },
        )
        return file


def where_and_when() -> dict[str, str]:
    """What figures hang on: the time, the machine and the runtime."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "onnxruntime": onnxruntime.__version__,
    }


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Writes what others read too: null for what is not a number, which is no JSON."""
    how = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    file.write_bytes(orjson.dumps(value, option=how))


def show(title: str, rows: Sequence[dict[str, Any]], note: str = "") -> None:
    """Prints rows with the same columns as a table, and the note below it."""
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    out = Console(width=140)
    out.print(table)
    if note:
        out.print(note, style="dim", highlight=False)


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95, for a row."""
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50 ms": round(float(p50), 2), "p95 ms": round(float(p95), 2)}


def repeat(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each piece of work in every round, taking turns, after one round unmeasured.

    Taking turns: what else happens on the machine then falls on all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if number:
                times[name].append((time.perf_counter() - start) * 1000)
    return times

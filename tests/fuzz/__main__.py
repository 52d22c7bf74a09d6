"""`python -m tests.fuzz --seconds 60`: every target, the OpenAPI document, and a table."""

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.fuzz.engine import Result, fuzz, reproduce
from tests.fuzz.openapi import live, probe
from tests.fuzz.targets import TARGETS


def run(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Some of the targets, or openapi. Default: all.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="For each target.")] = 60,
    folder: Annotated[Path, typer.Option(help="Inputs that found something stay here.")] = Path(
        ".fuzz"
    ),
    reproducing: Annotated[
        Path | None, typer.Option("--reproduce", help="Give the one target this input.")
    ] = None,
) -> None:
    """Fuzzes what reads others' bytes. Ends with 1 where something failed."""
    chosen = targets or [*TARGETS, "openapi"]
    unknown = set(chosen) - {*TARGETS, "openapi"}
    if unknown:
        sys.exit(f"No target {sorted(unknown)}; there are {', '.join([*TARGETS, 'openapi'])}.")
    if reproducing:
        reproduce(chosen[0], reproducing)
        print("It does not fail.")
        return
    if importlib.util.find_spec("atheris") is None:
        sys.exit(
            "atheris is not installed; it comes with the dev extra on Linux, Python 3.11-3.13."
        )
    folder.mkdir(parents=True, exist_ok=True)
    results = [
        _openapi(seconds) if name == "openapi" else fuzz(name, seconds, folder) for name in chosen
    ]
    _show(results)
    for result in results:
        if result.error:
            print(result.error, file=sys.stderr)
        if result.crash:
            print(f"Again: python -m tests.fuzz {result.target} --reproduce {result.crash}")
    sys.exit(any(result.error for result in results))


def _openapi(seconds: int) -> Result:
    with live() as url:
        try:
            return Result("openapi", probe(url, seconds), seconds)
        except Exception:  # whatever schemathesis found, with its own line to do it again
            return Result("openapi", 0, seconds, error=traceback.format_exc()[-4_000:])


def _show(results: list[Result]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("target", "inputs", "seconds", "found"):
        table.add_column(heading, justify="left" if heading in ("target", "found") else "right")
    for result in results:
        found = str(result.crash or "an error") if result.error else "nothing"
        table.add_row(result.target, f"{result.inputs:,}", f"{result.seconds:.0f}", found)
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    typer.run(run)

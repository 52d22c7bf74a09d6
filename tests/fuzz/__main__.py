"""`python -m tests.fuzz --seconds 60`: every target, the OpenAPI document, and a table.

`make fuzz` also has it write `bench/results/fuzz.json`; a try by hand leaves that alone.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from bench.report import Report, show
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
    publish: Annotated[bool, typer.Option(help="Write bench/results/fuzz.json.")] = False,
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
    report = _report(results)
    if publish:
        report.publish()
    else:
        show(report.title, report.rows)
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


def _report(results: list[Result]) -> Report:
    rows = [
        {
            "what": result.target,
            "inputs": result.inputs,
            "seconds": round(result.seconds),
            # A target ends with its first one.
            "findings": int(bool(result.error)),
        }
        for result in results
    ]
    columns = ("inputs", "seconds", "findings")
    totals = {column: sum(row[column] for row in rows) for column in columns}
    return Report("fuzz", "Fuzzing", [*rows, {"what": "all of them", **totals}])


if __name__ == "__main__":
    typer.run(run)

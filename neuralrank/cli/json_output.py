"""The flag `--json`, and what it prints: UTF-8, whatever the terminal is, and so bytes."""

from typing import Annotated, Any

import orjson
import typer

__all__ = ["Json", "print_json", "print_json_line"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def print_json(value: Any) -> None:
    """An answer that people read, too."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def print_json_line(value: Any) -> None:
    """An answer for machines, on one line."""
    typer.echo(orjson.dumps(value))

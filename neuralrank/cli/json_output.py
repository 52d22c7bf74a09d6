"""The flag `--json`, and an answer that people read, too."""

from typing import Annotated, Any

import orjson
import typer

__all__ = ["Json", "print_json"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def print_json(value: Any) -> None:
    # Bytes: JSON is UTF-8, whatever the terminal is.
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))

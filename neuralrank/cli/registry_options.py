"""Flags and output that commands on the registry share."""

from typing import Annotated

import typer

from neuralrank.bundles.registry import Registry
from neuralrank.cli.json_output import print_json_line
from neuralrank.settings import load_settings

__all__ = ["Ref", "RegistryUrl", "open_registry", "say_done"]

RegistryUrl = Annotated[
    str | None,
    typer.Option("--registry", metavar="URL", help="A path or URL that fsspec understands."),
]
Ref = Annotated[
    str, typer.Argument(metavar="NAME@HASH", help="A bundle; the first digits of its hash do.")
]


def open_registry(url: str | None) -> Registry:
    return Registry(load_settings(registry=url).registry_path)


def say_done(ref: str, role: str, words: str, as_json: bool) -> None:
    if as_json:
        print_json_line({"ref": ref, "service": role})
    else:
        typer.echo(f"{ref} {words}")

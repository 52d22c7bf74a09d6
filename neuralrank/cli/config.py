"""`neuralrank config`: the files of `opensearch_config/` against a cluster, and onto it."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.text import Text

from neuralrank.opensearch import connect
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    from opensearch_config import Change

__all__ = ["config"]

# Neither an error (3 to 9), nor a bug (1), nor wrong usage (2).
DIFFERS = 10

config = typer.Typer(
    help="Search pipelines, UBI indexes and product mapping: the files against a cluster.",
    no_args_is_help=True,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@config.command()
def diff(
    check: Annotated[
        bool, typer.Option("--check", help=f"Exit with {DIFFERS} if anything differs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Shows what `config apply` would change, and which product indexes are to be made anew.

    Changes nothing. Exit code 0, whether or not there are differences; with --check 10 if there
    are.
    """
    from opensearch_config import diff as find

    with closing(connect(load_settings())) as client:
        changes = find(client)
    _show(changes, as_json, nothing="The cluster is as the files say.")
    if check and changes:
        raise typer.Exit(DIFFERS)


@config.command()
def apply(as_json: Json = False) -> None:
    """Creates and updates search pipelines, UBI indexes and the product component template.

    Can be run again and again. Product indexes that exist are left alone: what they need is shown
    as "reindex", and `neuralrank index` does it.
    """
    from opensearch_config import apply as make

    with closing(connect(load_settings())) as client:
        changes = make(client)
    _show(changes, as_json, nothing="Nothing to do: the cluster is as the files say.")


def _show(changes: "list[Change]", as_json: bool, nothing: str) -> None:
    if as_json:
        typer.echo(orjson.dumps({"changes": [change.json() for change in changes]}).decode())
        return
    out = Console()
    if not changes:
        out.print(nothing)
    styles = {"create": "green", "update": "yellow", "reindex": "magenta"}
    for change in changes:
        out.print(Text(f"{change.action:8}", styles[change.action]), change.kind, change.name)
        for detail in change.details:
            out.print(Text(f"           {detail}", "dim"))

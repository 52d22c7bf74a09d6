"""`neuralrank config`: the files of `opensearch_config/` against a cluster, and onto it."""

import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from opensearchpy import OpenSearch
from rich.text import Text

from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.interruption import ended_like_ctrl_c
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.console import plain_console
from neuralrank.errors import NeuralrankError, exit_code
from neuralrank.opensearch.connection import connect
from neuralrank.progress import progress_bar
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    from opensearch_config import Change, Renewed

__all__ = ["config"]

# Neither an error (3 to 9), nor a bug (1), nor wrong usage (2).
DIFFERS = 10
# What makes an index anew.
_RENEWALS = ("reindex", "reload")

config = typer.Typer(
    help="Search pipelines, UBI indexes and product mapping: the files against a cluster.",
    no_args_is_help=True,
)
Folder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the files are. Default: NEURALRANK_CONFIG_FOLDER, else those that neuralrank "
        "came with.",
    ),
]


@config.command()
def diff(
    check: Annotated[
        bool, typer.Option("--check", help=f"Exit with {DIFFERS} if anything differs.")
    ] = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Shows in words what `config apply` would change, and which product indexes it makes anew.

    Changes nothing. Exit code 0, whether or not there are differences; with --check 10 if there
    are.
    """
    from opensearch_config import diff as find

    with closing(connect(load_settings())) as client:
        changes = find(client, config_folder(folder))
    _show(changes, as_json, nothing="The cluster is as the files say.")
    if check and changes:
        raise typer.Exit(DIFFERS)


@config.command()
def apply(
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it, without asking. Else: a dry run.")
    ] = False,
    reindex: Annotated[
        bool,
        typer.Option(
            "--reindex/--no-reindex",
            help="Whether product indexes that need it are made anew behind their alias.",
        ),
    ] = True,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Brings the files to the cluster: shows what would be done, and does it with --yes.

    On a terminal it asks; elsewhere, without --yes, nothing is done, and the exit code is 10 if
    there is something to do. Can be run again and again.

    Search pipelines, UBI indexes and the product component template are created and updated in
    place, and so are refresh and replicas of product indexes. A product index whose fields, shards
    or analyzers differ is made anew from its own documents behind its alias: searches go on, writes
    to it are refused meanwhile. One that fails does not end the others. A conflict (a field of a
    UBI index has another type, a product index has no alias of its stem) is shown and left as it
    is.
    """
    from opensearch_config import apply as make
    from opensearch_config import diff as find

    files = config_folder(folder)
    with closing(connect(load_settings(), timeout=120.0)) as client:
        found = [
            change for change in find(client, files) if reindex or change.action not in _RENEWALS
        ]
        planned = [change for change in found if change.action != "conflict"]
        renewals = [change for change in planned if change.action in _RENEWALS]
        if not planned:
            _show(found, as_json, nothing="Nothing to do: the cluster is as the files say.")
            return
        if not yes:
            _show(found, as_json, nothing="")
            if as_json or not (sys.stdin.isatty() and typer.confirm("Do this?", err=True)):
                print("neuralrank: nothing was done; --yes does it", file=sys.stderr)
                raise typer.Exit(DIFFERS)
        done = [change for change in make(client, files) if change.action not in _RENEWALS]
        if not as_json:
            _show(done, False, nothing="")
        outcome = _renew_all(client, renewals, files, as_json)
    if as_json:
        made_anew = {each.before for each in outcome.renewed}
        done += [change for change in renewals if change.name in made_anew]
        value = {
            "changes": [change.json() for change in done],
            "renewed": [each.json() for each in outcome.renewed],
            "failed": [
                {"name": name, "error": str(error)} for name, error in outcome.failed.items()
            ],
        }
        print_json_line(value)
    if outcome.interrupted is not None:
        said = "Interrupted. What was not done is as it was; do it again."
        print(f"neuralrank: {said} {outcome.interrupted}".rstrip(), file=sys.stderr)
        raise typer.Exit(130)
    for name, error in outcome.failed.items():
        print(f"neuralrank: {name}: {error}", file=sys.stderr)
    if outcome.failed:
        raise typer.Exit(exit_code(next(iter(outcome.failed.values()))))


@config.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The product index or alias.")],
    to: Annotated[
        Path,
        typer.Option(
            metavar="DIR", file_okay=False, help="Where the files go; it is made if need be."
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Writes fields, analyzers and settings of a live index, pipelines and UBI indexes as files.

    Example: neuralrank config export shop --to shop-config

    For `neuralrank config diff` and `apply` with --folder: to keep them in git, to bring them to
    another cluster, or to see what someone changed by hand.
    """
    from opensearch_config import export as write

    with closing(connect(load_settings())) as client:
        paths = write(client, name, to, config_folder(), overwrite=overwrite)
    if as_json:
        print_json_line({"files": [str(path) for path in paths]})
        return
    for path in paths:
        plain_console().print(str(path), highlight=False, soft_wrap=True)


@dataclass(slots=True)
class _Outcome:
    """What became of the indexes that were to be made anew. `failed` is by name."""

    renewed: "list[Renewed]" = field(default_factory=list)
    failed: dict[str, NeuralrankError] = field(default_factory=dict)
    interrupted: KeyboardInterrupt | None = None


def _renew_all(
    client: OpenSearch, renewals: "list[Change]", files: Path, as_json: bool
) -> _Outcome:
    """One after the other, each shown when it is done. One that fails does not end the others."""
    outcome = _Outcome()
    try:
        with ended_like_ctrl_c():
            for change in renewals:
                try:
                    renewed = _renew(client, change, files)
                except NeuralrankError as error:
                    outcome.failed[change.name] = error
                    continue
                outcome.renewed.append(renewed)
                if not as_json:
                    _show_renewed(renewed)
    except KeyboardInterrupt as error:
        outcome.interrupted = error
    return outcome


def _renew(client: OpenSearch, change: "Change", files: Path) -> "Renewed":
    """With progress, on a terminal."""
    from opensearch_config import renew

    bar = progress_bar()
    with bar:
        task = bar.add_task(f"{change.action} {change.name}", total=None)
        return renew(
            client,
            change,
            files,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _show_renewed(each: "Renewed") -> None:
    plain_console().print(
        f"{each.alias} → {each.index}: {each.documents:,} documents in {each.seconds:.1f} s",
        highlight=False,
    )
    for warning in each.warnings:
        plain_console().print(f"warning: {warning}", highlight=False)


def _show(changes: "list[Change]", as_json: bool, nothing: str) -> None:
    if as_json:
        print_json_line({"changes": [change.json() for change in changes]})
        return
    out = plain_console()
    if not changes and nothing:
        out.print(nothing)
    styles = {
        "create": "green",
        "update": "yellow",
        "reindex": "magenta",
        "reload": "cyan",
        "conflict": "red",
    }
    for change in changes:
        out.print(Text(f"{change.action:8}", styles[change.action]), change.kind, change.name)
        for detail in change.details:
            out.print(Text(f"           {detail}", "dim"))

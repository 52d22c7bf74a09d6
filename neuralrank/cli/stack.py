"""`neuralrank up | down | status`: the local stack."""

import json
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.json_output import Json
from neuralrank.console import plain_console
from neuralrank.credentials import sign_in
from neuralrank.errors import EXIT_CODE, InvalidSettings, Unavailable
from neuralrank.settings import Settings, load_settings
from neuralrank.stack import OpenSearch, State, UpOptions
from neuralrank.stack import down as stack_down
from neuralrank.stack import status as stack_status
from neuralrank.stack import up as stack_up

__all__ = ["down", "status", "up"]

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder of the stack: node, models, logs, state. Default: NEURALRANK_HOME, else "
        ".neuralrank in the checkout, else the user's data folder.",
        show_default=False,
    ),
]

# Flags of a node that `up` starts.
_OF_OWN_NODE = ("opensearch_port", "transport_port", "heap", "plugin_zip")


def _of_own_node(ctx: typer.Context) -> list[str]:
    """The flags given that ask for a node of this stack's own."""
    return [f"--{name.replace('_', '-')}" for name in _OF_OWN_NODE if _is_flag(ctx, name)]


def _is_flag(ctx: typer.Context, name: str) -> bool:
    """Whether a parameter was given as a flag, and not by the environment."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def up(
    ctx: typer.Context,
    home: Home = None,
    opensearch_port: Annotated[
        int | None,
        typer.Option(help="OpenSearch's port; 0: any free one. Default: 9200.", show_default=False),
    ] = None,
    transport_port: Annotated[
        int | None,
        typer.Option(help="Port between nodes. Default: any free one.", show_default=False),
    ] = None,
    sidecar_port: Annotated[
        int | None,
        typer.Option(
            help="The sidecar's gRPC port; 0: any free one. Default: 50051.", show_default=False
        ),
    ] = None,
    heap: Annotated[
        str | None,
        typer.Option(help="OpenSearch's heap, like 512m. Default: 1g.", show_default=False),
    ] = None,
    opensearch_url: Annotated[
        str | None,
        typer.Option(
            envvar="NEURALRANK_OPENSEARCH_URL",
            help="Use this OpenSearch, which runs already, instead of starting one. It needs both "
            "plugins. User, password, authority: NEURALRANK_OPENSEARCH_USER, _PASSWORD, _CA.",
            show_default=False,
        ),
    ] = None,
    sidecar: Annotated[
        bool, typer.Option("--sidecar/--no-sidecar", help="Start the ranking sidecar, too.")
    ] = True,
    config: Annotated[
        bool,
        typer.Option(
            "--config/--no-config",
            help="Create the search pipelines, UBI indexes and the product template where they are "
            "missing. What is there stays as it is; what differs from the files is said.",
        ),
    ] = True,
    plugin_zip: Annotated[
        Path | None,
        typer.Option(
            envvar="NEURALRANK_PLUGIN_ZIP",
            help="The built plugin. Default: built from the checkout by Maven.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that each part may take to become healthy.")
    ] = 180.0,
    as_json: Json = False,
) -> None:
    """Start OpenSearch with both plugins and the sidecar, and wait until they are healthy.

    Needs a JDK of 21 or newer and Maven; both are searched for. What is needed is fetched once and
    kept in the home folder. Run it again at any time: what is healthy is left alone, what died is
    started, what changed (plugin, settings, sidecar) is restarted. The stack stays when the command
    ends; `neuralrank down` ends it.

    Exit codes: 0 healthy; 3 a flag can't be used; 5 something did not become healthy; 7 no JDK,
    Maven, disk space or port, or an existing OpenSearch lacks the plugins.
    """
    console = plain_console(stderr=True, highlight=False)
    asked = _of_own_node(ctx)
    if opensearch_url and asked:
        if _is_flag(ctx, "opensearch_url"):
            raise InvalidSettings(
                f"--opensearch-url uses a node that runs already, and {asked[0]} is of one of this "
                "stack's own. Leave one of them out."
            )
        console.print(
            f"{asked[0]} asks for a node of this stack's own: the OpenSearch that the environment "
            "names is left alone",
            soft_wrap=True,
        )
        opensearch_url = None
    settings = load_settings(home=home, opensearch_url=opensearch_url or None)
    options = UpOptions(
        home=settings.home.resolve(),
        registry=_absolute(settings.registry_path),
        own_node=bool(asked),
        opensearch_port=opensearch_port,
        transport_port=transport_port,
        sidecar_port=sidecar_port,
        heap=heap,
        opensearch_url=settings.opensearch_url if opensearch_url else None,
        opensearch_user=settings.opensearch_user,
        opensearch_password=settings.opensearch_password,
        opensearch_verify_certs=settings.opensearch_verify_certs,
        # The sidecar runs in another folder.
        opensearch_ca=settings.opensearch_ca and str(Path(settings.opensearch_ca).resolve()),
        sidecar=sidecar,
        plugin_zip=plugin_zip.resolve() if plugin_zip else None,
        timeout_s=timeout,
    )
    with console.status("neuralrank up") as spinner:

        def report(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)
            spinner.update(line)

        state = stack_up(options, report)
        if sign_in(opensearch_url or "").user:
            report(
                "note: user and password of the address are written down nowhere. For other "
                "commands, set NEURALRANK_OPENSEARCH_USER and NEURALRANK_OPENSEARCH_PASSWORD"
            )
        if config:
            for line in _create_config(settings, state):
                report(line)
    if as_json:
        print(json.dumps({"sidecar": None, **state.as_json()}))
    else:
        _show_up(state)


def down(
    home: Home = None,
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Delete the node's data too: all indexes and events.")
    ] = False,
    as_json: Json = False,
) -> None:
    """End what `neuralrank up` started, and nothing else.

    Models and downloads stay. An OpenSearch that was given by URL keeps running. Nothing to end is
    not an error.
    """
    settings = load_settings(home=home)
    console = plain_console(stderr=True, highlight=False)
    ended = stack_down(
        settings.home.resolve(),
        lambda line: console.print(line, markup=False, soft_wrap=True),
        wipe=wipe,
    )
    if as_json:
        print(json.dumps({"ended": ended, "wiped": wipe}))
    elif not ended:
        print("Nothing was running.")


def status(home: Home = None, as_json: Json = False) -> None:
    """Show addresses, health, process ids and logs of the stack.

    Exit code 0 only if OpenSearch and the sidecar are healthy, else 5.
    """
    settings = load_settings(home=home)
    document = stack_status(
        settings.home.resolve(),
        OpenSearch(
            settings.opensearch_url,
            settings.opensearch_user,
            settings.opensearch_password,
            settings.opensearch_verify_certs,
            settings.opensearch_ca,
        ),
        settings.sidecar,
    )
    if as_json:
        print(json.dumps(document))
    else:
        _show_status(document)
    if not document["healthy"]:
        raise typer.Exit(EXIT_CODE[Unavailable])


def _absolute(registry: str) -> str:
    """The sidecar runs in another folder; addresses like s3://… are not folders."""
    return registry if "://" in registry else str(Path(registry).resolve())


def _create_config(settings: Settings, state: State) -> Iterator[str]:
    """What pipelines and UBI indexes are missing, by the stage that owns them; in words, what is
    there and differs. That is left: somebody may have edited it for good reason."""
    from neuralrank.opensearch.connection import connect
    from opensearch_config import create

    found = settings.model_copy(update={"opensearch_url": state.opensearch_url})
    with closing(connect(found)) as client:
        left = create(client, config_folder())
    yield "search pipelines and UBI indexes are in place"
    if left:
        yield (
            "note: not as the files say, and left so: "
            + ", ".join(f"{change.kind} {change.name}" for change in left)
            + ". `neuralrank config diff` shows in what, `neuralrank config apply` brings the files"
        )


def _show_up(state: State) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("OpenSearch", state.opensearch_url)
    if state.sidecar:
        http = f", {state.sidecar_http} (HTTP)" if state.sidecar_http else ""
        table.add_row("Sidecar", f"{state.sidecar} (gRPC){http}")
    for name, log in state.logs.items():
        table.add_row(f"Log of {name}", str(log))
    table.add_row("End it", _command("down", state.home))
    _print(table)


def _print(table: Table) -> None:
    """As wide as it needs: a path that is cut or folded can't be copied."""
    plain_console(width=1_000, highlight=False).print(table)


def _command(name: str, home: Path) -> str:
    """The command line that means this stack."""
    default = load_settings().home.resolve() == home
    return f"neuralrank {name}" + ("" if default else f" --home {shlex.quote(str(home))}")


def _show_status(document: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "address", "status", "process", "log"):
        table.add_column(heading, overflow="fold")
    sidecar = document["sidecar"]
    http = f", {sidecar['http']} (HTTP)" if sidecar["http"] else ""
    for name, address in (
        ("opensearch", document["opensearch"]["url"]),
        ("sidecar", f"{sidecar['address']}{http}"),
    ):
        part = document[name]
        table.add_row(
            name,
            address,
            part["status"],
            str(part["pid"] or "-"),
            document["logs"].get(name, "-"),
        )
    _print(table)
    if not document["healthy"]:
        print("Not healthy. `neuralrank up` starts what does not run.")

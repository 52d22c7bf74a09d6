"""From a dataset and a checkpoint to an encoder bundle that computes what was trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from accelerate import PartialState

from neuralrank.bundles.bundle import Bundle, require_name
from neuralrank.errors import InvalidSettings
from neuralrank.models import Checkpoint
from neuralrank.models.bert import Head, Precision
from trainer.dataset import Dataset
from trainer.encoder.examples import Examples
from trainer.encoder.search import Search
from trainer.encoder.task import METRIC, Contrast, contrastive
from trainer.loop import Outcome, TrainingOptions, train
from trainer.loop.trials import Found, fitted
from trainer.text.export import Agreement, export
from trainer.text.methods import Adapted, adapt, merged
from trainer.text.model import TextModel
from trainer.text.reading import Reader
from trainer.text.sources import BUNDLE

__all__ = ["EncoderOptions", "Trained", "train_encoder"]

# Of all weights; methods that train few have their own.
_RATE: Final = 2e-5
# Texts on which the bundle is compared with torch.
_SAMPLE = 64
_WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class EncoderOptions:
    """What only this training has. Fields of `Contrast` are explained there.

    Raises:
        InvalidSettings: a value is outside its range; the message names it.
        InvalidInput: no bundle can have that name.
    """

    temperature: float = 0.05
    negatives: int = 2
    # Lengths of vector beside the whole one that shall serve; () for none.
    dimensions: tuple[int, ...] = ()
    # The lowest label of a right item; of clicks, as a share of its query's best.
    positive_from: float = 0.5
    # How many items of the catalogue are searched at an evaluation, at most.
    dev_items: int = 2_000
    # The bundle's name; "": the checkpoint's.
    name: str = ""
    precision: Precision = "int8"

    def __post_init__(self) -> None:
        require_name(self.name)
        if not self.temperature > 0:
            raise InvalidSettings(f"--temperature is {self.temperature}; allowed is above 0.")
        if min(self.dimensions, default=1) < 1:
            raise InvalidSettings(
                f"--dimensions is {self.dimensions}; allowed are numbers from 1, by commas."
            )
        if self.precision not in ("int8", "fp32"):
            raise InvalidSettings(
                f"--bundle-precision is {self.precision!r}; allowed is int8 or fp32."
            )


@dataclass(frozen=True)
class Trained:
    """What came of it. The bundle lies in the run's folder and is not published."""

    outcome: Outcome
    bundle: Bundle
    agreement: Agreement
    # What `trials` came to; None: there was no search.
    search: Found | None


def train_encoder(
    data: Dataset,
    checkpoint: Checkpoint,
    options: EncoderOptions,
    training: TrainingOptions,
    progress: Callable[[str], None] = lambda _: None,
    *,
    trials: int = 0,
) -> Trained | None:
    """Trains, or goes on where the run was interrupted, and exports the best weights.

    Args:
        trials: so many trainings with other learning rates; the best one counts.

    Returns:
        None in all but the first of several processes.

    Raises:
        InvalidInput: there is nothing to train on, or to stop by; or as `trainer.loop.train`.
        InvalidSettings: a length of vector that the model does not have.
        InvalidBundle: the exported bundle does not compute what torch does.
    """
    fields = dict(checkpoint.fields)
    prefixes = (str(fields.get("query_prefix", "")), str(fields.get("passage_prefix", "")))
    dimensions = _dimensions(options, int(checkpoint.weights[_WORDS].shape[1]))
    examples = Examples.of(data, "train", options.positive_from)
    dev = Search.of(data, "dev", options.dev_items)
    if not any(grade for grades in dev.qrels.values() for grade in grades.values()):
        raise InvalidSettings(
            "No example of the dataset's part dev is relevant: there is nothing to stop by. Make "
            "it with `neuralrank train dataset` from more data, or a larger dev part."
        )
    if training.method == "full" and not training.learning_rate:
        training = replace(training, learning_rate=_RATE)
    reader = Reader.of(checkpoint, training.max_length)
    contrast = Contrast(options.temperature, options.negatives, dimensions)
    identity: dict[str, Any] = {
        "what": "encoder",
        "data": data.description.created,
        "source": fields.get("source", ""),
        "source_weights": checkpoint.digest(),
        "positive_from": options.positive_from,
        "temperature": options.temperature,
        "negatives": options.negatives,
        "dimensions": list(dimensions),
        # The best checkpoint is that of a measurement on these.
        "dev_items": options.dev_items,
    }

    def fit(chosen: TrainingOptions) -> tuple[Adapted, Outcome]:
        head: Head = "cls" if checkpoint.head == "cls" else "mean"
        model = TextModel(checkpoint, head, seed=chosen.seed)
        adapted = adapt(model, chosen.method, chosen.total_steps(len(examples)), chosen.seed)
        task = contrastive(adapted, reader, prefixes, examples, dev, contrast, identity)
        return adapted, train(task, chosen)

    adapted, outcome, found = fitted(training, trials, fit, METRIC)
    if not PartialState().is_main_process:
        return None
    progress("writing the bundle and comparing it with torch")
    best = merged(adapted.model)
    given = {
        **{name: value for name, value in fields.items() if name not in ("kind", "metrics")},
        "name": options.name or fields.get("name", "encoder"),
        "max_tokens": reader.max_tokens,
        "training_window": data.description.window.interval,
        "matryoshka": dimensions[1:],
        "metrics": {f"dev {name}": value for name, value in outcome.best.items()},
    }
    for name in ("dimensions", "normalized", "precision"):
        given.pop(name, None)
    sample = list(zip(dev.query_texts * _SAMPLE, dev.item_texts, strict=False))[:_SAMPLE]
    bundle, agreement = export(
        best, checkpoint.tokenizer, Path(training.out) / BUNDLE, given, options.precision, sample
    )
    return Trained(outcome, bundle, agreement, found)


def _dimensions(options: EncoderOptions, hidden: int) -> tuple[int, ...]:
    """Those that are trained for, longest first; none if only the whole one is."""
    wanted = sorted({*options.dimensions, hidden}, reverse=True)
    if wanted[0] > hidden:
        raise InvalidSettings(
            f"--dimensions asks for {wanted[0]}; the model's vectors have {hidden}."
        )
    return tuple(wanted) if len(wanted) > 1 else ()

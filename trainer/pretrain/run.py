"""`train pretrain`: from texts and a start to a folder that other trainings start from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from accelerate import PartialState

from neuralrank.errors import InvalidSettings
from neuralrank.models import Checkpoint
from trainer.loop import Outcome, TrainingOptions, train
from trainer.loop.trials import Found, fitted
from trainer.pretrain.model import Pretraining
from trainer.pretrain.task import METRIC, pretraining
from trainer.pretrain.texts import Corpus
from trainer.text.methods import Adapted, low_rank, merged
from trainer.text.sources import MODEL

__all__ = ["Pretrained", "run_pretraining"]

_RATE: Final = 1e-4
# Trained whole beside matrices of low rank: they are new in most checkpoints.
_HEADS: Final = ("pooler", "transform", "seq_relationship")


@dataclass(frozen=True)
class Pretrained:
    """`folder`: a Hugging Face one; `search`: what trials came to; None: there was none."""

    outcome: Outcome
    folder: Path
    search: Found | None = None


def run_pretraining(
    start: Checkpoint,
    corpus: Corpus,
    training: TrainingOptions,
    *,
    new: bool,
    trials: int = 0,
) -> Pretrained | None:
    """Trains, and writes the model; None in all processes but the main one.

    Args:
        new: whether the weights are random.
        trials: how many trainings the search for options may take.

    Raises:
        InvalidSettings: a method that does not go with this start; or as
            `trainer.loop.trials.search`.
        InvalidInput: as `Pretraining`, or as `trainer.loop.train`.
    """
    _check_method(training.method, new)
    if training.method == "full" and not training.learning_rate:
        training = replace(training, learning_rate=_RATE)

    def fit(chosen: TrainingOptions) -> tuple[Adapted, Outcome]:
        adapted = _adapted(Pretraining(start, chosen.seed), chosen, len(corpus.train))
        return adapted, train(pretraining(adapted, start, corpus, chosen, new=new), chosen)

    folder = Path(training.out) / MODEL
    adapted, outcome, found = fitted(training, trials, fit, METRIC, lower_is_better=True)
    if not PartialState().is_main_process:
        return None
    merged(adapted.model).save(folder)
    return Pretrained(outcome, folder, found)


def _check_method(method: str, new: bool) -> None:
    if method in ("prefix", "adapters"):
        raise InvalidSettings(
            f"--method is {method}; pretraining takes full, lora or adalora: what it writes is a "
            "Hugging Face folder, which has no place for a prefix or bottlenecks."
        )
    if method != "full" and new:
        raise InvalidSettings(
            f"--method is {method} without --from: a new model has nothing yet that small weights "
            "could be trained beside. Give --from, or --method full."
        )


def _adapted(model: Pretraining, options: TrainingOptions, examples: int) -> Adapted:
    method = options.method
    if method in ("lora", "adalora"):
        return low_rank(model, method, options.total_steps(examples), _HEADS, options.seed)
    return Adapted(model)

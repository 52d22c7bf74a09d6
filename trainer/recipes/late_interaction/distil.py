"""The training of late interaction on what the teachers say, as the cross-encoder is trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from neuralrank.models import Checkpoint
from trainer.loop import Outcome, TrainingOptions, train
from trainer.recipes.late_interaction.export import export
from trainer.recipes.late_interaction.model import MaxSim
from trainer.recipes.late_interaction.reading import Reading
from trainer.recipes.late_interaction.student import project
from trainer.recipes.late_interaction.texts import Texts, scores
from trainer.recipes.small_reranker.listed import METRIC, Listed, keep_words
from trainer.recipes.small_reranker.lists import Floats, Lists

__all__ = ["LATE", "Learnt", "distil"]

# The folder in a run's folder that holds what it made.
LATE: Final = "late"
# Lists by which the projection and the first scale are chosen.
_FIRST: Final = 128


@dataclass(frozen=True)
class Learnt:
    """`correlation` is of the exported graph's scores and torch's."""

    outcome: Outcome
    folder: Path
    correlation: float


def distil(
    student: Checkpoint,
    lists: Sequence[Lists],
    wanted: Sequence[Floats],
    training: TrainingOptions,
) -> Learnt:
    """Trains, or goes on, and writes the graph of the best checkpoint into the run's folder.

    Args:
        student: a cross-encoder's checkpoint without a head.
        lists: of each language.
        wanted: what it is to give, float32 [queries, items] of each.

    Raises:
        as `train` and `export`.
    """
    listed = Listed(lists, wanted)
    reading = Reading(student.tokenizer, int(student.fields["max_tokens"]))
    texts = Texts(reading, listed)
    first = np.random.default_rng(training.seed).choice(listed.train, _FIRST)
    model = MaxSim(project(student, reading, texts.all_of(first)))
    _fit(model, texts.of_lists(model.eval(), first), listed.wanted[first])
    keep_words(model.tokens)
    task = listed.task("late interaction", model, texts.inputs, scores, texts.of_held)
    outcome = train(task, training)
    known = {
        f"held-back {METRIC}": outcome.best[METRIC],
        f"held-back {METRIC} before": outcome.before[METRIC],
    }
    folder = training.out / LATE
    correlation = export(
        model.cpu().eval(),
        student.tokenizer,
        folder,
        {**student.fields, "metrics": known},
        [listed.texts(number) for number in listed.held],
        texts.of_held(model),
    )
    return Learnt(outcome, folder, correlation)


def _fit(model: MaxSim, found: Floats, wanted: Floats) -> None:
    """Scale and offset by least squares: steps of the training are too small to find them."""
    slope, level = np.polyfit(found.ravel(), wanted.ravel(), 1)
    with torch.no_grad():
        # A model that orders the wrong way round has to learn that, and not a negative scale.
        model.log_scale.fill_(math.log(max(slope, 1.0)))
        model.offset.fill_(-level / max(slope, 1.0))

"""The training of the student on what the teachers say, and the bundle of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuralrank.bundles.bundle import Bundle
from neuralrank.models import Checkpoint
from neuralrank.text.tokens import Tokens
from trainer.loop import Outcome, Rows, TrainingOptions, train
from trainer.recipes.small_reranker.listed import METRIC, Listed, alike, keep_words
from trainer.recipes.small_reranker.lists import Floats, Lists
from trainer.text import Agreement, Reader, TextModel, export, run
from trainer.text.sources import BUNDLE

__all__ = ["METRIC", "Distilled", "distil"]


@dataclass(frozen=True)
class Distilled:
    outcome: Outcome
    bundle: Bundle
    agreement: Agreement


def distil(
    student: Checkpoint,
    lists: Sequence[Lists],
    wanted: Sequence[Floats],
    training: TrainingOptions,
    fields: dict[str, Any],
) -> Distilled:
    """Trains, or goes on, and makes a bundle of the best checkpoint in the run's folder.

    Args:
        lists: of each language.
        wanted: what the student is to give, float32 [queries, items] of each.
        fields: of the manifest.

    Raises:
        as `train` and `export`.
    """
    listed = Listed(lists, wanted)
    pairs = _Pairs(Reader.of(student), listed)
    model = TextModel(student, "score", seed=training.seed, dropout=0.0)
    keep_words(model)
    task = listed.task("small reranker", model, pairs.inputs, _scores, pairs.evaluate)
    outcome = train(task, training)
    known = {
        f"held-back {METRIC}": outcome.best[METRIC],
        f"held-back {METRIC} before": outcome.before[METRIC],
    }
    bundle, agreement = export(
        model.cpu().eval(),
        student.tokenizer,
        training.out / BUNDLE,
        {**student.fields, **fields, "metrics": known},
        "int8",
        listed.sample(),
    )
    return Distilled(outcome, bundle, agreement)


class _Pairs:
    """Lists as pairs of query and text, their texts read once."""

    def __init__(self, reader: Reader, listed: Listed) -> None:
        self._reader = reader
        self._listed = listed
        self._queries = [reader.halves(each.queries) for each in listed.lists]
        self._texts = [reader.halves([g.passage for g in each.goods]) for each in listed.lists]

    def inputs(self, numbers: Rows) -> dict[str, Any]:
        tokens = [pair for number in numbers for pair in self._read(number)]
        parts = alike(tokens)
        return {
            "parts": [self._reader.tensors([tokens[place] for place in part]) for part in parts],
            "places": torch.from_numpy(np.argsort(np.concatenate(parts))),
        }

    def evaluate(self, model: nn.Module) -> Floats:
        """Scores of the held-back lists, float32 [lists, items]."""
        held = self._listed.held
        tokens = [pair for number in held for pair in self._read(number)]
        return run(model, tokens).reshape(len(held), -1)

    def _read(self, number: int) -> list[Tokens]:
        part, row = self._listed.place(number)
        query, texts = self._queries[part][row], self._texts[part]
        return [self._reader.pair(query, texts[at]) for at in self._listed.lists[part].items[row]]


def _scores(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    return torch.cat([model(**part) for part in batch["parts"]])[batch["places"]]

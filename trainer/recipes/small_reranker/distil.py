"""The training of the student on what the teachers say, and the bundle of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from neuralrank.bundle import Bundle
from neuralrank.models import Checkpoint
from trainer.loop import Outcome, Rows, Task, TrainingOptions, train
from trainer.recipes.small_reranker.lists import Floats, Lists
from trainer.text import Agreement, Reader, TextModel, export, run
from trainer.text.losses import margin_mse
from trainer.text.sources import BUNDLE

__all__ = ["METRIC", "Distilled", "distil"]

METRIC: Final = "agreement"
# Every so many-th list is left out of training and measured on.
_HELD_BACK: Final = 50
# What the scores themselves count in the loss, beside their differences within a list: enough that
# a number means the same for every query.
_ABSOLUTE: Final = 0.2
# A batch is run in so many.
_PARTS: Final = 4
# Pairs on which the bundle is compared with torch.
_SAMPLE: Final = 96


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

    Words and positions stay as the encoder has them: the few texts here know a part of them only,
    and those that they don't know are to go on meaning what their neighbours do.

    Args:
        lists: of each language.
        wanted: what the student is to give, float32 [queries, items] of each.
        fields: of the manifest.

    Raises:
        as `train` and `export`.
    """
    reader = Reader.of(student)
    pairs = _Pairs(reader, lists, wanted)
    model = TextModel(student, "score", seed=training.seed, dropout=0.0)
    embeddings = model.bert.embeddings
    for table in (embeddings.word_embeddings, embeddings.position_embeddings):
        table.requires_grad_(False)
    outcome = train(pairs.task(model), training)
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
        pairs.sample(),
    )
    return Distilled(outcome, bundle, agreement)


class _Pairs:
    """The lists of all languages behind each other, their texts read once."""

    def __init__(self, reader: Reader, lists: Sequence[Lists], wanted: Sequence[Floats]) -> None:
        self._reader = reader
        self._lists = lists
        self._queries = [reader.halves(each.queries) for each in lists]
        self._texts = [reader.halves([good.passage for good in each.goods]) for each in lists]
        self._wanted = np.concatenate(wanted)  # [lists, items]
        self._place = [(part, row) for part, each in enumerate(lists) for row in range(len(each))]
        every = np.arange(len(self._place))
        self._train = every[every % _HELD_BACK > 0]
        self._held = every[every % _HELD_BACK == 0]

    def task(self, model: TextModel) -> Task:
        held = [tokens for row in self._held for tokens in self._read(row)]

        def batch(rows: Rows, _random: np.random.Generator) -> dict[str, Any]:
            chosen = self._train[rows]
            tokens = [pair for row in chosen for pair in self._read(row)]
            # Pairs of like lengths beside each other: half of one batch would be padding.
            order = np.argsort([len(pair) for pair in tokens], kind="stable")
            return {
                "parts": [
                    self._reader.tensors([tokens[place] for place in places])
                    for places in np.array_split(order, _PARTS)
                ],
                "places": torch.from_numpy(np.argsort(order)),
                "wanted": torch.from_numpy(self._wanted[chosen]),
            }

        def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
            wanted = batch["wanted"]
            scores = torch.cat([model(**part) for part in batch["parts"]])
            scores = scores[batch["places"]].view(wanted.shape)
            alike, ones = torch.zeros_like(wanted), torch.ones_like(wanted)
            margins = margin_mse(scores, wanted, alike, ones, ones.bool())
            return margins + _ABSOLUTE * nn.functional.mse_loss(scores, wanted)

        def evaluate(model: nn.Module) -> dict[str, float]:
            scores = run(model, held).reshape(len(self._held), -1)
            return {METRIC: _agreement(scores, self._wanted[self._held])}

        return Task(
            identity={"task": "small reranker", "lists": [len(each) for each in self._lists]},
            model=model,
            examples=len(self._train),
            batch=batch,
            loss=loss,
            evaluate=evaluate,
            metric=METRIC,
            describe=lambda row: f"query {self._query(int(self._train[row]))!r}",
            all_weights_used=True,
        )

    def sample(self) -> list[tuple[str, str]]:
        """Pairs that were not trained on."""
        rows = [(part, row, at) for part, row in map(self._place.__getitem__, self._held)
                for at in self._lists[part].items[row]]  # fmt: skip
        places = np.unique(np.linspace(0, len(rows) - 1, _SAMPLE).astype(int))
        return [
            (self._lists[part].queries[row], self._lists[part].goods[at].passage)
            for part, row, at in (rows[place] for place in places)
        ]

    def _query(self, number: int) -> str:
        part, row = self._place[number]
        return self._lists[part].queries[row]

    def _read(self, number: int) -> list[Any]:
        part, row = self._place[number]
        query, texts = self._queries[part][row], self._texts[part]
        return [self._reader.pair(query, texts[at]) for at in self._lists[part].items[row]]


def _agreement(scores: Floats, wanted: Floats) -> float:
    """Share of a list's pairs of items that both order alike, mean over lists."""
    one = np.sign(scores[:, :, None] - scores[:, None, :])
    other = np.sign(wanted[:, :, None] - wanted[:, None, :])
    upper = np.triu(np.ones(one.shape[1:], bool), 1)
    return float((one == other)[:, upper].mean())

"""Learning to order lists as the teachers do, whatever the model is that reads them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuralrank.text.tokens import Tokens
from trainer.loop import Rows, Task
from trainer.recipes.small_reranker.lists import Floats, Lists
from trainer.text import TextModel
from trainer.text.losses import margin_mse

__all__ = ["METRIC", "Listed", "alike", "keep_words"]

METRIC: Final = "agreement"
# Every so many-th list is left out of training and measured on.
_HELD_BACK: Final = 50
# What the scores themselves count in the loss, beside their differences within a list: enough that
# a number means the same for every query.
_ABSOLUTE: Final = 0.2
# A batch is run in so many.
_PARTS: Final = 4
# Pairs on which what is exported is compared with torch.
_SAMPLE: Final = 96


class Listed:
    """The lists of all languages behind each other, by number: `train` those that are learnt from,
    `held` those that measure, int64 each; `wanted` float32 [lists, items]."""

    def __init__(self, lists: Sequence[Lists], wanted: Sequence[Floats]) -> None:
        """
        Args:
            lists: of each language.
            wanted: what is to be given, float32 [queries, items] of each.
        """
        self.lists = lists
        self.wanted = np.concatenate(wanted)
        self._place = [(part, row) for part, each in enumerate(lists) for row in range(len(each))]
        every = np.arange(len(self._place))
        self.train = every[every % _HELD_BACK > 0]
        self.held = every[every % _HELD_BACK == 0]

    def place(self, number: int) -> tuple[int, int]:
        """Which of `lists` a list is in, and its row there."""
        return self._place[number]

    def texts(self, number: int) -> tuple[str, list[str]]:
        """The query of a list, and what is read of its items."""
        part, row = self.place(number)
        of = self.lists[part]
        return of.queries[row], [of.goods[at].passage for at in of.items[row]]

    def task(
        self,
        name: str,
        model: nn.Module,
        inputs: Callable[[Rows], dict[str, Any]],
        scores: Callable[[nn.Module, dict[str, Any]], Tensor],
        evaluate: Callable[[nn.Module], Floats],
    ) -> Task:
        """The training: differences within a list, and a little of the scores themselves.

        Args:
            inputs: of the lists with these numbers, what `scores` reads.
            scores: of all their items, [lists · items], list after list.
            evaluate: scores of the held-back lists, float32 [lists, items].
        """

        def batch(rows: Rows, _random: np.random.Generator) -> dict[str, Any]:
            chosen = self.train[rows]
            return {**inputs(chosen), "wanted": torch.from_numpy(self.wanted[chosen])}

        def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
            wanted = batch["wanted"]
            found = scores(model, batch).view(wanted.shape)
            alike, ones = torch.zeros_like(wanted), torch.ones_like(wanted)
            margins = margin_mse(found, wanted, alike, ones, ones.bool())
            return margins + _ABSOLUTE * nn.functional.mse_loss(found, wanted)

        return Task(
            identity={"task": name, "lists": [len(each) for each in self.lists]},
            model=model,
            examples=len(self.train),
            batch=batch,
            loss=loss,
            evaluate=lambda model: {METRIC: _agreement(evaluate(model), self.wanted[self.held])},
            metric=METRIC,
            describe=lambda row: f"query {self.texts(int(self.train[row]))[0]!r}",
            all_weights_used=True,
        )

    def sample(self) -> list[tuple[str, str]]:
        """Pairs of query and text that were not trained on."""
        held = [self.texts(number) for number in self.held]
        pairs = [(query, text) for query, texts in held for text in texts]
        places = np.unique(np.linspace(0, len(pairs) - 1, _SAMPLE).astype(int))
        return [pairs[place] for place in places]


def alike(tokens: Sequence[Tokens]) -> list[NDArray[np.int64]]:
    """A batch in parts, by the places of what they read: of like lengths beside each other, since
    half of one batch would be padding."""
    order = np.argsort([len(each) for each in tokens], kind="stable")
    return np.array_split(order, _PARTS)


def keep_words(model: TextModel) -> None:
    """Words and positions stay as the encoder has them: the few texts here know a part of them
    only, and those that they don't know are to go on meaning what their neighbours do."""
    embeddings = model.bert.embeddings
    for table in (embeddings.word_embeddings, embeddings.position_embeddings):
        table.requires_grad_(False)


def _agreement(scores: Floats, wanted: Floats) -> float:
    """Share of a list's pairs of items that both order alike, mean over lists."""
    one = np.sign(scores[:, :, None] - scores[:, None, :])
    other = np.sign(wanted[:, :, None] - wanted[:, None, :])
    upper = np.triu(np.ones(one.shape[1:], bool), 1)
    return float((one == other)[:, upper].mean())

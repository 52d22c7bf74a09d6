"""Lists as queries and items by themselves, each read once."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from neuralrank.text.tokens import Tokens
from trainer.loop import Rows
from trainer.recipes.late_interaction.reading import Reading
from trainer.recipes.small_reranker.listed import Listed, alike
from trainer.recipes.small_reranker.lists import Floats
from trainer.text import Reader

__all__ = ["Texts", "scores"]

# Lists that are scored at a time.
_CHUNK: Final = 16


class Texts:
    """What a `MaxSim` reads of lists."""

    def __init__(self, reading: Reading, listed: Listed) -> None:
        self._reading = reading
        self._listed = listed
        self._queries = [reading.queries(each.queries) for each in listed.lists]
        self._items = [reading.items([g.passage for g in each.goods]) for each in listed.lists]

    def all_of(self, numbers: Rows) -> list[Tokens]:
        """Queries and items of these lists."""
        return [tokens for n in numbers for tokens in (self._query(n), *self._items_of(n))]

    def inputs(self, numbers: Rows) -> dict[str, Any]:
        """What `scores` takes."""
        items = [tokens for number in numbers for tokens in self._items_of(number)]
        each = len(items) // len(numbers)
        parts = alike(items)
        return {
            "queries": self._tensors([self._query(number) for number in numbers]),
            "items": [self._tensors([items[place] for place in part]) for part in parts],
            "asked": [torch.from_numpy(part // each) for part in parts],
            "places": torch.from_numpy(np.argsort(np.concatenate(parts))),
        }

    def of_lists(self, model: nn.Module, numbers: Rows) -> Floats:
        """The model's scores of these lists, float32 [lists, items]."""
        device = next(model.parameters()).device
        found = []
        with torch.no_grad():
            for start in range(0, len(numbers), _CHUNK):
                chunk = numbers[start : start + _CHUNK]
                values = scores(model, send_to_device(self.inputs(chunk), device))
                found.append(values.float().cpu().numpy().reshape(len(chunk), -1))
        return np.concatenate(found)

    def of_held(self, model: nn.Module) -> Floats:
        """The same of the held-back lists."""
        return self.of_lists(model, self._listed.held)

    def _query(self, number: int) -> Tokens:
        part, row = self._listed.place(number)
        return self._queries[part][row]

    def _items_of(self, number: int) -> list[Tokens]:
        part, row = self._listed.place(number)
        return [self._items[part][at] for at in self._listed.lists[part].items[row]]

    def _tensors(self, batch: Sequence[Tokens]) -> dict[str, Tensor]:
        tensors = Reader.tensors(batch)
        counted = torch.zeros_like(tensors["attention_mask"], dtype=torch.bool)
        for row, tokens in enumerate(batch):
            counted[row, : len(tokens)] = torch.from_numpy(self._reading.counted(tokens))
        return {**tensors, "counted": counted}


def scores(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Of all items of the lists in a batch of `Texts.inputs`, [lists · items]."""
    found: Tensor = model(batch["queries"], batch["items"], batch["asked"])
    return found[batch["places"]]

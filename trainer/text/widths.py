"""Layers as narrow as pruning left them: each has as many heads and neurons as its weights hold."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

__all__ = ["take_widths"]


def take_widths(bert: nn.Module, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Makes the layers of a new BERT as wide as these weights are.

    Args:
        bert: as transformers makes it, with all layers alike.
        weights: by Hugging Face's names, without the prefix `bert.`. What is missing, or no whole
            number of heads, changes nothing: filling in the weights then says what is wrong.
    """
    for number, layer in enumerate(bert.encoder.layer):
        key = f"encoder.layer.{number}"
        attention, hidden = layer.attention.self, bert.config.hidden_size
        width = _rows(weights, f"{key}.attention.self.query.weight")
        if width and width != attention.all_head_size and not width % attention.attention_head_size:
            attention.num_attention_heads = width // attention.attention_head_size
            attention.all_head_size = width
            for part in ("query", "key", "value"):
                setattr(attention, part, nn.Linear(hidden, width))
            layer.attention.output.dense = nn.Linear(width, hidden)
        neurons = _rows(weights, f"{key}.intermediate.dense.weight")
        if neurons and neurons != layer.intermediate.dense.out_features:
            layer.intermediate.dense = nn.Linear(hidden, neurons)
            layer.output.dense = nn.Linear(neurons, hidden)


def _rows(weights: Mapping[str, NDArray[np.float32]], name: str) -> int:
    return int(weights[name].shape[0]) if name in weights else 0

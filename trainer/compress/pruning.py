"""Structured pruning of a BERT: whole heads, whole neurons of the intermediate layers, layers.

What is pruned is first set to zero and only cut out at the end. Zeros stay zeros while the rest is
trained: what a silent head or neuron gives is 0, so no gradient reaches its output weights; and
those are 0, so none reaches its input weights. Training needs no masks and no other model class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neuralrank.errors import InvalidInput
from neuralrank.models.bert import Weights
from trainer.text.additions import INNER

__all__ = ["Kept", "choose", "cut", "kept_layers", "silence"]

_QKV = ("attention.self.query", "attention.self.key", "attention.self.value")


@dataclass(frozen=True)
class Kept:
    """What stays of each layer: places of heads, and of neurons of the intermediate layer."""

    heads: tuple[NDArray[np.intp], ...]
    neurons: tuple[NDArray[np.intp], ...]


def choose(
    heads: Sequence[NDArray[np.float64]],
    neurons: Sequence[NDArray[np.float64]],
    *,
    heads_share: float,
    neurons_share: float,
) -> Kept:
    """The most important heads and neurons, over all layers together; of each layer one at least.

    Args:
        heads: importance by layer, float64 [heads].
        neurons: importance by layer, float64 [neurons].
        heads_share, neurons_share: how much of them stays, above 0, at most 1.

    Raises:
        InvalidInput: a share is outside of that.
    """
    return Kept(_best(heads, heads_share, "heads"), _best(neurons, neurons_share, "intermediate"))


def _best(
    importance: Sequence[NDArray[np.float64]], share: float, name: str
) -> tuple[NDArray[np.intp], ...]:
    if not 0 < share <= 1:
        raise InvalidInput(f"The share of {name} that stays is {share}; allowed is above 0 to 1.")
    wanted = round(share * sum(map(len, importance)))
    best = [int(np.argmax(layer)) for layer in importance]
    # Those that stay in any case come first.
    ranked = sorted(
        ((layer, place) for layer, row in enumerate(importance) for place in range(len(row))),
        key=lambda at: (at[1] != best[at[0]], -importance[at[0]][at[1]]),
    )[: max(wanted, len(importance))]
    return tuple(
        np.array(sorted(place for found, place in ranked if found == layer), np.intp)
        for layer in range(len(importance))
    )


def kept_layers(changes: Sequence[float], count: int) -> list[int]:
    """The layers that change their input most, in order.

    Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect"
    (2024) call the change, 1 - cosine of a token before and after, the layer's influence.

    Raises:
        InvalidInput: there are fewer layers.
    """
    if not 1 <= count <= len(changes):
        raise InvalidInput(
            f"--layers is {count}; the model has {len(changes)}, allowed is 1 to it."
        )
    return sorted(np.argsort(-np.asarray(changes), kind="stable")[:count].tolist())


@torch.no_grad()
def silence(layers: Sequence[nn.Module], kept: Kept, size: int) -> None:
    """Sets the weights of all heads and neurons to zero that do not stay.

    Args:
        layers: of a BERT as transformers has them (`model.encoder.layer`).
        size: of a head.
    """
    for layer, heads, neurons in zip(layers, kept.heads, kept.neurons, strict=True):
        # Of what an earlier training put around a part, the part itself.
        parts = {name.replace(f".{INNER}", ""): part for name, part in layer.named_modules()}
        away = torch.ones(parts[_QKV[0]].out_features, dtype=torch.bool)
        away[torch.from_numpy(_rows(heads, size))] = False
        for part in _QKV:
            parts[part].weight[away] = 0.0
            parts[part].bias[away] = 0.0
        parts["attention.output.dense"].weight[:, away] = 0.0
        if "attention.self.prefix" in parts:  # what it says in a silent head is not heard either
            silent = away.view(-1, size)[:, 0]
            for table in parts["attention.self.prefix"].parameters():
                table[silent] = 0.0
        away = torch.ones(parts["intermediate.dense"].out_features, dtype=torch.bool)
        away[torch.from_numpy(neurons)] = False
        parts["intermediate.dense"].weight[away] = 0.0
        parts["intermediate.dense"].bias[away] = 0.0
        parts["output.dense"].weight[:, away] = 0.0


def cut(weights: Mapping[str, NDArray[np.float32]], kept: Kept, size: int) -> Weights:
    """The weights without the heads and neurons that do not stay.

    Args:
        weights: by Hugging Face's names, without the prefix `bert.`.
        size: of a head.
    """
    smaller = dict(weights)
    for layer, (heads, neurons) in enumerate(zip(kept.heads, kept.neurons, strict=True)):
        key = f"encoder.layer.{layer}"
        rows = _rows(heads, size)
        for part in _QKV:
            smaller[f"{key}.{part}.weight"] = weights[f"{key}.{part}.weight"][rows]
            smaller[f"{key}.{part}.bias"] = weights[f"{key}.{part}.bias"][rows]
        for part in ("key", "value"):
            prefix = f"{key}.attention.self.prefix.{part}"
            if prefix in weights:
                smaller[prefix] = weights[prefix][heads]
        for name, places in (("attention.output", rows), ("output", neurons)):
            smaller[f"{key}.{name}.dense.weight"] = weights[f"{key}.{name}.dense.weight"][:, places]
        inner = f"{key}.intermediate.dense"
        smaller[f"{inner}.weight"] = weights[f"{inner}.weight"][neurons]
        smaller[f"{inner}.bias"] = weights[f"{inner}.bias"][neurons]
    return smaller


def _rows(heads: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """The rows of the weights that belong to heads."""
    return (heads[:, None] * size + np.arange(size)).reshape(-1)

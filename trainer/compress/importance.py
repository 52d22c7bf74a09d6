"""How much a head, a neuron or a layer matters, measured on examples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Importance", "measure_importance"]


@dataclass(frozen=True)
class Importance:
    """By layer: `heads` float64 [heads], `neurons` float64 [neurons], and `changes`, the mean of
    1 - cosine between a token before and after the layer."""

    heads: tuple[NDArray[np.float64], ...]
    neurons: tuple[NDArray[np.float64], ...]
    changes: tuple[float, ...]


def measure_importance(
    model: nn.Module,
    layers: Sequence[nn.Module],
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    *,
    size: int,
) -> Importance:
    """First-order estimates of what the loss loses if a part is silenced: |Σ activation × gradient|
    over its outputs, mean over the batches.

    Michel et al., "Are Sixteen Heads Really Better than One?" (2019); Molchanov et al., "Importance
    Estimation for Neural Network Pruning" (2019).

    Args:
        layers: of a BERT as transformers has them (`model.encoder.layer`).
        loss: a scalar of the model and a batch.
        size: of a head.
    """
    noted: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    changes: list[list[float]] = [[] for _ in layers]
    hooks = []
    for number, layer in enumerate(layers):
        parts = dict(layer.named_modules())
        # What goes into these two is what heads, or neurons, give.
        for name, part in (("heads", "attention.output.dense"), ("neurons", "output.dense")):
            hooks.append(parts[part].register_forward_pre_hook(_note(noted, (name, number))))
        hooks.append(layer.register_forward_hook(_change(changes[number])))
    model.eval()
    try:
        for batch in batches:
            model.zero_grad()
            loss(model, batch).backward()
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad()
    return Importance(
        heads=tuple(_mean(noted["heads", n], size) for n in range(len(layers))),
        neurons=tuple(_mean(noted["neurons", n], 1) for n in range(len(layers))),
        changes=tuple(float(np.mean(each)) for each in changes),
    )


def _mean(products: Sequence[NDArray[np.float64]], size: int) -> NDArray[np.float64]:
    """Of each group of `size` units: their first-order terms add up before the sign is dropped."""
    grouped = np.asarray(products).reshape(len(products), -1, size).sum(2)
    return np.asarray(np.abs(grouped).mean(0))


def _note(
    noted: dict[tuple[str, int], list[NDArray[np.float64]]], key: tuple[str, int]
) -> Callable[[nn.Module, tuple[Tensor]], None]:
    """Keeps Σ activation × gradient of each unit, [units], when the gradient comes."""

    def before(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        # The numbers alone: a hook that held the activation, which holds the hook and the graph of
        # the whole batch, would never be freed.
        values = inputs[0].detach()

        def came(gradient: Tensor) -> None:
            products = (values * gradient).flatten(0, -2).sum(0)
            noted.setdefault(key, []).append(products.double().numpy())

        inputs[0].register_hook(came)

    return before


def _change(changes: list[float]) -> Callable[[nn.Module, Any, Any], None]:
    def after(_module: nn.Module, inputs: Any, output: Any) -> None:
        given = output[0] if isinstance(output, tuple) else output
        cosine = torch.nn.functional.cosine_similarity(inputs[0].detach(), given.detach(), dim=-1)
        changes.append(float(1 - cosine.mean()))

    return after

"""What is trained: the part of a training that differs from one to the next."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Outcome", "Rows", "Stateful", "Task"]

# Numbers of examples, 0 ≤ row < examples: int64 [n].
Rows = NDArray[np.int64]


class Stateful(Protocol):
    """Tensors beyond weights and optimiser that a resumed run needs."""

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...

    def after_step(self, step: int) -> None:
        """Called when an optimiser step is done and its gradients are still there."""


@dataclass(frozen=True)
class Task:
    """A model with its examples, its loss and its measure."""

    # What this is, as JSON values: data, source of the weights, loss. A run goes on only for the
    # same; anything that changes the batches or the weights' shapes belongs here.
    identity: Mapping[str, Any]
    # Weights with `requires_grad` are trained and written to checkpoints, and so are buffers.
    model: nn.Module
    # How many there are; one may be a pair, a query with its list, or a sequence.
    examples: int
    # Makes what `loss` reads of some examples: tensors, alone or nested in dicts, lists, tuples or
    # objects with `.to(device)`. Whatever is random in it must come from the given generator, so
    # that a resumed run makes the same.
    batch: Callable[[Rows, np.random.Generator], Any]
    # A scalar, the mean over the batch's examples. It calls the model itself and none of its other
    # methods, since with several processes it is given the model in a wrapper.
    loss: Callable[[nn.Module, Any], Tensor]
    # Metrics by name, on the dev part; `model` is in evaluation mode, gradients are off.
    evaluate: Callable[[nn.Module], dict[str, float]]
    # The metric that early stopping follows; its best checkpoint is the result.
    metric: str
    lower_is_better: bool = False
    # In words, for the message about a loss that is not finite.
    describe: Callable[[int], str] = str
    extra: Stateful | None = None
    # Whether every trained weight is used for every batch. Where some are not (a head that a batch
    # has no example for), several processes must look for those; where all are, that is wasted.
    all_weights_used: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a training came to. The task's model holds the best weights."""

    out: Path
    # How many steps were made, and after which the metric was best.
    steps: int
    best_step: int
    # Metrics before the first step, and at the best one.
    before: Mapping[str, float]
    best: Mapping[str, float]
    # Whether the metric stopped rising before all steps were made.
    stopped_early: bool
    seconds: float
    # One entry an evaluation: {"step", "loss" (mean since the last), metrics…}.
    history: tuple[Mapping[str, float], ...] = field(repr=False)

    def json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "best_step": self.best_step,
            "before": dict(self.before),
            "best": dict(self.best),
            "stopped_early": self.stopped_early,
            "seconds": round(self.seconds, 3),
            "history": [dict(entry) for entry in self.history],
        }

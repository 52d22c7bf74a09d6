"""What every training can be told; the flags of every `neuralrank train` command."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from neuralrank.errors import InvalidSettings

__all__ = ["Method", "TrainingOptions"]

Method = Literal["full", "lora", "adalora", "prefix", "adapters"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Track = Literal["tensorboard", "wandb", "none"]

# What must stay when a run is resumed: the batches and the shapes of the weights hang on it.
_FIXED: Final = ("batch_size", "accumulate", "seed", "method", "max_length")
_EPOCHS: Final = 3.0
_FROM_ZERO: Final = (
    *("epochs", "steps", "learning_rate", "weight_decay", "clip"),
    *("patience", "seed", "every_steps"),
)
# All weights of a trained model want small steps, few new ones large steps.
_RATES: Final[dict[str, float]] = {
    "full": 3e-5,
    "lora": 5e-4,
    "adalora": 2e-3,
    "prefix": 1e-2,
    "adapters": 5e-4,
}
_CHOICES: Final = {
    "method": get_args(Method),
    "precision": get_args(Precision),
    "track": get_args(Track),
}


@dataclass(frozen=True)
class TrainingOptions:
    """How to train, whatever is trained.

    Raises:
        InvalidSettings: a value is outside its range; the message names it.
    """

    # The run's folder: checkpoints/, logs/, options.json, result.json. The same folder again: the
    # run goes on where it stopped.
    out: Path
    # How often every example is seen, at least. 0: what suits what is trained, mostly three times.
    epochs: float = _EPOCHS
    # Optimiser steps; 0: as many as the epochs take.
    steps: int = 0
    # Examples in one forward pass, over all processes together.
    batch_size: int = 32
    # Forward passes whose gradients are averaged into one step.
    accumulate: int = 1
    # The highest rate, after the warm-up; it then falls linearly to 0. 0: what suits the method.
    learning_rate: float = 0.0
    # Of AdamW; biases and layer norms have none.
    weight_decay: float = 0.01
    # Share of the steps in which the rate rises from 0.
    warmup: float = 0.1
    # The longest gradient (L2 norm over all weights); longer ones are shortened to it. 0: never.
    clip: float = 1.0
    # Which weights are trained: all, or small ones that are added (peft).
    method: Method = "full"
    # Of forward and backward; weights stay float32. auto: bf16 or fp16 where a GPU has it.
    precision: Precision = "auto"
    # Evaluations without a better metric after which to stop. 0: never stop early.
    patience: int = 3
    seed: int = 0
    track: Track = "tensorboard"
    # Steps between two evaluations, each with a checkpoint. 0: ten times in a run.
    every_steps: int = 0
    # How many of the last checkpoints stay, besides the best.
    keep: int = 2
    # Inputs are cut at so many tokens. 0: at what the model was made for.
    max_length: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise _invalid(name, value, ", ".join(allowed))
        for name in ("batch_size", "accumulate", "keep"):
            if (value := getattr(self, name)) < 1:
                raise _invalid(name, value, "1 or more")
        for name in _FROM_ZERO:
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise _invalid(name, value, "0 or more")
        if not 0 <= self.warmup < 1:
            raise _invalid("warmup", self.warmup, "from 0 to below 1")
        if self.max_length and not 8 <= self.max_length <= 8192:
            raise _invalid("max_length", self.max_length, "0, or 8 to 8192")

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or _RATES[self.method]

    def total_steps(self, examples: int) -> int:
        """Optimiser steps of the whole run."""
        a_step = self.batch_size * self.accumulate
        return self.steps or max(1, math.ceil((self.epochs or _EPOCHS) * examples / a_step))

    def between_evaluations(self, total: int) -> int:
        """Steps from one evaluation to the next."""
        return self.every_steps or max(1, total // 10)

    def json(self) -> dict[str, Any]:
        """As written to options.json; without the folder, which may be moved."""
        return {name: value for name, value in asdict(self).items() if name != "out"}

    def fixed(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one that was interrupted."""
        return {name: getattr(self, name) for name in _FIXED}


def _invalid(name: str, value: object, allowed: str) -> InvalidSettings:
    flag = name.replace("_", "-")
    return InvalidSettings(f"--{flag} is {value}; allowed is {allowed}.")

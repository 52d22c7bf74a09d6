"""Which weights are trained: all, or small ones beside those that are there."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from neuralrank.errors import InvalidSettings
from trainer.loop import Method, Stateful
from trainer.text.additions import add_bottlenecks, add_prefixes
from trainer.text.model import TextModel

__all__ = ["Adapted", "adapt", "low_rank", "merged"]

_RANK: Final = 8
_PREFIX: Final = 16
_BOTTLENECK: Final = 64
# One step at least in which AdaLoRA sees what matters, and one that takes ranks by it.
_ADAPTIVE_STEPS: Final = 2


@dataclass(frozen=True)
class Adapted:
    """A model as it is trained by a method."""

    model: nn.Module
    # What the method keeps from step to step, if anything.
    extra: Stateful | None = None
    # The weight in the loss of `penalty`.
    orthogonal: float = 0.0

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss: AdaLoRA's factors are to stay orthogonal."""
        if not self.orthogonal:
            return 0.0
        terms = []
        for name, factor in self.model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = factor @ factor.T if "lora_A" in name else factor.T @ factor
                eye = torch.eye(len(gram), device=gram.device)
                terms.append(torch.linalg.matrix_norm(gram - eye))
        return self.orthogonal * torch.stack(terms).mean()


def adapt(model: TextModel, method: Method, total_steps: int, seed: int = 0) -> Adapted:
    """Makes a method's weights trainable, and a score's head with them. `seed`: of those that are
    new.

    - full: all.
    - lora: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2022).
    - adalora: Zhang et al., "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient
      Fine-Tuning" (2023).
    - prefix, adapters: see `trainer.text.additions`.

    Raises:
        InvalidSettings: as `low_rank`.
    """
    head = ["pooler", "classifier"] if model.head == "score" else []
    if method in ("lora", "adalora"):
        return low_rank(model, method, total_steps, head, seed)
    if method != "full":
        model.requires_grad_(False)
        for part in head:
            (model.bert.pooler if part == "pooler" else model.classifier).requires_grad_(True)
        with _drawn(seed):
            if method == "prefix":
                add_prefixes(model.bert, _PREFIX)
            else:
                add_bottlenecks(model.bert, _BOTTLENECK)
    return Adapted(model)


def low_rank(
    model: nn.Module,
    method: Literal["lora", "adalora"],
    total_steps: int,
    head: Sequence[str],
    seed: int = 0,
) -> Adapted:
    """Matrices of low rank beside every linear layer of a BERT's layers.

    Args:
        head: parts of the model that are trained whole beside them, by the last of their names.
        seed: of the new weights.

    Raises:
        InvalidSettings: a training that is too short for AdaLoRA.
    """
    if method == "adalora" and total_steps < _ADAPTIVE_STEPS:
        raise InvalidSettings(
            f"--method is adalora with {total_steps} optimiser step (--steps, or what --epochs "
            f"takes); allowed are {_ADAPTIVE_STEPS} or more: it takes ranks by what earlier "
            "steps have seen. Train longer, or with --method lora."
        )
    linear, whole = _linear_layers(model), list(head) or None
    if method == "lora":
        config = LoraConfig(
            r=_RANK,
            lora_alpha=2 * _RANK,
            lora_dropout=0.05,
            target_modules=linear,
            modules_to_save=whole,
        )
        with _drawn(seed):
            return Adapted(get_peft_model(model, config))
    adaptive = AdaLoraConfig(
        init_r=_RANK + _RANK // 2,
        target_r=_RANK,
        lora_alpha=2 * _RANK,
        lora_dropout=0.05,
        target_modules=linear,
        modules_to_save=whole,
        tinit=total_steps // 10,
        tfinal=total_steps // 3,
        deltaT=max(1, total_steps // 50),
        total_step=total_steps,
    )
    with _drawn(seed):
        wrapped = get_peft_model(model, adaptive)
    return Adapted(wrapped, _Ranks(wrapped), adaptive.orth_reg_weight)


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """New weights are drawn from torch's global randomness; what else draws from it goes on as if
    they had not been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _linear_layers(model: nn.Module) -> list[str]:
    """Names of the linear layers of a BERT's layers; bottlenecks of an earlier training are none of
    them."""
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and ".layer." in name and ".adapter." not in name
    ]


def merged(model: nn.Module) -> Any:
    """A copy of the model that `adapt` was given, with a method's small weights added to those
    beside which they were trained."""
    copied = copy.deepcopy(model)
    # peft marks its modules while it unloads them.
    return copied.merge_and_unload().eval() if isinstance(copied, PeftModel) else copied


class _Ranks:
    """AdaLoRA's record of which ranks matter, from which it takes those that do not."""

    def __init__(self, wrapped: Any) -> None:
        self._tuner = wrapped.base_model
        self._config = wrapped.peft_config["default"]

    def _records(self) -> Mapping[str, dict[str, Tensor]]:
        allocator = self._tuner.rankallocator
        names = ("ipt", "exp_avg_ipt", "exp_avg_unc")
        return {name: getattr(allocator, name) for name in names}

    def state(self) -> dict[str, Tensor]:
        found = {
            f"{record}/{name}": tensor.detach().cpu()
            for record, tensors in self._records().items()
            for name, tensor in tensors.items()
        }
        for name, kept in (self._config.rank_pattern or {}).items():
            found[f"pattern/{name}"] = torch.tensor(kept)
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        records, pattern = self._records(), {}
        for key, tensor in state.items():
            record, _, name = key.partition("/")
            if record == "pattern":
                pattern[name] = tensor.tolist()
            else:
                records[record][name] = tensor
        self._config.rank_pattern = pattern or None

    def after_step(self, step: int) -> None:
        self._tuner.update_and_allocate(step)

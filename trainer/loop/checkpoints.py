"""Checkpoints of a run: written aside, then renamed, so that half a checkpoint is never seen.

    checkpoints/step-00000120/model.safetensors      weights that are trained, and buffers
                              optimizer.safetensors  AdamW's two moments of each weight
                              extra.safetensors      what the task keeps besides, if anything
                              state.json             step, metrics so far, which one was best

No pickle: neither written nor read.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.files.full_disk import out_of_room

__all__ = ["Checkpoints", "Progress"]


@dataclass
class Progress:
    """How far a run is. Written with every checkpoint."""

    step: int = 0
    best_step: int = 0
    # Evaluations since the best one.
    stale: int = 0
    seconds: float = 0.0
    before: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    # Of the steps since the last evaluation.
    losses: list[float] = field(default_factory=list)
    # Of mixed precision in fp16.
    scaler: dict[str, float] | None = None


class Checkpoints:
    """The checkpoints in a run's folder."""

    def __init__(self, out: Path, keep: int) -> None:
        self.folder = out / "checkpoints"
        self._keep = keep

    def steps(self) -> list[int]:
        """Of the checkpoints that are there, ascending."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        extra: Mapping[str, Tensor],
        progress: Progress,
    ) -> None:
        """Writes a checkpoint and deletes those that are neither among the last nor the best.

        Raises:
            Unsupported: the disk is full; the earlier checkpoints are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*"):  # of a run that was killed while it wrote
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = self.folder / f".{uuid.uuid4().hex}"
        with self._room(temporary):
            temporary.mkdir()
            save_file(_trained(model), temporary / "model.safetensors")
            save_file(_moments(optimizer), temporary / "optimizer.safetensors")
            if extra:
                save_file(
                    {name: tensor.contiguous() for name, tensor in extra.items()},
                    temporary / "extra.safetensors",
                )
            (temporary / "state.json").write_text(json.dumps(asdict(progress), indent=2))
            for file in temporary.iterdir():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            target = self.path(progress.step)
            if target.exists():  # made again after a resume from an earlier one
                shutil.rmtree(target)
            temporary.rename(target)
        stay = {*self.steps()[-self._keep :], progress.best_step}
        for step in self.steps():
            if step not in stay:
                shutil.rmtree(self.path(step))

    def progress(self, step: int) -> Progress:
        """What a checkpoint says of itself.

        Raises:
            InvalidInput: it is not understood.
        """
        file = self.path(step) / "state.json"
        try:
            return Progress(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(self.path(step), error) from error

    def load_model(self, step: int, model: nn.Module) -> None:
        """Puts a checkpoint's weights into the model.

        Raises:
            InvalidInput: they are damaged, or those of another model.
        """
        self._fill(step, "model.safetensors", _tensors(model))

    def load_rest(
        self, step: int, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> dict[str, Tensor]:
        """Puts the optimiser's moments back and gives what the task kept besides.

        Raises:
            InvalidInput: they are damaged, or those of another model.
        """
        moments = self._read(step, "optimizer.safetensors")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in moments.items():
            index, _, part = name.partition(".")
            state.setdefault(int(index), {})[part] = tensor
        try:
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        except (ValueError, KeyError) as error:
            raise _damaged(self.path(step), error) from error
        if not (self.path(step) / "extra.safetensors").is_file():
            return {}
        extra = self._read(step, "extra.safetensors")
        return {name: tensor.to(device) for name, tensor in extra.items()}

    def _fill(self, step: int, name: str, tensors: Mapping[str, Tensor]) -> None:
        found = self._read(step, name)
        wrong = sorted(set(found) ^ set(tensors))
        wrong += [
            key for key in set(found) & set(tensors) if found[key].shape != tensors[key].shape
        ]
        if wrong:
            raise _damaged(self.path(step), f"other weights than this model's: {wrong[:3]}")
        with torch.no_grad():
            for key, tensor in tensors.items():
                tensor.copy_(found[key])

    def _read(self, step: int, name: str) -> dict[str, Tensor]:
        try:
            tensors: dict[str, Tensor] = load_file(self.path(step) / name)
        except (OSError, SafetensorError) as error:
            raise _damaged(self.path(step), error) from error
        return tensors

    @contextmanager
    def _room(self, temporary: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not out_of_room(error):
                raise
            last = self.steps()[-1:]
            kept = f"The last good one is {self.path(last[0])}" if last else "There is none yet"
            raise Unsupported(
                f"No room on the disk for a checkpoint in {self.folder} ({error}). {kept}. Make "
                "room and run the same command again: it goes on from there."
            ) from error


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Trained weights and buffers by name; one that is shared comes once."""
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {**weights, **dict(model.named_buffers())}


def _trained(model: nn.Module) -> dict[str, Tensor]:
    # Cloned where buffers share memory, which the format can't say.
    return {name: tensor.detach().cpu().clone() for name, tensor in _tensors(model).items()}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for index, parts in state.items()
        for name, value in parts.items()
    }


def _damaged(path: Path, reason: object) -> InvalidInput:
    return InvalidInput(
        f"The checkpoint {path} can't be read ({reason}). Delete that folder to go on from the one "
        "before, or choose another --out to begin anew."
    )

"""The one training loop: every model of the trainer goes through `train`.

AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) with a linear warm-up
and a linear decay, gradient accumulation and clipping; an evaluation and a checkpoint every so many
steps; early stopping. A run that was interrupted, by whatever, goes on from its last checkpoint and
sees the same batches with the same randomness as if it had not been.
"""

import json
import math
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, send_to_device
from torch import Tensor, nn

from neuralrank.errors import Diverged, InvalidInput, Overloaded
from neuralrank.files.exclusive import exclusive
from neuralrank.files.whole import write_whole
from trainer.loop.batches import generator, rows, seed_torch
from trainer.loop.checkpoints import Checkpoints, Progress
from trainer.loop.options import TrainingOptions
from trainer.loop.processes import accelerator_for
from trainer.loop.task import Outcome, Task
from trainer.loop.tracking import bar, tracker

__all__ = ["RESULT", "train"]

# What a run came to, in its folder.
RESULT: Final = "result.json"

_SECOND_INTERRUPT_SECONDS: Final = 1.0


def train(task: Task, options: TrainingOptions) -> Outcome:
    """Trains the task's model, or goes on with it, and leaves the best weights in it.

    Ctrl-C (or SIGTERM) ends the step, writes a checkpoint and raises KeyboardInterrupt; a second
    one does not wait.

    Raises:
        Diverged: the loss or a gradient is not a number; the last good checkpoint stays.
        InvalidInput: there is nothing to train on, or the folder holds another run.
        InvalidSettings, Unsupported: the options don't fit this machine, or the disk is full.
        KeyboardInterrupt: it was interrupted; the same call goes on.
        Overloaded: another training works in the folder.
    """
    if task.examples < 1:
        raise InvalidInput("There is no example to train on. Make the dataset larger.")
    if not any(weight.requires_grad for weight in task.model.parameters()):
        raise InvalidInput("No weight of the model is trainable. Choose another --method.")
    accelerator = accelerator_for(options, all_weights_used=task.all_weights_used)
    busy = Overloaded(
        f"Another training works in {options.out}. Wait for it, stop it, or choose another --out."
    )
    alone = exclusive(options.out / ".lock", busy)
    with alone if accelerator.is_main_process else nullcontext():
        return _train(task, options, accelerator)


def _train(task: Task, options: TrainingOptions, accelerator: Accelerator) -> Outcome:
    begun = time.perf_counter()
    main = accelerator.is_main_process
    total = options.total_steps(task.examples)
    every = options.between_evaluations(total)
    if main:
        _claim(task, options)
    accelerator.wait_for_everyone()
    run = json.loads((options.out / "options.json").read_text())

    optimizer = torch.optim.AdamW(_groups(task.model, options), lr=options.rate)
    model, optimizer = accelerator.prepare(task.model, optimizer)
    checkpoints = Checkpoints(options.out, options.keep)
    progress = _resume(task, checkpoints, optimizer, accelerator)
    loop = _Loop(task, options, accelerator, model, optimizer, checkpoints, total)
    spent = progress.seconds

    def save() -> None:
        progress.seconds = spent + time.perf_counter() - begun
        progress.scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
        if main:
            extra = task.extra.state() if task.extra else {}
            checkpoints.save(task.model, optimizer, extra, progress)
        accelerator.wait_for_everyone()

    def evaluate() -> None:
        metrics = loop.evaluate(progress.step)
        mean = sum(progress.losses) / len(progress.losses)
        entry = {"step": progress.step, "loss": mean, **metrics}
        progress.losses.clear()
        _judge(progress, entry, task)
        log(progress.step, _named("dev", metrics))
        shown.evaluated(progress.step, entry)
        save()

    def early() -> bool:
        return bool(options.patience) and progress.stale >= options.patience

    with (
        tracker(options, {**run["task"], **run["options"]}, run["run"], active=main) as log,
        bar(task.metric, total, active=main) as shown,
        _interrupts() as interrupted,
    ):
        if not progress.before:
            progress.before = loop.evaluate(0)
            log(0, _named("dev", progress.before))
        while progress.step < total and not early():
            loss, numbers, stop = loop.step(progress.step, interrupted.is_set())
            progress.step += 1
            progress.losses.append(loss)
            log(progress.step, _named("train", {"loss": loss, **numbers}))
            shown.step(progress.step, loss)
            if progress.step % every == 0 or progress.step == total:
                evaluate()
            elif stop:
                save()
            if stop and progress.step < total and not early():
                raise KeyboardInterrupt(
                    f"A checkpoint of step {progress.step} of {total} is in "
                    f"{checkpoints.path(progress.step)}; the same command goes on from there."
                )
        if not progress.history:  # interrupted before the first one, and --steps is lower now
            evaluate()
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    checkpoints.load_model(progress.best_step, task.model)
    task.model.eval()
    outcome = Outcome(
        out=options.out,
        steps=progress.step,
        best_step=progress.best_step,
        before=progress.before,
        best=next(_metrics(e) for e in progress.history if e["step"] == progress.best_step),
        stopped_early=progress.step < total,
        seconds=progress.seconds,
        history=tuple(progress.history),
    )
    if main:
        _write_json(options.out / RESULT, {"task": run["task"], **outcome.json()})
    return outcome


@dataclass(frozen=True)
class _Loop:
    """What a step and an evaluation need."""

    task: Task
    options: TrainingOptions
    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    checkpoints: Checkpoints
    total: int

    def step(self, step: int, interrupted: bool) -> tuple[float, dict[str, float], bool]:
        """One optimiser step.

        Returns:
            The mean loss over all processes, numbers to log, and whether any was interrupted.
        """
        options, accelerator = self.options, self.accelerator
        rate = self._rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        losses: list[Tensor] = []
        for part in range(options.accumulate):
            # Gradients of the processes are only averaged with the last part.
            last = part == options.accumulate - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self._loss(step * options.accumulate + part)
                accelerator.backward(loss / options.accumulate)
            losses.append(loss.detach().float())
        flags = torch.tensor([float(interrupted)], device=accelerator.device)
        # All processes see the same numbers, and so decide the same.
        shared = accelerator.reduce(torch.cat([torch.stack(losses), flags]), "mean").tolist()
        *means, stop = shared
        for part, mean in enumerate(means):
            if not math.isfinite(mean):
                raise self._not_finite(f"The loss is {mean}", step, [part])
        norm = float(accelerator.clip_grad_norm_(self.model.parameters(), options.clip or math.inf))
        # In fp16 the scaler skips such a step itself and lowers the scale.
        if accelerator.scaler is None and not math.isfinite(norm):
            raise self._not_finite("A gradient is not finite", step, range(options.accumulate))
        self.optimizer.step()
        if self.task.extra:
            self.task.extra.after_step(step + 1)
        self.optimizer.zero_grad()
        numbers = {"learning_rate": rate, "gradient_norm": norm}
        return sum(means) / len(means), numbers, stop > 0

    def evaluate(self, step: int) -> dict[str, float]:
        """The task's metrics after so many steps, computed by the main process; the others learn
        the one that counts.

        Raises:
            InvalidInput: that one is not a number; `Diverged` after the first step.
        """
        metrics: dict[str, float] = {}
        if self.accelerator.is_main_process:
            self.task.model.eval()
            with torch.no_grad():
                metrics = {
                    name: float(v) for name, v in self.task.evaluate(self.task.model).items()
                }
        if self.accelerator.num_processes > 1:
            value = torch.tensor(metrics.get(self.task.metric, 0.0), dtype=torch.float64)
            metrics[self.task.metric] = float(broadcast(value.to(self.accelerator.device)))
        if not math.isfinite(metrics[self.task.metric]):
            raise (Diverged if step else InvalidInput)(
                f"{self.task.metric} on the dev part is {metrics[self.task.metric]}: there is "
                "nothing to stop by. Is the dev part empty, or did the weights diverge? Look at "
                "the logs, or lower --learning-rate."
            )
        return metrics

    def _loss(self, index: int) -> Tensor:
        """Of this process' share of batch number `index`; a scalar."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        seed = self.options.seed
        chosen = rows(self.task.examples, self.options.batch_size, seed, index)
        batch = self.task.batch(chosen[process::processes], generator(seed, index, process))
        seed_torch(seed, index, process)
        return self.task.loss(self.model, send_to_device(batch, self.accelerator.device))

    def _rate(self, step: int) -> float:
        """Rises from 0 to the learning rate, then falls to 0 at the end."""
        warm = round(self.options.warmup * self.total)
        if step < warm:
            share = (step + 1) / (warm + 1)
        else:
            share = (self.total - step) / (self.total - warm)
        return self.options.rate * share

    def _not_finite(self, what: str, step: int, parts: Any) -> Diverged:
        options = self.options
        chosen = [
            row
            for part in parts
            for row in rows(
                self.task.examples,
                options.batch_size,
                options.seed,
                step * options.accumulate + part,
            ).tolist()
        ]
        names = ", ".join(self.task.describe(row) for row in chosen[:5])
        more = f" and {len(chosen) - 5} more" if len(chosen) > 5 else ""
        good = self.checkpoints.steps()[-1:]
        kept = (
            f"The last good checkpoint is {self.checkpoints.path(good[0])}"
            if good
            else ("There is no checkpoint yet")
        )
        return Diverged(
            f"{what} in step {step + 1}, in the batch with {names}{more}. Training stopped. "
            f"{kept}. Look at these examples, or run the same command with a lower "
            "--learning-rate or --precision fp32: it goes on from the checkpoint."
        )


def _claim(task: Task, options: TrainingOptions) -> None:
    """Writes options.json, or sees that the folder is this very run's.

    Raises:
        InvalidInput: it is another's.
    """
    file = options.out / "options.json"
    identity = json.loads(json.dumps(dict(task.identity)))
    run = uuid.uuid4().hex[:12]
    if file.is_file():
        try:
            found = json.loads(file.read_text())
            run, there = found["run"], {**found["task"], **found["options"]}
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{file} can't be read ({error}). Choose another --out.") from error
        for name, value in {**identity, **options.fixed()}.items():
            if there.get(name) != value:
                raise InvalidInput(
                    f"{options.out} holds a run with {name} {there.get(name)!r}; this one has "
                    f"{value!r}. Run it with the same to go on, or choose another --out."
                )
    options.out.mkdir(parents=True, exist_ok=True)
    _write_json(file, {"run": run, "task": identity, "options": options.json()})


def _resume(
    task: Task, checkpoints: Checkpoints, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> Progress:
    """Where the run stands: at its last checkpoint, whose weights are then loaded."""
    steps = checkpoints.steps()
    if not steps:
        return Progress()
    progress = checkpoints.progress(steps[-1])
    checkpoints.load_model(steps[-1], task.model)
    extra = checkpoints.load_rest(steps[-1], optimizer, accelerator.device)
    if task.extra:
        task.extra.restore(extra)
    if accelerator.scaler and progress.scaler:
        accelerator.scaler.load_state_dict(progress.scaler)
    return progress


def _judge(progress: Progress, entry: dict[str, float], task: Task) -> None:
    """Notes an evaluation and whether it is the best so far."""
    sign = -1 if task.lower_is_better else 1
    earlier = [sign * e[task.metric] for e in progress.history if e["step"] == progress.best_step]
    if not earlier or sign * entry[task.metric] > earlier[0]:
        progress.best_step, progress.stale = int(entry["step"]), 0
    else:
        progress.stale += 1
    progress.history.append(entry)


def _groups(model: nn.Module, options: TrainingOptions) -> list[dict[str, Any]]:
    """Trained weights, with weight decay for matrices only."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM, so that the step can end; a second Ctrl-C raises."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    first = math.inf

    def note(number: int, _: FrameType | None) -> None:
        nonlocal first
        # torchrun passes on at once what the terminal had sent to all already.
        if number == signal.SIGINT and time.monotonic() - first > _SECOND_INTERRUPT_SECONDS:
            raise KeyboardInterrupt("The last checkpoint stays; the same command goes on from it.")
        first = min(first, time.monotonic())
        event.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _named(part: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{part}/{name}": value for name, value in values.items()}


def _metrics(entry: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in entry.items() if name not in ("step", "loss")}


def _write_json(file: Path, value: dict[str, Any]) -> None:
    write_whole(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

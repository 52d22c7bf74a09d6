"""Where a training shows what it does: TensorBoard or Weights & Biases, and the terminal."""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from neuralrank.console import plain_console
from neuralrank.errors import Unavailable, Unsupported
from neuralrank.extras import install
from neuralrank.files.full_disk import naming
from trainer.loop.options import TrainingOptions

__all__ = ["Log", "Shown", "bar", "tracker"]


class Log(Protocol):
    """Takes numbers by name."""

    def __call__(self, step: int, values: Mapping[str, float], /) -> None: ...


def _nothing(_step: int, _values: Mapping[str, float]) -> None:
    """Nobody tracks."""


@contextmanager
def tracker(
    options: TrainingOptions, config: Mapping[str, Any], run: str, *, active: bool
) -> Iterator[Log]:
    """The tracker of `--track`.

    Args:
        config: what is trained and how, shown beside the curves.
        run: an id that stays when the run is resumed.
        active: false in all processes but the main one.

    Raises:
        Unsupported: wandb is not installed.
        Unavailable: wandb can't log in or reach its server.
    """
    folder = options.out / "logs"
    if not active or options.track == "none":
        yield _nothing
    elif options.track == "tensorboard":
        with _tensorboard(folder, config) as log:
            yield log
    else:
        with _wandb(folder, options.out.name, config, run) as log:
            yield log


@contextmanager
def _tensorboard(folder: Path, config: Mapping[str, Any]) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    with naming(folder):
        writer = SummaryWriter(str(folder))
        rows = "\n".join(f"| {name} | {value} |" for name, value in config.items())
        writer.add_text("options", f"| option | value |\n|---|---|\n{rows}")

    def log(step: int, values: Mapping[str, float]) -> None:
        with naming(folder):
            for name, value in values.items():
                writer.add_scalar(name, value, step)

    with _said_once():
        try:
            yield log
        finally:
            with naming(folder):
                writer.close()


@contextmanager
def _said_once() -> Iterator[None]:
    """TensorBoard's thread prints the traceback of an error that it hands on to us as well."""
    shown = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, OSError):
            shown(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = shown


@contextmanager
def _wandb(folder: Path, name: str, config: Mapping[str, Any], run: str) -> Iterator[Log]:
    try:
        import wandb
    except ImportError as error:
        raise Unsupported(
            f"--track wandb needs wandb: {install('wandb')}; or --track tensorboard."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    try:
        writer = wandb.init(
            project="neuralrank",
            name=name,
            id=run,
            dir=str(folder),
            config=dict(config),
            resume="allow",
        )
    except (wandb.errors.UsageError, wandb.errors.CommError) as error:
        raise Unavailable(
            f"Weights & Biases: {error}. Log in with `wandb login`, or set WANDB_MODE=offline to "
            "write to the run's folder and `wandb sync` later."
        ) from error
    try:
        yield lambda step, values: writer.log(dict(values), step=step)
    finally:
        writer.finish()


class Shown(Protocol):
    """Shows where the training is."""

    def step(self, step: int, loss: float) -> None: ...

    def evaluated(self, step: int, values: Mapping[str, float]) -> None: ...


class _Bar:
    def __init__(self, progress: Progress, metric: str, total: int, lines: bool) -> None:
        self._progress = progress
        self._task = progress.add_task("Training", total=total, loss="", metric="")
        self._metric = metric
        self._lines = lines

    def step(self, step: int, loss: float) -> None:
        self._progress.update(self._task, completed=step, loss=f"loss {loss:.4f}")

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        text = f"{self._metric} {values[self._metric]:.4f}"
        self._progress.update(self._task, completed=step, metric=text)
        if self._lines:
            numbers = ", ".join(
                f"{name} {value:.4f}" for name, value in values.items() if name != "step"
            )
            print(f"step {step}: {numbers}", file=sys.stderr, flush=True)


@contextmanager
def bar(metric: str, total: int, *, active: bool) -> Iterator[Shown]:
    """A progress bar on standard error; lines where that is no terminal."""
    console = plain_console(stderr=True, quiet=not active)
    lines = active and not sys.stderr.isatty()  # as a log file wants them
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[loss]}  {task.fields[metric]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=lines or not active,
    ) as progress:
        yield _Bar(progress, metric, total, lines)

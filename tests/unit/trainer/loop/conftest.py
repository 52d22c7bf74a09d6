"""A training that is over in milliseconds: a line through points, with dropout, so that the
randomness counts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.loop import Task, TrainingOptions  # noqa: E402

EXAMPLES = 24


def line_task(change: Callable[[Any, np.ndarray], Any] | None = None, **fields: Any) -> Task:
    """y = x·w over 24 points of 3 numbers.

    Args:
        change: is given each batch and its rows, and returns the batch.
    """
    random = np.random.default_rng(5)
    x = random.normal(size=(EXAMPLES, 3)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 0.5])).astype(np.float32)
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(3, 1))

    def batch(rows: Any, random: np.random.Generator) -> Any:
        noise = random.normal(0, 0.01, (len(rows), 3)).astype(np.float32)
        made = {"x": torch.from_numpy(x[rows] + noise), "y": torch.from_numpy(y[rows])}
        return change(made, rows) if change else made

    def loss(model: Any, batch: Any) -> Any:
        return torch.nn.functional.mse_loss(model(batch["x"])[:, 0], batch["y"])

    def evaluate(model: Any) -> dict[str, float]:
        error = loss(model, {"x": torch.from_numpy(x), "y": torch.from_numpy(y)})
        return {"quality": -float(error)}

    task = Task(
        identity={"data": "line"},
        model=model,
        examples=EXAMPLES,
        batch=batch,
        loss=loss,
        evaluate=evaluate,
        metric="quality",
    )
    return replace(task, **fields)


@pytest.fixture
def options(tmp_path: Path) -> TrainingOptions:
    return TrainingOptions(
        out=tmp_path / "run",
        steps=20,
        batch_size=8,
        learning_rate=0.05,
        every_steps=5,
        track="none",
        patience=0,
    )

"""Ctrl-C in the middle of a training."""

import os
import signal
from typing import Any

import pytest

from trainer.loop.batches import generator


def interrupt_at(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Sends SIGINT while this batch is made, counted from 0, so that the next step is the last one;
    a run that goes on is past it."""

    def counted(seed: int, index: int, process: int) -> Any:
        if index == batch:
            os.kill(os.getpid(), signal.SIGINT)
        return generator(seed, index, process)

    monkeypatch.setattr("trainer.loop.training.generator", counted)

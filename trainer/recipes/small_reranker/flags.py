"""The flags of both recipes, which learn alike."""

import argparse
from pathlib import Path

from trainer.loop import TrainingOptions

__all__ = ["parser", "training"]


def parser(prog: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=prog)
    made.add_argument("--out", type=Path, required=True, help="the run's folder")
    made.add_argument("--english", type=int, default=6400, help="English queries")
    made.add_argument("--chinese", type=int, default=5600, help="Chinese queries")
    made.add_argument("--epochs", type=float, default=4.0)
    made.add_argument("--precision", default="auto", help="bf16 where the processor has it")
    made.add_argument("--seed", type=int, default=0)
    return made


def training(given: argparse.Namespace) -> TrainingOptions:
    """How to train, by the flags."""
    return TrainingOptions(
        out=given.out,
        epochs=given.epochs,
        batch_size=16,
        learning_rate=4e-4,
        precision=given.precision,
        patience=0,
        seed=given.seed,
    )

"""Two processes (gloo, on the CPU) compute what one computes of the same examples.

The rerankers' loss is that of one process (`text/test_reranker.py`). Here each process draws
negatives, masks and what is hidden by itself, and a query's in-batch negatives are those of its
process. So the one process takes both shares, each with its process' own randomness: the loss of
two is the mean of theirs, and the weights are the same after each step, or the next loss is not.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.unit.trainer.encoder.shop import shop  # noqa: E402
from tests.unit.trainer.personal.shop import ITEMS, behaviour  # noqa: E402
from tests.unit.trainer.pretrain.test_tokenizer import TITLES  # noqa: E402
from tests.unit.trainer.text.conftest import tiny_checkpoint  # noqa: E402
from trainer.encoder import EncoderOptions, train_encoder  # noqa: E402
from trainer.loop import Outcome, Task, TrainingOptions, train  # noqa: E402
from trainer.loop.batches import generator  # noqa: E402
from trainer.personal.learning import PersonalOptions, train_personal  # noqa: E402
from trainer.pretrain.model import with_mask  # noqa: E402
from trainer.pretrain.run import run_pretraining  # noqa: E402
from trainer.pretrain.texts import Pair, split_off  # noqa: E402

PROCESSES: Final = 2


def options(out: Path) -> TrainingOptions:
    return TrainingOptions(
        out, steps=4, batch_size=8, accumulate=2, every_steps=1, patience=0, learning_rate=0.003,
        max_length=32, track="none",
    )  # fmt: skip


def encoder(out: Path) -> None:
    given = EncoderOptions(dimensions=(8,), negatives=1, name="shop", precision="fp32")
    train_encoder(shop(), tiny_checkpoint("mean"), given, options(out))


def personal(out: Path) -> None:
    given = PersonalOptions(events=6, list_size=12, width=16, id_events=4, dev_items=ITEMS)
    train_personal(behaviour(), given, options(out))


def pretrain(out: Path) -> None:
    corpus = split_off([Pair(title, title[:12]) for title in TITLES[::8]], seed=0)
    run_pretraining(with_mask(tiny_checkpoint("mean")), corpus, options(out), new=False)


TRAININGS: Final[Mapping[str, Callable[[Path], None]]] = {
    "trainer.encoder.run": encoder,
    "trainer.personal.learning": personal,
    "trainer.pretrain.run": pretrain,
}


def calm(task: Task) -> Task:
    """Without dropout, whose randomness is drawn where the model is, for all of a batch."""
    for module in task.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return task


def in_shares(task: Task) -> Task:
    """What all processes do of a batch, in one."""

    def batch(rows: Any, random: Any) -> list[Any]:
        return [task.batch(rows[n::PROCESSES], random[n]) for n in range(PROCESSES)]

    def loss(model: Any, shares: list[Any]) -> Any:
        return torch.stack([task.loss(model, share) for share in shares]).mean()

    return replace(task, batch=batch, loss=loss)


def of_all_processes(seed: int, index: int, _: int) -> list[np.random.Generator]:
    return [generator(seed, index, process) for process in range(PROCESSES)]


_PROCESS = """
import importlib, sys
from pathlib import Path
from tests.unit.trainer import test_two_processes as here

for name, training in here.TRAININGS.items():
    module = importlib.import_module(name)
    module.train = lambda task, options: here.train(here.calm(task), options)
    training(Path(sys.argv[1]) / name)
"""


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes trained."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(_PROCESS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", str(PROCESSES), str(script), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_learn_what_one_learns_of_the_same_examples(
    of_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def whole(task: Task, given: TrainingOptions) -> Outcome:
        return train(in_shares(calm(task)), given)

    monkeypatch.setattr(f"{name}.train", whole)
    monkeypatch.setattr("trainer.loop.training.generator", of_all_processes)
    TRAININGS[name](tmp_path)
    one, two = (
        json.loads((folder / "result.json").read_text()) for folder in (tmp_path, of_two / name)
    )
    assert len(one["history"]) == len(two["history"]) == 4
    for alone, shared in zip(one["history"], two["history"], strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    for metric, value in one["best"].items():
        assert two["best"][metric] == pytest.approx(value, abs=1e-3)

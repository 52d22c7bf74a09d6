"""The loop: learns, resumes as if uninterrupted, stops early, refuses what is wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neuralrank.errors import (  # noqa: E402
    InvalidInput,
    InvalidSettings,
    Overloaded,
    Unsupported,
)
from tests.unit.room import room_for  # noqa: E402
from tests.unit.trainer.loop.conftest import EXAMPLES, line_task  # noqa: E402
from trainer.loop import TrainingOptions, train  # noqa: E402
from trainer.loop.batches import rows  # noqa: E402
from trainer.loop.checkpoints import Checkpoints  # noqa: E402


def weights(task: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in task.model.state_dict().items()}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_and_says_what_came_out(options: TrainingOptions) -> None:
    task = line_task()
    outcome = train(task, replace(options, steps=60))
    assert outcome.best["quality"] > outcome.before["quality"] + 1
    assert outcome.steps == 60
    assert not outcome.stopped_early
    written = json.loads((options.out / "result.json").read_text())
    assert written["best"] == outcome.best
    assert written["task"] == {"data": "line"}
    assert [entry["step"] for entry in written["history"]] == list(range(5, 61, 5))


def test_an_epoch_has_every_example_once_and_batches_have_one_size() -> None:
    seen = [rows(10, 4, 3, index) for index in range(5)]
    assert {len(batch) for batch in seen} == {4}
    stream = np.concatenate(seen)
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:])
    assert np.array_equal(rows(10, 4, 3, 2), seen[2])
    assert not np.array_equal(rows(10, 4, 4, 2), seen[2])


def test_fewer_examples_than_a_batch_are_repeated() -> None:
    assert sorted(rows(3, 6, 0, 0)) == [0, 0, 1, 1, 2, 2]


def test_accumulated_batches_are_one_large_batch(options: TrainingOptions) -> None:
    results = []
    for batch_size, accumulate in ((8, 1), (4, 2), (2, 4)):
        task = line_task()
        task.model[0].p = 0.0
        fixed = np.random.default_rng(0).normal(size=(EXAMPLES, 3)).astype(np.float32)
        task = replace(
            task,
            batch=lambda chosen, _, fixed=fixed: {
                "x": torch.from_numpy(fixed[chosen]),
                "y": torch.from_numpy(fixed[chosen].sum(axis=1)),
            },
        )
        out = options.out / str(accumulate)
        chosen = replace(options, out=out, batch_size=batch_size, accumulate=accumulate)
        results.append((train(task, chosen), weights(task)))
    for outcome, found in results[1:]:
        assert outcome.best["quality"] == pytest.approx(results[0][0].best["quality"], abs=1e-6)
        for name, tensor in found.items():
            assert torch.allclose(tensor, results[0][1][name], atol=1e-6)


class Noting:
    """Notes the gradients of each step."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.gradients: list[Any] = []

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, _: Any) -> None:
        pass

    def after_step(self, _: int) -> None:
        self.gradients.append(self._model[1].weight.grad.clone())


def test_gradients_of_accumulated_batches_are_their_mean(options: TrainingOptions) -> None:
    """The optimiser hides their length, clipping and the log do not."""
    found = []
    for batch_size, accumulate in ((8, 1), (2, 4)):
        task = line_task(lambda batch, chosen: {"x": torch.ones(len(chosen), 3), "y": batch["y"]})
        task.model[0].p = 0.0
        noting = Noting(task.model)
        out = options.out / str(accumulate)
        chosen = replace(options, out=out, batch_size=batch_size, accumulate=accumulate, clip=0.0)
        train(replace(task, extra=noting), chosen)
        found.append(torch.stack(noting.gradients))
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_matrices_decay_and_biases_do_not(options: TrainingOptions) -> None:
    task = line_task(loss=lambda model, batch: 0.0 * model(batch["x"]).sum())
    before = weights(task)
    steady = replace(options, steps=1, warmup=0.0, learning_rate=0.5, weight_decay=0.1)
    train(task, steady)
    assert torch.allclose(task.model[1].weight, 0.95 * before["1.weight"])
    assert torch.equal(task.model[1].bias, before["1.bias"])


def test_the_loss_of_an_evaluation_is_the_mean_since_the_one_before(
    options: TrainingOptions,
) -> None:
    steps = iter([1.0, 2.0, 3.0, 4.0])
    task = line_task(loss=lambda model, batch: 0.0 * model(batch["x"]).sum() + next(steps))
    outcome = train(task, replace(options, steps=4, every_steps=2))
    assert [entry["loss"] for entry in outcome.history] == [1.5, 3.5]


class Killed(Exception):
    pass


def killing(at: int) -> Any:
    """Ends the run in the middle of batch number `at`, as SIGKILL would."""
    count = -1

    def change(batch: Any, _: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise Killed
        return batch

    return change


def test_a_killed_run_goes_on_as_if_it_had_not_been(options: TrainingOptions) -> None:
    whole = line_task()
    expected = train(whole, replace(options, out=options.out / "whole"))
    with pytest.raises(Killed):
        train(line_task(killing(13)), options)
    assert Checkpoints(options.out, 2).steps() == [5, 10]
    task = line_task()
    outcome = train(task, options)
    assert [e["quality"] for e in outcome.history] == [e["quality"] for e in expected.history]
    assert equal(weights(task), weights(whole))


def interrupting(at: int) -> Any:
    """Ctrl-C in the middle of batch number `at`, counted from 1."""
    count = 0

    def interrupt(batch: Any, _: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGINT)
        return batch

    return interrupt


def test_interrupted_it_writes_a_checkpoint_of_that_step(options: TrainingOptions) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"step 9 of 20.*same command goes on"):
        train(line_task(interrupting(8)), options)
    assert Checkpoints(options.out, 2).steps() == [5, 9]
    whole, rest = line_task(), line_task()
    outcome = train(rest, options)
    expected = train(whole, replace(options, out=options.out / "whole"))
    assert equal(weights(rest), weights(whole))
    # Its losses are means from one evaluation to the next, also across the interruption.
    assert outcome.history == expected.history
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted_before_the_first_evaluation_fewer_steps_are_evaluated(
    options: TrainingOptions,
) -> None:
    with pytest.raises(KeyboardInterrupt, match="step 4 of 20"):
        train(line_task(interrupting(3)), options)
    task = line_task(killing(0))
    outcome = train(task, replace(options, steps=3))
    assert (outcome.steps, outcome.best_step) == (4, 4)
    assert outcome.best == {"quality": outcome.history[0]["quality"]}
    assert train(line_task(killing(0)), replace(options, steps=3)).history == outcome.history


def test_a_finished_run_is_not_trained_again(options: TrainingOptions) -> None:
    first = line_task()
    expected = train(first, options)
    second = line_task(killing(0))
    outcome = train(second, options)
    assert outcome.best == expected.best
    assert equal(weights(first), weights(second))


def test_only_the_last_checkpoints_and_the_best_stay(options: TrainingOptions) -> None:
    values = iter([0.0, 0.5, 0.1, 0.2, 0.3, 0.4])
    task = line_task(evaluate=lambda _: {"quality": next(values)})
    outcome = train(task, replace(options, steps=25))
    assert outcome.best_step == 5
    assert Checkpoints(options.out, 2).steps() == [5, 20, 25]
    assert outcome.best == {"quality": 0.5}


def test_it_stops_when_the_metric_does_not_rise_and_gives_the_best_weights(
    options: TrainingOptions,
) -> None:
    values = iter([0.0, 0.1, 0.9, 0.3, 0.9, 0.2])
    seen = []

    def evaluate(model: Any) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"quality": next(values)}

    task = line_task(evaluate=evaluate)
    outcome = train(task, replace(options, steps=100, patience=2))
    assert (outcome.steps, outcome.best_step, outcome.stopped_early) == (20, 10, True)
    assert equal(weights(task), seen[2])


def test_a_metric_may_be_better_when_lower(options: TrainingOptions) -> None:
    values = iter([9.0, 3.0, 1.0, 2.0, 4.0])
    task = line_task(
        evaluate=lambda _: {"perplexity": next(values)},
        metric="perplexity",
        lower_is_better=True,
    )
    assert train(task, options).best_step == 10


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_it_and_names_the_batch(
    options: TrainingOptions, wrong: float
) -> None:
    chosen = []

    def spoil(batch: Any, rows: Any) -> Any:
        chosen.append(rows)
        if len(chosen) == 8:
            batch["x"] = batch["x"] * wrong
        return batch

    task = line_task(spoil, describe=lambda row: f"pair-{row}")
    with pytest.raises(InvalidInput, match="step 8") as caught:
        train(task, options)
    message = str(caught.value)
    assert f"pair-{chosen[7][0]}" in message
    assert "step-00000005" in message
    assert Checkpoints(options.out, 2).steps() == [5]
    # The checkpoint is good: it goes on from there.
    assert train(line_task(), replace(options, learning_rate=0.01)).steps == 20


def test_a_gradient_that_is_not_finite_is_not_applied(options: TrainingOptions) -> None:
    def loss(model: Any, batch: Any) -> Any:
        return torch.sqrt((model(batch["x"]) * 0).sum())  # 0, with an infinite slope

    with pytest.raises(InvalidInput, match="gradient is not finite in step 1"):
        train(line_task(loss=loss), options)


def test_a_metric_that_is_no_number_is_an_error(options: TrainingOptions) -> None:
    task = line_task(evaluate=lambda _: {"quality": float("nan")})
    with pytest.raises(InvalidInput, match="dev part"):
        train(task, options)


def test_nothing_to_train_is_an_error(options: TrainingOptions) -> None:
    with pytest.raises(InvalidInput, match="no example"):
        train(line_task(examples=0), options)
    task = line_task()
    task.model.requires_grad_(False)
    with pytest.raises(InvalidInput, match="trainable"):
        train(task, options)


def test_another_run_in_the_folder_is_not_overwritten(options: TrainingOptions) -> None:
    train(line_task(), options)
    with pytest.raises(InvalidInput, match="data 'line'; this one has 'curve'"):
        train(line_task(identity={"data": "curve"}), options)
    with pytest.raises(InvalidInput, match="batch_size 8; this one has 4"):
        train(line_task(), replace(options, batch_size=4))


def test_two_trainings_in_one_folder_are_refused(options: TrainingOptions) -> None:
    """Each deleted what the other was writing, and one ended with a traceback."""

    def meanwhile(batch: Any, _: Any) -> Any:
        with pytest.raises(Overloaded, match=r"Another training works in .*choose another --out"):
            train(line_task(), options)
        return batch

    outcome = train(line_task(meanwhile), replace(options, steps=2))
    assert outcome.steps == 2
    assert train(line_task(), options).steps == 20  # it is free again


def test_a_damaged_checkpoint_is_named(options: TrainingOptions) -> None:
    train(line_task(), options)
    file = options.out / "checkpoints/step-00000020/model.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InvalidInput, match=r"step-00000020 can't be read.*Delete that folder"):
        train(line_task(), options)


def test_no_pickle_is_written(options: TrainingOptions) -> None:
    train(line_task(), options)
    kinds = {path.suffix or path.name for path in options.out.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".lock"}


def test_a_full_disk_is_a_clear_error_and_keeps_the_last_checkpoint(
    options: TrainingOptions,
) -> None:
    wide = torch.nn.Linear(3, 4096)  # 64 kB of weights, twice that of moments
    room = ExitStack()

    def evaluate(_: Any) -> dict[str, float]:
        nonlocal count
        count += 1
        if count == 3:  # from the second checkpoint on, no file may grow beyond 16 kB
            room.enter_context(room_for(2**14))
        return {"quality": float(count)}

    count = 0
    task = line_task(model=wide, evaluate=evaluate)
    with room, pytest.raises(Unsupported, match=r"No room.*step-00000005") as caught:
        train(task, options)
    assert "same command" in str(caught.value)
    assert [path.name for path in (options.out / "checkpoints").iterdir()] == ["step-00000005"]
    assert train(task, options).steps == 20


# TensorBoard writes in a thread: no traceback of it is to be seen.
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_without_room_is_named_and_the_run_goes_on_later(options: TrainingOptions) -> None:
    logged = replace(options, track="tensorboard", every_steps=10)
    full = pytest.raises(OSError, match=os.strerror(errno.EFBIG))
    with room_for(2_500), full as caught:
        train(line_task(), logged)
    assert caught.value.filename == str(options.out / "logs")
    assert train(line_task(), logged).steps == 20


def test_tensorboard_gets_losses_and_metrics(options: TrainingOptions) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(line_task(), replace(options, track="tensorboard"))
    events = EventAccumulator(str(options.out / "logs"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == 20
    assert [point.step for point in events.Scalars("dev/quality")] == [0, 5, 10, 15, 20]
    rates = [point.value for point in events.Scalars("train/learning_rate")]
    assert rates[0] < rates[2]  # warm-up, two steps of twenty
    assert max(rates) == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0.05 / 18)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "magic"),
        ("precision", "fp8"),
        ("track", "paper"),
        ("batch_size", 0),
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("epochs", -1.0),
        ("warmup", 1.0),
        ("weight_decay", float("nan")),
        ("max_length", 4),
    ],
)
def test_an_option_outside_its_range_is_named(field: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=f"--{field.replace('_', '-')} is"):
        TrainingOptions(out=tmp_path, **{field: value})


def test_half_precision_needs_hardware(options: TrainingOptions) -> None:
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    with pytest.raises(Unsupported, match="needs an NVIDIA GPU"):
        train(line_task(), replace(options, precision="fp16"))


def test_bf16_trains_and_leaves_float32_weights(options: TrainingOptions) -> None:
    task = line_task()
    outcome = train(task, replace(options, steps=60, precision="bf16"))
    assert outcome.best["quality"] > outcome.before["quality"] + 1
    assert task.model[1].weight.dtype == torch.float32
    x = torch.tensor([[0.123456, -0.654321, 1.0]])
    assert torch.equal(task.model(x), task.model[1](x))  # computes in float32 again


_WANDB = """
import sys
from pathlib import Path
from tests.unit.trainer.loop.conftest import line_task
from trainer.loop import TrainingOptions, train

train(line_task(), TrainingOptions(
    out=Path(sys.argv[1]), steps=4, batch_size=8, every_steps=2, track="wandb"))
"""


def test_wandb_offline_writes_into_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", _WANDB, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    written = list((tmp_path / "run/logs/wandb").glob("offline-run-*/*.wandb"))
    assert len(written) == 1
    assert b"train/loss" in written[0].read_bytes()

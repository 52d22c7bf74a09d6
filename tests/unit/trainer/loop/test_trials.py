"""The search for options: one folder holds the trials of one task."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from neuralrank.errors import Diverged, InvalidInput  # noqa: E402
from tests.unit.trainer.loop.conftest import line_task  # noqa: E402
from trainer.loop import Outcome, TrainingOptions, train  # noqa: E402
from trainer.loop.trials import fitted, search  # noqa: E402


def running(**identity: Any) -> Callable[[TrainingOptions], Outcome]:
    return lambda options: train(line_task(identity={"data": "line", **identity}), options)


def made(out: Path) -> list[Path]:
    return sorted((out / "trials").glob("*/result.json"))


def test_a_search_goes_on_only_for_the_same_task(options: TrainingOptions) -> None:
    chosen = search(options, 2, running(dev_items=20), "quality")
    before = {file: file.read_text() for file in made(options.out)}
    assert len(before) == 2
    for other, run, words in (
        (options, running(dev_items=2_000), "with dev_items 20; this one has 2000"),
        (replace(options, batch_size=4), running(dev_items=20), "with batch_size 8; this one has"),
    ):
        with pytest.raises(InvalidInput, match="holds trials of something else") as caught:
            search(other, 4, run, "quality")
        assert words in str(caught.value)
        assert {file: file.read_text() for file in made(options.out)} == before
    # What was there goes on with what it was begun with.
    again = search(options, 3, running(dev_items=20), "quality")
    assert len(made(options.out)) == 3
    assert json.loads((chosen.best.folder / "options.json").read_text())["task"]["dev_items"] == 20
    assert again.best.folder in {file.parent for file in made(options.out)}


def test_to_see_that_it_is_the_same_no_trial_is_trained_further(options: TrainingOptions) -> None:
    search(options, 1, running(), "quality")
    (first,) = made(options.out)
    longer = replace(options, steps=2 * options.steps)
    search(longer, 2, running(), "quality")
    assert sorted(json.loads(file.read_text())["steps"] for file in made(options.out)) == [
        options.steps, longer.steps,
    ]  # fmt: skip
    assert json.loads(first.read_text())["steps"] == options.steps


def test_the_best_trial_is_not_trained_further_than_it_was_measured(
    options: TrainingOptions,
) -> None:
    """The result was of more steps than the value that the table has for it."""

    def fit(each: TrainingOptions) -> tuple[str, Outcome]:
        return each.out.name, running()(each)

    _, first, _ = fitted(replace(options, steps=4, every_steps=2), 1, fit, "quality")
    poor = replace(options, steps=8, every_steps=2, learning_rate=1e-9)
    _, again, found = fitted(poor, 2, fit, "quality")
    assert found is not None
    assert found.best.value == again.best["quality"] == first.best["quality"]
    assert again.steps == first.steps == 4


def test_a_trial_whose_weights_can_not_be_measured_is_left_out(options: TrainingOptions) -> None:
    """The search ended there, and the same command tried the same again, for ever."""
    begun: list[Path] = []

    def fit(each: TrainingOptions) -> tuple[str, Outcome]:
        begun.append(each.out)
        task = line_task()
        grown = {"quality": float("inf")}
        evaluate = task.evaluate
        calls = iter([evaluate, lambda _: grown]) if len(begun) == 1 else None
        broken = replace(task, evaluate=lambda model: next(calls)(model)) if calls else task
        return each.out.name, train(broken, each)

    _, _, found = fitted(options, 2, fit, "quality")
    assert found is not None
    assert [trial.value is None for trial in found.trials] == [True, False]


def test_what_all_trials_came_to_is_one_file(options: TrainingOptions) -> None:
    """It had to be put together from the folders of the trials, whose names say nothing."""
    made_so_far: list[Path] = []

    def fit(each: TrainingOptions) -> tuple[str, Outcome]:
        if each.out not in made_so_far:
            made_so_far.append(each.out)
        if made_so_far.index(each.out) == 1:
            raise Diverged("the loss is nan")
        return each.out.name, running()(each)

    model, outcome, found = fitted(options, 3, fit, "quality")
    assert found is not None
    written = json.loads((options.out / "result.json").read_text())
    assert written == {
        **json.loads((options.out / "trials" / model / "result.json").read_text()),
        **found.json(),
    }
    assert written["best"] == outcome.best
    assert [row["folder"] for row in written["trials"]] == [
        f"trials/{folder.name}" for folder in made_so_far
    ]
    values = [row["quality"] for row in written["trials"]]
    assert values[1] is None  # it diverged
    assert max(values[0], values[2]) == outcome.best["quality"]
    (best,) = [row for row in written["trials"] if row["folder"] == f"trials/{model}"]
    assert {name: best[name] for name in written["chosen"]} == written["chosen"]
    assert set(written["chosen"]) == {"learning_rate", "weight_decay", "warmup"}


def test_without_trials_it_is_a_training_like_any_other(options: TrainingOptions) -> None:
    model, outcome, found = fitted(options, 0, lambda each: ("m", running()(each)), "quality")
    assert (model, outcome.out, found) == ("m", options.out, None)

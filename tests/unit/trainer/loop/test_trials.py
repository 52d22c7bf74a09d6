"""The search for options: one folder holds the trials of one task."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from neuralrank.errors import InvalidInput  # noqa: E402
from tests.unit.trainer.loop.conftest import line_task  # noqa: E402
from trainer.loop import Outcome, TrainingOptions, train  # noqa: E402
from trainer.loop.trials import search  # noqa: E402


def running(**identity: Any) -> Callable[[TrainingOptions], Outcome]:
    return lambda options: train(line_task(identity={"data": "line", **identity}), options)


def made(out: Path) -> list[Path]:
    return sorted((out / "trials").glob("*/result.json"))


def test_a_search_goes_on_only_for_the_same_task(options: TrainingOptions) -> None:
    chosen, _ = search(options, 2, running(dev_items=20), "quality")
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
    again, _ = search(options, 3, running(dev_items=20), "quality")
    assert len(made(options.out)) == 3
    assert json.loads((chosen.out / "options.json").read_text())["task"]["dev_items"] == 20
    assert again.out in {file.parent for file in made(options.out)}


def test_to_see_that_it_is_the_same_no_trial_is_trained_further(options: TrainingOptions) -> None:
    search(options, 1, running(), "quality")
    (first,) = made(options.out)
    longer = replace(options, steps=2 * options.steps)
    search(longer, 2, running(), "quality")
    assert sorted(json.loads(file.read_text())["steps"] for file in made(options.out)) == [
        options.steps, longer.steps,
    ]  # fmt: skip
    assert json.loads(first.read_text())["steps"] == options.steps

"""`training_flags`: the flags are those of `TrainingOptions`, with the same defaults."""

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from neuralrank.cli.train.options import training_flags
from trainer.loop import TrainingOptions

received: list[Any] = []


def application(**defaults: Any) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @training_flags(**defaults)
    def fit(
        data: Annotated[str, typer.Argument(help="Data.")],
        training: TrainingOptions,
        depth: Annotated[int, typer.Option(help="Depth.")] = 2,
    ) -> None:
        """Fits."""
        if data == "interrupt":
            raise KeyboardInterrupt("It goes on.")
        if data == "elsewhere":
            raise KeyboardInterrupt
        received.append((data, depth, training))

    return app


def test_a_command_gets_its_own_flags_and_those_of_every_training(tmp_path: Path) -> None:
    arguments = ["x", "--depth", "3", "--out", str(tmp_path), "--batch-size", "4", "--method"]
    done = CliRunner().invoke(application(learning_rate=0.1), [*arguments, "lora"])
    assert done.exit_code == 0, done.output
    expected = TrainingOptions(out=tmp_path, batch_size=4, method="lora", learning_rate=0.1)
    assert received.pop() == ("x", 3, expected)


def test_every_option_is_a_flag_with_the_same_default() -> None:
    app = application()
    (command,) = app.registered_commands
    assert command.callback
    flags = inspect.signature(command.callback).parameters
    for field in dataclasses.fields(TrainingOptions):
        default = flags[field.name].default
        required = field.default is dataclasses.MISSING
        assert default == (inspect.Parameter.empty if required else field.default), field.name


def test_interrupted_it_says_so_and_exits_with_130(tmp_path: Path) -> None:
    done = CliRunner().invoke(application(), ["interrupt", "--out", str(tmp_path)])
    assert done.exit_code == 130
    assert "Interrupted. It goes on." in done.output
    done = CliRunner().invoke(application(), ["elsewhere", "--out", str(tmp_path)])
    assert done.exit_code == 130
    assert "Interrupted. The same command goes on." in done.output


def test_a_default_for_no_flag_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="speed"):
        training_flags(speed=1)

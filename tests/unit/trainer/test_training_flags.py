"""`training_flags`: the flags are those of `TrainingOptions`, with the same defaults."""

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from neuralrank.cli.train import train
from neuralrank.cli.train.options import training_flags
from neuralrank.errors import InvalidSettings
from trainer.compress.compressing import compress
from trainer.loop import Method, TrainingOptions
from trainer.personal.learning import train_personal
from trainer.pretrain.run import _check_method

CHECKOUT = Path(__file__).parents[3]
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


def test_a_command_has_no_flag_that_would_change_nothing(tmp_path: Path) -> None:
    app = application(without=["max_length"])
    arguments = ["x", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--max-length", "64"])
    assert done.exit_code == 2
    assert "No such option: --max-length" in done.output
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert received.pop() == ("x", 2, TrainingOptions(out=tmp_path))


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


def documented() -> dict[str, dict[str, str]]:
    """Of docs/trainer.md, by command: what it has."""
    lines = (CHECKOUT / "docs/trainer.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    begin = next(n for n, row in enumerate(rows) if row[0] == "train …")
    found: dict[str, dict[str, str]] = {}
    for row in rows[begin + 2 :]:
        if len(row) < 2:
            break
        found[row[0]] = dict(zip(rows[begin], row, strict=True))
    return found


def test_the_table_of_methods_and_trials_is_what_commands_take(tmp_path: Path) -> None:
    table = documented()
    assert set(table) == {"encoder", "reranker", "personal", "pretrain", "compress", "update"}
    commands = typer.main.get_command(train).commands  # type: ignore[attr-defined]
    for name, row in table.items():
        flags = {parameter.name for parameter in commands[name].params}
        assert "method" in flags
        assert (row["--trials"] == "yes") == ("trials" in flags), name
        # Nothing is missing without a reason.
        assert bool(row["why not"]) == ("no" in row.values()), name
    methods = get_args(Method)
    nothing: Any = None
    for method in methods:
        training = TrainingOptions(out=tmp_path, method=method)
        for name, fit in (
            ("personal", lambda t: train_personal(nothing, nothing, t)),
            ("compress", lambda t: compress(nothing, nothing, nothing, t)),
        ):
            # Taken, it stumbles over the nothing.
            with pytest.raises((InvalidSettings, AttributeError)) as caught:
                fit(training)
            refused = isinstance(caught.value, InvalidSettings)
            assert refused == (table[name][method] == "no"), (name, method)
        for new in (False, True):
            try:
                _check_method(method, new)
                taken = True
            except InvalidSettings:
                taken = False
            said = table["pretrain"][method]
            assert taken == (said == "yes" or (said.startswith("with") and not new)), (new, method)
    for name in ("encoder", "reranker", "update"):
        assert {table[name][method] for method in methods} == {"yes"}


def test_a_list_size_is_refused_where_no_lists_are_looked_at(tmp_path: Path) -> None:
    arguments = ["reranker", str(tmp_path), "--from", "neuralrank-small", "--out", str(tmp_path)]
    done = CliRunner().invoke(train, [*arguments, "--list-size", "4"])
    assert isinstance(done.exception, InvalidSettings)
    assert "--list-size 4 changes nothing with --loss bce" in str(done.exception)
    done = CliRunner().invoke(train, [*arguments, "--list-size", "4", "--loss", "lambda"])
    assert "--list-size" not in str(done.exception)

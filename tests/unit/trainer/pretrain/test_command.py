"""`neuralrank train pretrain` from files to a folder that other trainings start from."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, InvalidSettings, NotFound
from neuralrank.models import checkpoint
from tests.unit.trainer.encoder.shop import shop
from tests.unit.trainer.pretrain.test_tokenizer import TITLES

SIZES = ["--layers", "2", "--hidden", "16", "--heads", "2", "--vocabulary", "300"]
TRAINING = ["--steps", "2", "--batch-size", "4", "--track", "none", "--max-length", "32"]


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["train", "pretrain", *map(str, arguments)])


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "shop.jsonl"
    rows = [{"id": n, "title": title, "price": n} for n, title in enumerate(TITLES[::20])]
    path.write_text("\n".join([*map(json.dumps, rows), "{broken", '{"id": "no title"}']))
    return path


def test_a_new_model_is_made_of_catalogue_queries_and_dataset_and_goes_on(
    catalogue: Path, tmp_path: Path
) -> None:
    (tmp_path / "queries.txt").write_text("奶粉\nphone case\n")
    shop().write(tmp_path / "data")
    arguments = ["--catalogue", catalogue, "--queries", tmp_path / "queries.txt", "--dataset",
                 tmp_path / "data", "--out", tmp_path / "run", *SIZES, *TRAINING]  # fmt: skip
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    assert "descriptions" in done.stdout
    # Heads share the width: with another number the weights have the same shapes.
    other = command(*arguments, "--heads", "4").exception
    assert isinstance(other, InvalidInput)
    assert "holds a run with heads 2; this one has 4" in str(other)
    made = checkpoint(str(tmp_path / "run" / "model"))
    assert made.weights["embeddings.word_embeddings.weight"].shape[1] == 16
    # Further, from there.
    source = str(tmp_path / "run" / "model")
    more = command(
        *("--catalogue", catalogue, "--from", source, "--out", tmp_path / "more", *TRAINING),
        *("--method", "lora", "--json"),
    )
    assert more.exit_code == 0, more.output
    assert json.loads(more.stdout)["path"] == str(tmp_path / "more" / "model")
    again = checkpoint(str(tmp_path / "more" / "model"))
    assert again.tokenizer == made.tokenizer


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], InvalidInput, "that is too few"),
        (["--queries", "none.txt"], NotFound, "There is no file none.txt"),
        (["--catalogue", "none.jsonl"], NotFound, "none.jsonl"),
        (["--method", "lora"], InvalidSettings, "lora without --from"),
        (["--method", "prefix"], InvalidSettings, "takes full, lora or adalora"),
        (
            ["--from", "package:neuralrank"],
            InvalidInput,
            "package:neuralrank has marks on words that both texts have and layers that something "
            "was pruned from; pretraining writes a",
        ),
        (
            ["--from", "package:neuralrank", "--layers", "2", "--heads", "4"],
            InvalidSettings,
            "--layers and --heads with --from package:neuralrank: these are of a new model",
        ),
    ],
)
def test_what_can_not_be_used_is_said(
    catalogue: Path, tmp_path: Path, arguments: list[str], error: type[Exception], words: str
) -> None:
    if arguments[:1] in (["--method"], ["--from"]):
        sizes = [] if arguments[0] == "--from" else SIZES
        arguments = ["--catalogue", str(catalogue), *sizes, *TRAINING, *arguments]
    done = command("--out", tmp_path / "run", *arguments)
    assert isinstance(done.exception, error)
    assert words in str(done.exception)

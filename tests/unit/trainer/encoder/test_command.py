"""`neuralrank train encoder` from a dataset's folder to a candidate in the registry."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidInput, InvalidSettings, NotFound
from tests.unit.conftest import tiny_bundle
from tests.unit.trainer.encoder.shop import shop
from trainer.loop import Outcome, Task, TrainingOptions, train

TRAINING = ["--steps", "4", "--batch-size", "3", "--every-steps", "2", "--track", "none"]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One tiny encoder, in service."""
    found = Registry(str(tmp_path / "models"))
    found.publish(tiny_bundle(tmp_path / "tiny", "encoder", name="shop", query_prefix="a "))
    return found


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    shop().write(tmp_path / "data")
    return tmp_path / "data"


def command(registry: Registry, *arguments: str | Path) -> Any:
    given = ["train", "encoder", *map(str, arguments), "--registry", registry.url]
    return CliRunner().invoke(app, given, env={"COLUMNS": "200"})


def test_a_bundle_becomes_a_better_candidate_of_its_own_name(
    registry: Registry, dataset: Path, tmp_path: Path
) -> None:
    before = registry.resolve("shop")
    given = [dataset, "--from", "shop", "--out", tmp_path / "run", *TRAINING]
    done = command(registry, *given, "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["bundle"] in registry.refs()
    assert summary["bundle"] != before
    assert registry.resolve("shop") == before  # it does not serve before it is promoted
    found = registry.get(summary["bundle"])
    assert found.manifest.parent == before
    assert found.manifest.query_prefix == "a "
    assert Encoder.load(found).encode_queries(["kettle"]).shape == (1, 32)
    # The same command again finds all done, and says so in words.
    again = command(registry, *given)
    assert again.exit_code == 0, again.output
    assert f"neuralrank reencode NAME --encoder {summary['bundle']}" in again.stderr
    assert "nDCG@10" in again.stdout


def test_without_publishing_it_stays_in_the_run(
    registry: Registry, dataset: Path, tmp_path: Path
) -> None:
    before = registry.refs()
    arguments = [dataset, "--from", "shop", "--out", tmp_path / "run", *TRAINING]
    done = command(registry, *arguments, "--no-publish", "--dimensions", "16,8")
    assert done.exit_code == 0, done.output
    assert registry.refs() == before
    assert "32, 16 or 8 dimensions" in done.stdout
    assert "nDCG@10 of 16 dimensions" in done.stdout
    assert (tmp_path / "run" / "bundle" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--dimensions", "a"], InvalidSettings, "whole numbers by commas"),
        (["--from", "nothing"], NotFound, "No source 'nothing'"),
        (["--positive-from", "1", "--method", "none"], InvalidSettings, "--method is none"),
    ],
)
def test_what_can_not_be_used_is_said(
    registry: Registry,
    dataset: Path,
    tmp_path: Path,
    arguments: list[str],
    error: type[Exception],
    words: str,
) -> None:
    given = [dataset, "--from", "shop", "--out", tmp_path / "run", *arguments]
    done = command(registry, *given)
    assert isinstance(done.exception, error)
    assert words in str(done.exception)


def test_a_dataset_that_is_not_there_is_said(registry: Registry, tmp_path: Path) -> None:
    done = command(registry, "no-folder", "--from", "shop", "--out", tmp_path / "run")
    assert isinstance(done.exception, NotFound)
    assert "There is no dataset in no-folder" in str(done.exception)


def test_trials_are_made_and_the_best_one_counts(
    registry: Registry, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    given = [dataset, "--from", "shop", "--out", out, *TRAINING, "--no-publish"]
    done = command(registry, *given, "--trials", "2", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert set(summary["chosen"]) == {"learning_rate", "weight_decay", "warmup"}
    results = [json.loads(file.read_text()) for file in out.glob("trials/*/result.json")]
    assert len(results) == len(summary["trials"]) == 2
    written = json.loads((out / "result.json").read_text())
    assert written["trials"] == summary["trials"]
    assert written["best"] == summary["best"]
    assert summary["best"]["nDCG@10"] == max(result["best"]["nDCG@10"] for result in results)
    # Resumed, it makes none anew; one more is one more.
    again = command(registry, *given, "--trials", "3")
    assert again.exit_code == 0, again.output
    assert re.search(r"^learning_rate +\d", again.stdout, re.MULTILINE)
    # A line for each trial, with what it came to.
    header, *rows = again.stdout.splitlines()[:4]
    assert header.split() == ["trial", *summary["chosen"], "dev", "nDCG@10"]
    assert sorted(row.split()[0] for row in rows) == sorted(
        path.name for path in (out / "trials").iterdir()
    )
    assert sum(row.split()[-1] == "best" for row in rows) == 1
    assert len(list(out.glob("trials/*/result.json"))) == 3


@pytest.mark.parametrize(("method", "rate"), [("full", 2e-5), ("lora", 5e-4)])
def test_without_a_learning_rate_it_is_what_suits_the_method(
    registry: Registry,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    rate: float,
) -> None:
    rates: list[float] = []

    def noted(task: Task, options: TrainingOptions) -> Outcome:
        rates.append(options.rate)
        return train(task, options)

    monkeypatch.setattr("trainer.encoder.run.train", noted)
    given = [dataset, "--from", "shop", "--method", method, *TRAINING]
    done = command(registry, *given, "--out", tmp_path / "run", "--no-publish")
    assert done.exit_code == 0, done.output
    assert rates == [rate]
    # Trials look around it.
    rates.clear()
    given += ["--out", tmp_path / "trials", "--no-publish", "--trials", "1"]
    done = command(registry, *given)
    assert done.exit_code == 0, done.output
    assert all(rate / 5 <= each <= rate * 5 for each in rates)


def test_one_class_only_is_said(registry: Registry, tmp_path: Path) -> None:
    data = shop()
    right = data.examples.filter(pc.equal(data.examples["query_id"], "l"))
    dev = data.of("examples", "dev")
    replace(data, examples=pa.concat_tables([right, dev])).write(tmp_path / "one")
    done = command(registry, tmp_path / "one", "--from", "shop", "--out",
                   tmp_path / "run", *TRAINING)  # fmt: skip
    assert isinstance(done.exception, InvalidInput)
    assert "nothing to tell them from" in str(done.exception)

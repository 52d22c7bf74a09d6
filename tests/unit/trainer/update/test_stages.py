"""The stages of `neuralrank train update`: what a person who watches sees of them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.cli.train import update_stages
from neuralrank.cli.train.update_stages import TextStages
from neuralrank.settings import load_settings
from tests.unit.conftest import tiny_bundle
from tests.unit.test_progress import Screen
from tests.unit.trainer.feedback.scripted import Cluster, event, query
from trainer.dataset import Dataset
from trainer.dataset.splits import Shares
from trainer.loop import TrainingOptions
from trainer.update.window import Window


class Client(Cluster):
    def close(self) -> None:
        pass


@pytest.mark.parametrize("watched", [True, False])
def test_a_round_shows_how_far_pull_and_dataset_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    names = {"a": "a cup", "b": "a kettle"}
    catalogue = tmp_path / "catalogue.jsonl"
    rows = [{"id": name, "title": title} for name, title in names.items()]
    catalogue.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [query(n, f"q{n}", f"u{n}") for n in range(9)]
    done = [event(n, "impression", name, f"u{n}", f"q{n}", place)
            for n in range(9) for place, name in enumerate(names, start=1)]  # fmt: skip
    done += [event(n + 0.5, "click", "b", f"u{n}", f"q{n}", 2) for n in range(9)]
    monkeypatch.setattr(update_stages, "connect", lambda *_, **__: Client(asked, done))
    screen = Screen(watched)
    monkeypatch.setattr("sys.stderr", screen)
    stages = TextStages(
        load_settings(), Registry(str(tmp_path / "models")), catalogue, "", Shares(0.0, 0.0),
        TrainingOptions(out=tmp_path), "bce", "none",
    )  # fmt: skip
    window = Window("2026-01-01", "2026-01-01T00:01:00", "2026-01-01T00:02:00")
    counts = stages.pull(window, tmp_path / "logs")
    stages.dataset(tmp_path / "logs", tmp_path / "data")
    assert counts is not None
    assert counts["clicks"] == 9
    assert Dataset.open(tmp_path / "data").examples.num_rows
    for words in ("queries", "events", "27/27", "cleaning", "36/36", "searching", "1/1"):
        assert (words in screen.getvalue()) is watched


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_round_writes_its_bundle_in_the_precision_of_what_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    registry = Registry(str(tmp_path / "models"))
    parent = registry.publish(tiny_bundle(tmp_path / "one", "cross_encoder", precision))
    asked: list[Any] = []

    def train(_data: object, _source: object, options: object, _training: object) -> Any:
        asked.append(options)
        return SimpleNamespace(bundle=parent)

    monkeypatch.setattr(Dataset, "open", lambda _: None)
    monkeypatch.setattr("trainer.text.reranker.train_reranker", train)
    stages = TextStages(
        load_settings(), registry, tmp_path / "catalogue", "", Shares(0.0, 0.0),
        TrainingOptions(out=tmp_path), "pairwise", "none",
    )  # fmt: skip
    assert stages.train(tmp_path / "data", parent.ref, tmp_path / "run") == parent.ref
    assert [(options.precision, options.loss) for options in asked] == [(precision, "pairwise")]

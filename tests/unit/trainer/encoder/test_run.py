"""A two-layer encoder that is trained on a shop of six products, and served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from neuralrank.encoders.encoder import Encoder
from neuralrank.encoders.matryoshka import cut
from neuralrank.errors import InvalidInput, InvalidSettings
from neuralrank.models import Checkpoint
from tests.unit.trainer.encoder.shop import shop
from tests.unit.trainer.interrupts import interrupt_at
from tests.unit.trainer.text.conftest import tiny_checkpoint
from trainer.dataset import EXAMPLES, QUERIES, Window
from trainer.encoder import EncoderOptions, Trained, train_encoder
from trainer.encoder.examples import Examples
from trainer.encoder.search import Search, measured
from trainer.encoder.task import Contrast, contrastive
from trainer.loop import TrainingOptions
from trainer.text import Reader, TextModel, adapt, encode

OPTIONS = EncoderOptions(dimensions=(8,), negatives=1, name="shop", precision="fp32")


def training(out: Path, **given: object) -> TrainingOptions:
    return TrainingOptions(
        **{
            "out": out, "steps": 12, "batch_size": 3, "learning_rate": 2e-3, "track": "none",
            "every_steps": 6, "patience": 0, **given,
        }
    )  # fmt: skip


def checkpoint() -> Checkpoint:
    return tiny_checkpoint("mean", query_prefix="a ", passage_prefix="b ", languages=("zh", "en"))


def run(options: EncoderOptions, training: TrainingOptions) -> Trained:
    found = train_encoder(shop(), checkpoint(), options, training)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(OPTIONS, training(tmp_path_factory.mktemp("run")))


def test_the_loss_falls_and_the_bundle_is_what_was_trained(trained: Trained) -> None:
    losses = [entry["loss"] for entry in trained.outcome.history]
    assert losses[-1] < losses[0]
    manifest = trained.bundle.manifest
    assert (manifest.name, manifest.kind, manifest.dimensions) == ("shop", "encoder", 32)
    assert (manifest.query_prefix, manifest.passage_prefix) == ("a ", "b ")
    assert manifest.languages == ("zh", "en")
    assert manifest.metrics["dev nDCG@10"] == trained.outcome.best["nDCG@10"]
    assert manifest.metrics["onnx order"] > 0.9
    assert set(trained.outcome.best) == {"nDCG@10", "R@100", "nDCG@10 of 8 dimensions"}


def test_the_bundle_may_be_cut_where_it_was_trained_for(trained: Trained) -> None:
    assert trained.bundle.manifest.matryoshka == (8,)
    encoder = Encoder.load(trained.bundle)
    assert encoder.matryoshka == (8,)
    # What was measured is what an index of cut vectors gives.
    search = Search.of(shop(), "dev", OPTIONS.dev_items)
    queries = cut(encoder.encode_queries(search.query_texts), 8)
    found = measured(search, queries, cut(encoder.encode_passages(search.item_texts), 8), ())
    assert found["nDCG@10"] == trained.outcome.best["nDCG@10 of 8 dimensions"]


def test_the_window_of_the_feedback_is_an_interval_of_iso_8601(tmp_path: Path) -> None:
    window = Window(**{"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"})
    data = shop()
    data = replace(data, description=data.description.model_copy(update={"window": window}))
    found = train_encoder(data, checkpoint(), OPTIONS, training(tmp_path, steps=1))
    assert found
    manifest = found.bundle.manifest
    assert manifest.training_window == "2026-01-01T00:00:00Z/2026-02-01T00:00:00Z"


def test_done_is_done(trained: Trained) -> None:
    again = run(OPTIONS, training(trained.outcome.out))
    assert again.outcome.history == trained.outcome.history
    assert again.bundle.hash == trained.bundle.hash


def test_interrupted_it_goes_on_as_if_it_had_not_been(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt, match="step 9 of 12"):
        run(OPTIONS, training(tmp_path))
    assert not (tmp_path / "bundle").exists()
    resumed = run(OPTIONS, training(tmp_path))
    assert resumed.outcome.history == trained.outcome.history
    assert resumed.bundle.hash == trained.bundle.hash


def test_lora_trains_few_weights_and_is_merged_into_the_bundle(tmp_path: Path) -> None:
    options = EncoderOptions(negatives=1)
    found = run(options, training(tmp_path, method="lora", steps=4, every_steps=2))
    assert found.bundle.manifest.name == "tiny"
    before = tiny_checkpoint("mean")
    plain = encode(TextModel(before, "mean").eval(), Reader.of(before), ["laptop"], "b ")[0]
    after = Encoder.load(found.bundle).encode_passages(["laptop"])[0]
    assert np.abs(plain - after).max() > 1e-3


def test_pairs_come_nearer_and_negatives_go_away() -> None:
    source = checkpoint()
    data = shop()
    examples = Examples.of(data, "train", 0.5)
    model = TextModel(source, "mean")
    adapted = adapt(model, "full", 1)
    task = contrastive(
        adapted, Reader.of(source), ("a ", "b "), examples,
        Search.of(data, "dev", 9), Contrast(0.2, 1), {},
    )  # fmt: skip
    batch = task.batch(np.arange(3), np.random.default_rng(0))
    model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        loss = task.loss(model, batch)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_what_a_query_excludes_is_not_read_as_it_is_not_where_the_encoder_serves() -> None:
    source, data = checkpoint(), shop()
    rows = [row | {"text": f"{row['text']} without lid"} for row in data.queries.to_pylist()]
    rows[-1]["text"] = f"{data.queries['text'][-1].as_py()} 不带盖"
    excluding = replace(data, queries=pa.Table.from_pylist(rows, QUERIES))
    adapted = adapt(TextModel(source, "mean").eval(), "full", 1)
    batches, found = [], []
    for one in (data, excluding):
        task = contrastive(
            adapted, Reader.of(source), ("a ", "b "), Examples.of(one, "train", 0.5),
            Search.of(one, "dev", 9), Contrast(0.2, 1), {},
        )  # fmt: skip
        batches.append(task.batch(np.arange(3), np.random.default_rng(0))["inputs"])
        with torch.no_grad():
            found.append(task.evaluate(adapted.model))
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dimensions": (64,)}, "--dimensions asks for 64; the model's vectors have 32"),
        ({"temperature": 0.0}, "--temperature is 0"),
        ({"dimensions": (0,)}, "--dimensions"),
        ({"precision": "int4"}, "--bundle-precision is 'int4'"),
    ],
)
def test_options_that_do_not_fit_are_said(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidSettings, match=words):
        run(EncoderOptions(**options), training(tmp_path))


def test_a_dev_part_without_a_right_item_is_nothing_to_stop_by(tmp_path: Path) -> None:
    """Every measurement was 0, and the first checkpoint became a candidate."""
    data = shop()
    rows = data.examples.to_pylist()
    wrong = [row | {"label": 0.0} if row["split"] == "dev" else row for row in rows]
    data = replace(data, examples=pa.Table.from_pylist(wrong, EXAMPLES))
    with pytest.raises(InvalidSettings, match=r"No example .* dev is relevant: there is nothing"):
        train_encoder(data, checkpoint(), OPTIONS, training(tmp_path))
    assert not any(tmp_path.iterdir())


def test_a_run_goes_on_only_for_the_same_loss_and_measurement(trained: Trained) -> None:
    options = replace(OPTIONS, temperature=0.3)
    with pytest.raises(InvalidInput, match=r"holds a run with temperature 0\.05"):
        run(options, training(trained.outcome.out))
    with pytest.raises(InvalidInput, match=r"holds a run with dev_items 2000; this one has 5"):
        run(replace(OPTIONS, dev_items=5), training(trained.outcome.out))
    weights = {name: weight + 0.1 for name, weight in checkpoint().weights.items()}
    with pytest.raises(InvalidInput, match="holds a run with source_weights"):
        train_encoder(
            shop(), replace(checkpoint(), weights=weights), OPTIONS, training(trained.outcome.out)
        )

"""`neuralrank train compress`, from a dataset to a candidate in the registry."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.errors import InvalidInput, InvalidSettings
from tests.unit.conftest import HIDDEN, LAYERS, tiny_bundle
from tests.unit.trainer.text.conftest import tiny_checkpoint
from tests.unit.trainer.text.test_reranker import excluding, tiny_dataset
from trainer.compress.compressing import Compressed, CompressOptions, compress
from trainer.compress.measuring import Bench, Row
from trainer.dataset import ITEMS, Window
from trainer.loop import TrainingOptions
from trainer.text import Reader, TextModel, read_source, score_pairs
from trainer.text.judged import Judged
from trainer.text.reranker import RerankerOptions, train_reranker


def options(out: Path, **given: Any) -> TrainingOptions:
    return TrainingOptions(out=out, steps=4, batch_size=4, track="none", **given)


def test_each_step_is_measured_and_the_smaller_one_serves(tmp_path: Path) -> None:
    wanted = CompressOptions(layers=1, heads=0.5, intermediate=0.25, name="small")
    said: list[str] = []
    data = tiny_dataset()
    window = Window.model_validate({"from": "2026-01-01", "until": "2026-02-01"})
    described = data.description.model_copy(update={"window": window})
    data = replace(data, description=described)
    made = compress(data, tiny_checkpoint(), wanted, options(tmp_path), said.append)
    assert [row.what for row in made.rows] == [
        "as it was, fp32",
        "as it was, int8, a scale a token",
        "pruned, fp32",
        "pruned and distilled, fp32",
        "pruned and distilled, int8, a scale a token",
        "pruned and distilled, int8, ONNX Runtime dynamic",
        "pruned and distilled, int8, ONNX Runtime static",
    ]
    assert made.rows[0].correlation == 1.0
    # The held-back query has one right item, so that nDCG is 1 / log2(1 + its place).
    held = Judged.of(tiny_dataset(), "test")
    with torch.no_grad():
        before = score_pairs(
            TextModel(tiny_checkpoint(), "score").eval(),
            Reader.of(tiny_checkpoint()),
            [(held.queries[0], held.texts[item]) for item in held.item],
        )
    texts = [held.texts[item] for item in held.item]
    after = CrossEncoder.load(made.bundle).score(held.queries[0], texts)
    for row, scores in ((made.rows[0], before), (made.rows[4], np.asarray(after))):
        place = 1 + int((scores > scores[held.label.argmax()]).sum())
        assert row.ndcg == pytest.approx(1 / np.log2(1 + place), abs=1e-4), row.what
    for row in made.rows:
        assert row.milliseconds > 0
        assert 0 < row.ndcg <= 1
    assert made.rows[3].megabytes < 0.75 * made.rows[0].megabytes
    # Distilled, it is nearer to what it was than pruned alone.
    assert made.rows[3].correlation >= made.rows[2].correlation
    assert said == [
        "measuring the model as it is", "finding what matters least", "distilling",
        "rounding to int8",
    ]  # fmt: skip
    bundle = Bundle.open(made.bundle.path)
    assert (bundle.manifest.name, bundle.manifest.precision) == ("small", "int8")
    assert bundle.manifest.training_window == "2026-01-01/2026-02-01"
    CrossEncoder.load(bundle)  # its golden scores hold
    arrays = {a.name: tuple(a.dims) for a in onnx.load(bundle.model).graph.initializer}
    # The last layer has its query apart: only the first token is read there.
    assert arrays["layer0.query.weight"] == (HIDDEN, HIDDEN // 2)
    assert not any(name.startswith("layer1.") for name in arrays)


def test_what_a_query_excludes_is_not_read_as_it_is_not_where_the_model_serves(
    tmp_path: Path,
) -> None:
    bundle = tiny_bundle(tmp_path, "cross_encoder")
    bench = Bench(Judged.of(tiny_dataset(), "test"))
    bench.row("plain", bundle)
    # Correlations are with the first scores.
    held = Judged.of(excluding(tiny_dataset()), "test")
    assert held.queries == ["j without zz"]
    bench._held = held
    assert bench.row("excluding", bundle).correlation == 1.0


def test_the_command_publishes_a_candidate(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    served = registry.publish(tiny_bundle(tmp_path / "bundle", "cross_encoder", "int8"))
    tiny_dataset().write(tmp_path / "data")
    done = CliRunner().invoke(
        app,
        [
            "train", "compress", str(tmp_path / "data"), "--from", served.manifest.name,
            "--heads", "0.5", "--steps", "2", "--track", "none", "--out", str(tmp_path / "run"),
            "--registry", registry.url, "--json",
        ],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["rows"]) == 7
    assert result["published"] is True
    assert result["ref"] in registry.refs()
    # A candidate does not serve by itself.
    assert registry.resolve(served.manifest.name) == served.ref


def test_the_table_has_size_time_and_ndcg(capsys: Any) -> None:
    from neuralrank.cli.train.compress import _print

    rows = (
        Row("as it was, fp32", 12.34, 56.7, 0.71534, 1.0),
        Row("pruned, fp32", 6.1, 30.2, 0.6, 0.91),
        Row("one score for all", 6.1, 30.2, 0.6, None),
    )
    _print(rows)
    lines = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["MB", "ms / 100 pairs", "nDCG@10", "correlation"],
        ["as it was, fp32", "12.3", "57", "0.7153", "1.0000"],
        ["pruned, fp32", "6.1", "30", "0.6000", "0.9100"],
        ["one score for all", "6.1", "30", "0.6000", "–"],
    ]


@pytest.mark.filterwarnings("error")
def test_one_score_for_all_correlates_with_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was nan, with warnings of numpy's, and no JSON."""
    bundle = tiny_bundle(tmp_path / "bundle", "cross_encoder")
    bench = Bench(Judged.of(tiny_dataset(), "test"))
    assert bench.row("as it was", bundle).correlation == 1.0
    monkeypatch.setattr(CrossEncoder, "score", lambda _, __, texts: np.full(len(texts), 0.1, "f4"))
    row = bench.row("one score", bundle)
    assert row.correlation is None
    made = Compressed(bundle, (row,))
    assert json.loads(json.dumps(made.json(), allow_nan=False))["rows"][0]["correlation"] is None


def test_inputs_are_cut_where_it_was_taught(tmp_path: Path) -> None:
    data = tiny_dataset()
    rows = [row | {"text": f"{row['text']} " * 20} for row in data.items.to_pylist()]
    data = replace(data, items=pa.Table.from_pylist(rows, ITEMS))
    training = options(tmp_path, max_length=16)
    made = compress(data, tiny_checkpoint(), CompressOptions(heads=0.5), training)
    assert made.bundle.manifest.max_tokens == 16
    lengths = {
        name: Bundle.open(tmp_path / "variants" / name).manifest.max_tokens
        for name in ("source-fp32", "pruned", "fp32", "ort-dynamic", "ort-static")
    }
    # What it was reads as much as it did.
    assert lengths == {
        "source-fp32": 64, "pruned": 64, "fp32": 16, "ort-dynamic": 16, "ort-static": 16,
    }  # fmt: skip


@pytest.mark.parametrize("again", ["update", "adapters", "compress"])
def test_what_was_compressed_is_trained_further(tmp_path: Path, again: str) -> None:
    narrow = CompressOptions(heads=0.5, intermediate=0.25)
    first = compress(tiny_dataset(), tiny_checkpoint(), narrow, options(tmp_path / "first"))
    source = read_source(str(first.bundle.path), Registry(str(tmp_path)))
    queries = [f"encoder.layer.{layer}.attention.self.query.weight" for layer in range(LAYERS)]
    widths = [len(source.weights[name]) for name in queries]
    assert sum(widths) == HIDDEN
    if again == "compress":
        half = CompressOptions(heads=0.5, intermediate=0.5)
        made = compress(tiny_dataset(), source, half, options(tmp_path / "again")).bundle
    else:
        method: Any = "full" if again == "update" else again
        training = options(tmp_path / "again", method=method)
        reranked = train_reranker(tiny_dataset(), source, RerankerOptions(), training)
        assert reranked.bundle
        made = reranked.bundle
    CrossEncoder.load(made)
    found = read_source(str(made.path), Registry(str(tmp_path))).weights
    rows = [len(found[name]) for name in queries]
    if again == "compress":
        assert sum(rows) == HIDDEN // 2
    else:
        assert rows == widths


@pytest.mark.parametrize("method", ["prefix", "adapters"])
def test_a_source_with_additions_is_compressed_with_them(tmp_path: Path, method: Any) -> None:
    trained = train_reranker(
        tiny_dataset(),
        tiny_checkpoint(),
        RerankerOptions(precision="fp32"),
        options(tmp_path / "first", method=method, learning_rate=0.05),
    )
    assert trained.bundle
    source = read_source(str(trained.bundle.path), Registry(str(tmp_path)))
    half = CompressOptions(heads=0.5, intermediate=0.5)
    made = compress(tiny_dataset(), source, half, options(tmp_path / "run", learning_rate=0.01))
    kept = read_source(str(made.bundle.path), Registry(str(tmp_path))).weights
    assert any(f".{'prefix' if method == 'prefix' else 'adapter'}." in name for name in kept)


@pytest.mark.parametrize(
    "other",
    [{"layers": 1}, {"heads": 1.0}, {"intermediate": 0.5}],
    ids=lambda given: next(iter(given)),
)
def test_a_folder_goes_on_only_with_the_same_share(tmp_path: Path, other: dict[str, Any]) -> None:
    narrow = CompressOptions(heads=0.5, intermediate=0.25)
    compress(tiny_dataset(), tiny_checkpoint(), narrow, options(tmp_path))
    with pytest.raises(
        InvalidInput, match=r"holds a run with pruned '2 layers, 0\.5 heads, 0\.25 n"
    ):
        compress(tiny_dataset(), tiny_checkpoint(), replace(narrow, **other), options(tmp_path))


def test_adapters_leave_what_was_pruned_silent(tmp_path: Path) -> None:
    training = options(tmp_path, method="adapters", learning_rate=0.02)
    half = CompressOptions(heads=0.5, intermediate=0.5)
    # It raises where the model without its zeros gives other scores.
    made = compress(tiny_dataset(), tiny_checkpoint(), half, training)
    assert len(made.rows) == 7


def test_several_processes_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them wrote the variants, and when one had published its bundle the others failed."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidSettings, match="Compression runs in one process, and 2 were"):
        compress(tiny_dataset(), tiny_checkpoint(), CompressOptions(), options(tmp_path))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_methods_that_zeros_do_not_outlive_are_refused(tmp_path: Path, method: Any) -> None:
    with pytest.raises(InvalidSettings, match=f"--method is {method}; allowed .* full or adapters"):
        compress(
            tiny_dataset(), tiny_checkpoint(), CompressOptions(), options(tmp_path, method=method)
        )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": 0.0}, r"--heads is 0\.0; allowed is above 0 to 1"),
        ({"intermediate": 1.5}, r"--intermediate is 1\.5; allowed is above 0 to 1"),
        ({"layers": -1}, r"--layers is -1; allowed is 0 \(all\) or more"),
    ],
)
def test_shares_that_can_not_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        CompressOptions(**given)


def test_what_can_not_be_compressed_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="tiny is no cross-encoder"):
        compress(tiny_dataset(), tiny_checkpoint("mean"), CompressOptions(), options(tmp_path))
    with pytest.raises(InvalidInput, match="--layers is 3; the model has 2"):
        compress(tiny_dataset(), tiny_checkpoint(), CompressOptions(3), options(tmp_path))


def test_trials_are_made_of_the_distillation_and_the_best_one_is_cut(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    served = registry.publish(tiny_bundle(tmp_path / "bundle", "cross_encoder"))
    tiny_dataset().write(tmp_path / "data")
    run = tmp_path / "run"
    given = [
        "train", "compress", str(tmp_path / "data"), "--from", served.manifest.name, "--heads",
        "0.5", "--steps", "2", "--track", "none", "--out", str(run), "--registry", registry.url,
        "--trials", "2", "--no-publish",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert len(report["trials"]) == len(list((run / "trials").iterdir())) == 2
    result = json.loads((run / "result.json").read_text())
    assert result["best"]["nDCG@10"] == max(row["nDCG@10"] for row in report["trials"])
    distilled = Bundle.open(run / "bundle").manifest.metrics["dev nDCG@10"]
    assert distilled == result["best"]["nDCG@10"]
    # Again it makes none, and says what they came to.
    again = CliRunner().invoke(app, given)
    assert again.exit_code == 0, again.output
    header, *rows = again.stdout.splitlines()[:3]
    assert header.split() == ["trial", *report["chosen"], "dev", "nDCG@10"]
    assert [f"trials/{row.split()[0]}" for row in rows] == [
        row["folder"] for row in report["trials"]
    ]

"""`neuralrank train reranker`, from a dataset to a candidate in the registry."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from neuralrank.bundles.bundle import Bundle  # noqa: E402
from neuralrank.bundles.registry import Registry  # noqa: E402
from neuralrank.cli.commands import app  # noqa: E402
from neuralrank.errors import InvalidInput, InvalidSettings  # noqa: E402
from neuralrank.models import Checkpoint  # noqa: E402
from tests.unit.conftest import tiny_bundle  # noqa: E402
from tests.unit.models.test_hugging_face import bert_folder  # noqa: E402
from tests.unit.trainer.text.conftest import tiny_checkpoint  # noqa: E402
from trainer.dataset import EXAMPLES, ITEMS, QUERIES, Dataset, Description  # noqa: E402
from trainer.loop import Method, TrainingOptions, processes  # noqa: E402
from trainer.text import TextModel, read_source  # noqa: E402
from trainer.text.judged import Judged, mean_ndcg  # noqa: E402
from trainer.text.reranker import RerankerOptions, train_reranker  # noqa: E402
from trainer.text.teacher import teach  # noqa: E402

LETTERS = "abcdefghij"


def tiny_dataset(label: Any = None, dev_label: Any = None) -> Dataset:
    """Ten queries of a letter, each with an item that has it and three that have not.

    Args:
        label: gives the label of (query, item) in the train part.
    """
    items = [f"{letter}{letter} {number}" for letter in LETTERS for number in (1, 2)]
    splits = ["train"] * 7 + ["dev"] * 2 + ["test"]
    rows = []
    for number, letter in enumerate(LETTERS):
        for step in (0, 2, 5, 7):
            item = (2 * number + step) % len(items)
            found = 1.0 if items[item][0] == letter else 0.0
            chosen = label if splits[number] == "train" else dev_label
            rows.append(
                {
                    "query_id": f"q{number}",
                    "item_id": f"i{item}",
                    "label": chosen(letter, items[item]) if chosen else found,
                    "weight": 1.0 + step,
                    "source": "judgment",
                    "negative": "" if found else "bm25",
                    "split": splits[number],
                }
            )
    return Dataset(
        Description(source="tiny", created="2026-01-01T00:00:00Z"),
        items=pa.Table.from_pylist(
            [
                {
                    "item_id": f"i{number}",
                    "title": text,
                    "text": text,
                    "brand": "",
                    "category": "",
                    "language": "en",
                    "price": None,
                }
                for number, text in enumerate(items)
            ],
            ITEMS,
        ),
        queries=pa.Table.from_pylist(
            [
                {
                    "query_id": f"q{number}",
                    "text": letter,
                    "language": "en",
                    "split": split,
                    "segment": "",
                }
                for number, (letter, split) in enumerate(zip(LETTERS, splits, strict=True))
            ],
            QUERIES,
        ),
        examples=pa.Table.from_pylist(rows, EXAMPLES),
    )


@pytest.fixture
def training(tmp_path: Path) -> TrainingOptions:
    return TrainingOptions(
        out=tmp_path / "run",
        steps=8,
        batch_size=4,
        every_steps=4,
        learning_rate=0.003,
        track="none",
        patience=0,
    )


def test_pairs_are_beside_each_other_by_query() -> None:
    judged = Judged.of(tiny_dataset(), "train")
    assert judged.query.tolist() == sorted(judged.query.tolist())
    assert judged.begins.tolist() == list(range(0, 29, 4))
    assert judged.weight.mean() == pytest.approx(1.0)
    assert judged.name(5) == "query 'q1' with item 'i4'"
    assert judged.contrasting().tolist() == list(range(7))
    few = Judged.of(tiny_dataset(), "train", most_queries=2, seed=1)
    assert len(few.queries) == 2
    assert len(few) == 8
    assert few.queries == Judged.of(tiny_dataset(), "train", most_queries=2, seed=1).queries


def test_ndcg_is_that_of_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures")
    random = np.random.default_rng(3)
    judged = Judged.of(tiny_dataset(lambda *_: float(random.integers(0, 4)) / 3), "train")
    scores = random.normal(size=len(judged)).astype(np.float32)
    qrels, run = {}, {}
    for row in range(len(judged)):
        query, item = str(judged.query[row]), str(judged.item[row])
        qrels.setdefault(query, {})[item] = round(float(judged.label[row]) * 3)
        run.setdefault(query, {})[item] = float(scores[row])
    measure = ir_measures.nDCG @ 10
    wanted = ir_measures.calc_aggregate([measure], qrels, run)[measure]
    assert mean_ndcg(judged, scores) == pytest.approx(wanted)
    # What tells nothing apart gets the worst order.
    assert (
        mean_ndcg(judged, np.zeros(len(judged), np.float32))
        < mean_ndcg(judged, judged.label)
        == 1.0
    )


@pytest.mark.parametrize("loss", ["bce", "pairwise", "lambda"])
def test_each_loss_learns_from_labels(training: TrainingOptions, loss: Any) -> None:
    result = train_reranker(
        tiny_dataset(),
        tiny_checkpoint(parent="tiny@1", source="tiny@1", languages=("en",)),
        RerankerOptions(loss=loss, precision="fp32", list_size=3),
        replace(training, steps=30, every_steps=10),
    )
    first, last = (
        entry["loss"] for entry in (result.outcome.history[0], result.outcome.history[-1])
    )
    assert last < first
    bundle = result.bundle
    assert bundle
    assert bundle.path == training.out / "bundle"
    assert bundle.manifest.parent == "tiny@1"
    assert bundle.manifest.languages == ("en",)
    assert bundle.manifest.metrics["dev nDCG@10"] == result.outcome.best["nDCG@10"]


def test_a_student_learns_its_teachers_margins(training: TrainingOptions) -> None:
    teacher = tiny_checkpoint(name="teacher", source="teacher@1")
    student = tiny_checkpoint(name="student")
    student.weights["classifier.weight"] *= -1  # type: ignore[index]
    judged = Judged.of(tiny_dataset(), "train")
    wanted = teach(teacher, judged, training.out / "teacher")
    result = train_reranker(
        tiny_dataset(),
        student,
        RerankerOptions(loss="margin-mse", precision="fp32"),
        replace(training, steps=40, every_steps=20),
        teacher=teacher,
    )
    first, last = (entry["loss"] for entry in result.outcome.history)
    assert last < first * 0.8
    kept = sorted((training.out / "teacher").rglob("*.npy"))
    assert len(kept) == 1
    np.testing.assert_array_equal(np.load(kept[0]), wanted)


def excluding(dataset: Dataset) -> Dataset:
    """The same, each query with something that it does not want."""
    rows = [row | {"text": f"{row['text']} without zz"} for row in dataset.queries.to_pylist()]
    return replace(dataset, queries=pa.Table.from_pylist(rows, QUERIES))


def test_what_a_query_excludes_is_not_read_as_it_is_not_where_the_model_serves(
    training: TrainingOptions,
) -> None:
    """Neither by the student nor by its teacher, in training and in the dev part."""
    found = []
    for name, dataset in (("plain", tiny_dataset()), ("excluding", excluding(tiny_dataset()))):
        result = train_reranker(
            dataset,
            tiny_checkpoint(),
            RerankerOptions(loss="margin-mse", precision="fp32"),
            replace(training, out=training.out / name),
            teacher=tiny_checkpoint(types=1),
        )
        found.append((result.outcome.before, result.outcome.history))
    assert found[0] == found[1]


def test_what_the_teacher_said_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.text.teacher._SHARD", 10)
    judged = Judged.of(tiny_dataset(), "train")
    whole = teach(tiny_checkpoint(), judged, tmp_path / "whole")
    teach(tiny_checkpoint(), judged, tmp_path / "again")
    files = sorted((tmp_path / "again").rglob("*.npy"))
    assert len(files) == 3
    files[1].unlink()  # as if it had been killed there
    marked = np.load(files[0]) + 1
    np.save(files[0], marked)
    found = teach(tiny_checkpoint(), judged, tmp_path / "again")
    np.testing.assert_array_equal(found[10:], whole[10:])
    np.testing.assert_array_equal(found[:10], marked)  # taken from the disk


def test_one_class_only_is_refused(training: TrainingOptions) -> None:
    with pytest.raises(InvalidInput, match=r"All 28 pairs .* label 1: one class only"):
        train_reranker(tiny_dataset(lambda *_: 1.0), tiny_checkpoint(), RerankerOptions(), training)
    assert not training.out.exists()


def test_a_run_goes_on_only_for_the_same_measurement(training: TrainingOptions) -> None:
    train_reranker(tiny_dataset(), tiny_checkpoint(), RerankerOptions(), replace(training, steps=1))
    with pytest.raises(InvalidInput, match="holds a run with dev_queries 500; this one has 1"):
        train_reranker(tiny_dataset(), tiny_checkpoint(), RerankerOptions(dev_queries=1), training)


@pytest.mark.parametrize("taught", [False, True])
def test_a_run_goes_on_only_from_the_same_weights(
    training: TrainingOptions, *, taught: bool
) -> None:
    """A folder of the same name may hold another model by now; lora's small weights are of one."""
    options = RerankerOptions(loss="margin-mse" if taught else "bce")
    short = replace(training, steps=1, method="lora")
    base = tiny_checkpoint(source="runs/base")
    train_reranker(tiny_dataset(), base, options, short, teacher=base if taught else None)
    weights = {name: weight + 0.1 for name, weight in base.weights.items()}
    other = replace(base, weights=weights)
    source, teacher = (base, other) if taught else (other, None)
    which = "teacher" if taught else "source"
    with pytest.raises(InvalidInput, match=f"holds a run with {which}_weights '[0-9a-f]+'; this"):
        train_reranker(tiny_dataset(), source, options, short, teacher=teacher)


def test_no_examples_is_refused(training: TrainingOptions) -> None:
    empty = replace(tiny_dataset(), examples=EXAMPLES.empty_table())
    with pytest.raises(InvalidInput, match="train part of the dataset has no judged"):
        train_reranker(empty, tiny_checkpoint(), RerankerOptions(), training)


def test_a_dev_part_without_an_answer_is_refused(training: TrainingOptions) -> None:
    data = tiny_dataset(dev_label=lambda *_: 0.0)
    with pytest.raises(InvalidInput, match="dev part is relevant"):
        train_reranker(data, tiny_checkpoint(), RerankerOptions(), training)


def test_lists_that_tell_nothing_apart_are_refused(training: TrainingOptions) -> None:
    data = tiny_dataset(lambda letter, _: float(letter == "a"))
    with pytest.raises(InvalidInput, match="--loss lambda compares"):
        train_reranker(data, tiny_checkpoint(), RerankerOptions(loss="lambda"), training)


def test_options_that_do_not_go_together_are_refused(training: TrainingOptions) -> None:
    with pytest.raises(InvalidSettings, match="--teacher goes with"):
        train_reranker(
            tiny_dataset(), tiny_checkpoint(), RerankerOptions(loss="margin-mse"), training
        )
    encoder = replace(tiny_checkpoint(), head="mean")
    with pytest.raises(InvalidInput, match="is no cross-encoder"):
        train_reranker(
            tiny_dataset(),
            tiny_checkpoint(),
            RerankerOptions(loss="margin-mse"),
            training,
            teacher=encoder,
        )
    for wrong in ({"loss": "hinge"}, {"precision": "fp16"}, {"list_size": 1}):
        with pytest.raises(InvalidSettings, match="allowed is"):
            RerankerOptions(**wrong)  # type: ignore[arg-type]


def test_trials_are_made_and_the_best_one_counts(training: TrainingOptions) -> None:
    options = RerankerOptions(precision="fp32")
    result = train_reranker(tiny_dataset(), tiny_checkpoint(), options, training, trials=2)
    folders = sorted(path.name for path in (training.out / "trials").iterdir())
    assert len(folders) == 2
    best = max(
        json.loads((training.out / "trials" / name / "result.json").read_text())["best"]["nDCG@10"]
        for name in folders
    )
    assert result.outcome.best["nDCG@10"] == best
    assert result.search is not None
    assert set(result.search.chosen) == {"learning_rate", "weight_decay", "warmup"}
    # Again it makes none; one more adds one.
    again = train_reranker(tiny_dataset(), tiny_checkpoint(), options, training, trials=2)
    assert again.outcome.best == result.outcome.best
    train_reranker(tiny_dataset(), tiny_checkpoint(), options, training, trials=3)
    assert len(list((training.out / "trials").iterdir())) == 3


@pytest.mark.parametrize("second", get_args(Method))
@pytest.mark.parametrize("first", get_args(Method))
def test_what_a_method_made_is_trained_again_by_each(
    tmp_path: Path, first: Method, second: Method
) -> None:
    def train_by(method: Method, source: Checkpoint, out: Path) -> Checkpoint:
        options = TrainingOptions(
            out=out, steps=2, batch_size=4, method=method, track="none", every_steps=2
        )
        train_reranker(tiny_dataset(), source, RerankerOptions(precision="fp32"), options)
        return read_source(str(out), Registry(str(tmp_path / "registry")))

    once = train_by(first, tiny_checkpoint(), tmp_path / "first")
    twice = train_by(second, once, tmp_path / "second")
    added = {name for name in twice.weights if ".prefix." in name or ".adapter." in name}
    before = {name for name in once.weights if ".prefix." in name or ".adapter." in name}
    assert before <= added
    if first == second:
        # The same small weights were trained on, and none beside them.
        assert before == added
        moved = [name for name in added if (once.weights[name] != twice.weights[name]).any()]
        assert bool(moved) == (first in ("prefix", "adapters"))


def test_the_command_publishes_a_candidate_and_goes_on_where_it_was(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    parent = registry.publish(
        tiny_bundle(tmp_path / "parent", "cross_encoder", languages=["en"], licence="MIT")
    )
    tiny_dataset().write(tmp_path / "data")
    command = ["train", "reranker", str(tmp_path / "data"), "--from", parent.ref, "--json"]
    command += ["--loss", "lambda", "--out", str(tmp_path / "run"), "--registry", registry.url]
    command += ["--steps", "4", "--batch-size", "4", "--track", "none", "--method", "lora"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    bundle = registry.get(result["ref"])
    assert bundle.manifest.parent == parent.ref
    assert bundle.manifest.licence == "MIT"
    assert bundle.manifest.precision == "int8"
    assert result["export"]["onnx correlation"] > 0.95
    # A candidate: what served goes on to serve.
    assert registry.resolve("tiny-cross-encoder") == parent.ref
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(again.stdout)["ref"] == result["ref"]
    # The run's folder is a source too.
    table = CliRunner().invoke(
        app,
        [
            *("train", "reranker", str(tmp_path / "data"), "--from", str(tmp_path / "run")),
            *("--out", str(tmp_path / "next"), "--registry", registry.url, "--steps", "2"),
            *("--track", "none", "--no-publish", "--bundle-precision", "fp32"),
        ],
        catch_exceptions=False,
    )
    assert table.exit_code == 0, table.output
    assert "nDCG@10" in table.output
    made = Bundle.open(tmp_path / "next/bundle")
    assert made.manifest.parent == result["ref"]
    assert made.ref not in registry.refs()


def test_what_no_bundle_can_have_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """A name was looked at when the training was over, and a language never: what is named zh-CN
    ranks nothing, since queries are zh."""
    tiny_dataset().write(tmp_path / "data")
    source = tiny_bundle(tmp_path / "parent", "cross_encoder").path
    command = ["train", "reranker", str(tmp_path / "data"), "--from", str(source), "--steps", "1"]
    command += ["--out", str(tmp_path / "run"), "--track", "none", "--no-publish"]
    for given, words in (
        (["--name", "My Shop"], "--name is 'My Shop'; allowed are up to 64 of a to z"),
        (["--languages", "chinese"], "--languages has 'chinese'; allowed are tags such as zh"),
    ):
        refused = CliRunner().invoke(app, [*command, *given])
        assert isinstance(refused.exception, InvalidInput)
        assert words in str(refused.exception)
        assert not (tmp_path / "run").exists()
    done = CliRunner().invoke(app, [*command, "--name", "shop", "--languages", "zh-CN,EN"])
    assert done.exit_code == 0, done.output
    assert Bundle.open(tmp_path / "run/bundle").manifest.languages == ("zh", "en")


@pytest.mark.parametrize("scores", [False, True])
def test_what_an_encoders_folder_becomes_has_a_name_of_its_own(
    tmp_path: Path, training: TrainingOptions, scores: bool
) -> None:
    """It had that of the encoder, which it would have pushed out of service."""
    folder = bert_folder(tmp_path / "mine", "BertForSequenceClassification")
    if not scores:
        weights = load_file(folder / "model.safetensors")
        body = {name: w for name, w in weights.items() if not name.startswith("classifier")}
        save_file(body, folder / "model.safetensors")
    source = read_source(str(folder), Registry(str(tmp_path / "registry")))
    result = train_reranker(tiny_dataset(), source, RerankerOptions(), replace(training, steps=1))
    assert result.bundle is not None
    assert result.bundle.manifest.name == ("mine" if scores else "mine-reranker")


class Calm(TextModel):
    """Without dropout, whose randomness is each process' own."""

    def __init__(self, checkpoint: Any, head: Any, *, seed: int = 0) -> None:
        super().__init__(checkpoint, head, seed=seed, dropout=0.0)


def train_calmly(out: Path) -> None:
    """What `test_two_processes_learn_what_one_learns` does in one process and in two."""
    result = train_reranker(
        tiny_dataset(),
        tiny_checkpoint(),
        RerankerOptions(loss="lambda", precision="fp32", list_size=4),
        TrainingOptions(
            out=out,
            steps=6,
            batch_size=4,
            accumulate=2,
            every_steps=2,
            learning_rate=0.003,
            track="none",
        ),
    )
    assert (result.bundle is None) == (not processes().is_main_process)


_PROCESS = """
import sys
from pathlib import Path
from tests.unit.trainer.text import test_reranker
from trainer.text import reranker

reranker.TextModel = test_reranker.Calm
test_reranker.train_calmly(Path(sys.argv[1]))
"""


def test_two_processes_learn_what_one_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.text.reranker.TextModel", Calm)
    train_calmly(tmp_path / "one")
    script = tmp_path / "script.py"
    script.write_text(_PROCESS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[4]),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("step 6:") == 1  # one process speaks
    one, two = (
        json.loads((tmp_path / name / "result.json").read_text())["history"]
        for name in ("one", "two")
    )
    assert len(one) == 3
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert shared["nDCG@10"] == pytest.approx(alone["nDCG@10"], abs=1e-6)

"""A bundle is made of a trained model, compared, and refused where it is not the same."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neuralrank.bundles.bundle import Bundle  # noqa: E402
from neuralrank.bundles.registry import Registry  # noqa: E402
from neuralrank.encoders.cross_encoder import CrossEncoder  # noqa: E402
from neuralrank.encoders.encoder import Encoder  # noqa: E402
from neuralrank.errors import InvalidBundle, InvalidInput, NotFound  # noqa: E402
from neuralrank.models.bert import write_bert  # noqa: E402
from tests.unit.conftest import tiny_bundle, tiny_tokenizer  # noqa: E402
from tests.unit.models.test_hugging_face import bert_folder  # noqa: E402
from tests.unit.room import room_for  # noqa: E402
from tests.unit.trainer.text.conftest import PAIRS, tiny_checkpoint  # noqa: E402
from trainer.text import Reader, TextModel, export, read_source, score_pairs  # noqa: E402

FIELDS = {
    "name": "mine",
    "languages": ("en",),
    "max_tokens": 48,
    "parent": "theirs@0123",
    "metrics": {"dev nDCG@10": 0.5},
}
CLEAN = [(query, text) for query, text in PAIRS if query.isascii() or "手" in query]


def exported(folder: Path, precision: Any = "fp32", head: Any = "score", **fields: Any) -> Any:
    checkpoint = tiny_checkpoint(head)
    model = TextModel(checkpoint, head)
    wanted = {**FIELDS, **fields}
    return model, *export(model, checkpoint.tokenizer, folder, wanted, precision, CLEAN)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_bundle_serves_what_torch_computes(tmp_path: Path, precision: str) -> None:
    model, bundle, agreement = exported(tmp_path / "bundle", precision)
    assert bundle == Bundle.open(tmp_path / "bundle")
    assert bundle.manifest.precision == precision
    assert bundle.manifest.parent == "theirs@0123"
    assert len(bundle.manifest.golden) == 3
    assert bundle.manifest.metrics["dev nDCG@10"] == 0.5
    assert bundle.manifest.metrics["onnx difference"] == agreement.difference
    served = CrossEncoder.load(bundle)
    with torch.no_grad():
        wanted = score_pairs(model.eval(), Reader(bundle.tokenizer.read_bytes(), 48), CLEAN)
    found = np.array([served.score(query, [text])[0] for query, text in CLEAN])
    largest = np.abs(found - wanted).max()
    assert largest == pytest.approx(agreement.difference, abs=1e-5)
    assert largest < (1e-4 if precision == "fp32" else 0.2)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_queries_as_users_type_them_are_compared_as_they_are_served(tmp_path: Path) -> None:
    """Full width, invisible signs and what a query excludes never reach a model that serves; a run
    ended with "The exported graph gives other numbers than torch"."""
    checkpoint = tiny_checkpoint()
    model = TextModel(checkpoint, "score")
    typed = [
        ("ｌａｐｔｏｐ", "ａｐｐｌｅ 13"),
        ("key\xadboard\t", "kettle"),
        ("mouse without usb", "b"),
    ]
    _, agreement = export(
        model, checkpoint.tokenizer, tmp_path / "bundle", FIELDS, "fp32", [*CLEAN, *typed]
    )
    assert agreement.texts == len(CLEAN) + 3
    assert agreement.difference < 1e-4


def test_an_encoder_is_exported_too(tmp_path: Path) -> None:
    _, bundle, agreement = exported(tmp_path / "bundle", "int8", "mean", passage_prefix="p: ")
    assert Encoder.load(bundle).dimensions == 32
    assert agreement.correlation > 0.99


def test_a_graph_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.text import export as module
    from trainer.text.model import weights_of

    def wrong(model: TextModel) -> Any:
        weights = weights_of(model)
        weights["encoder.layer.1.output.dense.bias"] = np.linspace(-3, 3, 32, dtype=np.float32)
        return weights

    import sys

    monkeypatch.setattr(sys.modules["trainer.text.export"], "weights_of", wrong)
    assert module is export
    with pytest.raises(InvalidBundle, match="other numbers than torch"):
        exported(tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_an_int8_bundle_with_one_score_for_everything_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    def flat(weights: Any, config: Any, head: Any, precision: str) -> Any:
        if precision == "int8":
            weights = weights | {"classifier.weight": np.zeros((1, 32), np.float32)}
        return write_bert(weights, config, head, precision)

    monkeypatch.setattr(sys.modules["trainer.text.export"], "write_bert", flat)
    with pytest.raises(InvalidBundle, match=r"correlate with torch's by 0\.000 only"):
        exported(tmp_path / "bundle", "int8")
    assert not list(tmp_path.iterdir())


def test_where_torch_has_one_score_for_everything_so_has_the_bundle(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    model = TextModel(checkpoint, "score")
    torch.nn.init.zeros_(model.classifier.weight)
    made = export(model, checkpoint.tokenizer, tmp_path / "bundle", FIELDS, "int8", CLEAN)
    assert made[1].correlation == 1.0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_that_does_not_load_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    import sys

    import onnx
    from onnx import TensorProto, helper

    def broken(*given: Any) -> onnx.ModelProto:
        if given[-1] != precision:
            return write_bert(*given)
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
        node = helper.make_node("NoSuchOperator", ["input_ids"], ["logits"])
        return helper.make_model(helper.make_graph([node], "g", inputs, [output]))

    monkeypatch.setattr(sys.modules["trainer.text.export"], "write_bert", broken)
    with pytest.raises(InvalidBundle, match="can't be loaded"):
        exported(tmp_path / "bundle", precision)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_without_room_nothing_is_left_and_what_was_there_stays(
    tmp_path: Path, precision: str
) -> None:
    with room_for(10_000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        exported(tmp_path / "bundle", precision)
    assert not list(tmp_path.iterdir())
    _, earlier, _ = exported(tmp_path / "bundle", precision)
    with room_for(10_000), pytest.raises(OSError, match=str(tmp_path / "bundle")):
        exported(tmp_path / "bundle", precision, licence="MIT")
    assert Bundle.open(tmp_path / "bundle") == earlier
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    model = TextModel(checkpoint, "score")
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    with pytest.raises(InvalidBundle):
        export(model, checkpoint.tokenizer, tmp_path / "bundle", FIELDS, "fp32", CLEAN)
    assert not list(tmp_path.iterdir())


def test_a_source_is_whatever_holds_weights(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    folder = bert_folder(tmp_path / "hf", "BertForSequenceClassification")
    published = registry.publish(tiny_bundle(tmp_path / "made", "cross_encoder", precision="int8"))
    run = tmp_path / "run"
    run.mkdir()
    tiny_bundle(run / "bundle", "cross_encoder", licence="MIT")
    sources = {
        str(folder): ("hf", ""),
        str(tmp_path / "made"): ("tiny-cross-encoder", published.ref),
        "tiny-cross-encoder": ("tiny-cross-encoder", published.ref),
        published.ref: ("tiny-cross-encoder", published.ref),
    }
    with torch.no_grad():
        wanted = score_pairs(
            TextModel(tiny_checkpoint(), "score").eval(), Reader.of(tiny_checkpoint()), PAIRS
        )
        for source, (name, parent) in sources.items():
            checkpoint = read_source(source, registry)
            assert checkpoint.fields["name"] == name
            assert checkpoint.fields.get("parent", "") == parent
            assert checkpoint.head == "score"
            model = TextModel(checkpoint, "score").eval()
            found = score_pairs(model, Reader.of(checkpoint), PAIRS)
            np.testing.assert_allclose(found, wanted, atol=0.05)
        assert read_source(str(run), registry).fields["licence"] == "MIT"


def test_a_source_that_is_not_there_is_an_error_that_says_what_could_be(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    with pytest.raises(NotFound, match=r"no folder, and no bundle.*package:NAME"):
        read_source("nowhere", registry)
    with pytest.raises(NotFound, match="No recipe for the package 'pip'"):
        read_source("package:pip", registry)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/options.json").write_text("{}")
    with pytest.raises(InvalidInput, match="made no model yet"):
        read_source(str(tmp_path / "run"), registry)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"config\.json"):
        read_source(str(tmp_path / "empty"), registry)


def test_the_tokenizer_is_the_one_that_serves() -> None:
    text = "[SEP] ab"  # a text can't pass for the end of another
    reader = Reader(tiny_tokenizer().to_str().encode(), 32)
    (ids,) = reader.halves([text])
    assert 3 not in ids.tolist()

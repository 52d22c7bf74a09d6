"""The encoder for Chinese that the package carries, and how it is made."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neuralrank.bundles.bundle import TOKENIZER
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidInput
from neuralrank.models import add, checkpoint
from neuralrank.models.bert import BertConfig
from neuralrank.models.exported_onnx import read_exported_onnx
from tests.unit.conftest import tiny_tokenizer, tiny_weights
from trainer.recipes import chinese_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Loading it checks its golden vectors."""
    registry = Registry(str(tmp_path_factory.mktemp("models")))
    return Encoder.load(add(registry, "package:bge-small-zh"))


def test_it_says_what_it_is(encoder: Encoder) -> None:
    manifest = encoder.bundle.manifest
    assert (manifest.name, manifest.kind) == ("bge-small-zh", "encoder")
    assert manifest.languages == ("zh",)
    assert manifest.licence == "MIT"
    assert sum(file.stat().st_size for file in encoder.bundle.path.iterdir()) < 26e6


@pytest.mark.parametrize(
    ("query", "best", "others"),
    [
        ("电脑", "联想 ThinkPad 笔记本 14英寸", ["电动牙刷 充电式", "304不锈钢保温杯", "儿童书包"]),
        ("刮胡刀", "飞科 FS372 剃须刀", ["飞科 吹风机", "电动牙刷 充电式", "指甲刀套装"]),
        ("汽车充电", "车载充电器 双USB", ["充电台灯", "汽车坐垫 四季", "自行车 变速"]),
    ],
)
def test_it_knows_words_that_a_product_does_not_have(
    encoder: Encoder, query: str, best: str, others: list[str]
) -> None:
    cosines = encoder.encode_passages([best, *others]) @ encoder.encode_queries([query])[0]
    assert cosines.argmax() == 0, dict(zip([best, *others], cosines.tolist(), strict=True))


def test_a_vector_does_not_hang_on_who_shares_the_batch(encoder: Encoder) -> None:
    texts = ["台灯", "蓝牙耳机 " * 30, "x", "", "数据线 2米 " * 9]
    apart = np.concatenate([encoder.encode_passages([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_passages(texts), apart, atol=1e-5)


def test_it_can_be_trained_further(encoder: Encoder) -> None:
    source = checkpoint("package:bge-small-zh")
    assert source.head == "cls"
    assert source.config.layers == 4
    assert source.fields["query_prefix"] == encoder.bundle.manifest.query_prefix
    assert source.weights["embeddings.word_embeddings.weight"].shape == (21128, 512)


def exported(file: Path) -> dict[str, np.ndarray]:
    """A BERT as torch's exporter leaves it, as far as weights go: linear ones [in, out], without
    names of their own."""
    weights = tiny_weights()
    initializers, nodes = [], []
    for number, (name, array) in enumerate(weights.items()):
        path = name.removesuffix(".weight").replace(".", "/")
        if name.endswith(".weight") and array.ndim == 2 and name.startswith("encoder."):
            hidden = f"onnx::MatMul_{number}"
            initializers.append(numpy_helper.from_array(np.ascontiguousarray(array.T), hidden))
            nodes.append(helper.make_node("MatMul", ["x", hidden], [name], f"/{path}/MatMul"))
        elif name.startswith(("encoder.", "embeddings.")):
            initializers.append(numpy_helper.from_array(array, name))
    # Of two inputs that are both computed, as in attention: no weight.
    nodes.append(helper.make_node("MatMul", ["x", "x"], ["y"], "/encoder/layer.0/self/MatMul"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])
    graph = helper.make_graph(nodes, "bert", [x], [], initializers)
    onnx.save(helper.make_model(graph), str(file))
    return {n: a for n, a in weights.items() if n.startswith(("encoder.", "embeddings."))}


def test_weights_get_their_names_back(tmp_path: Path) -> None:
    wanted = exported(tmp_path / "model.onnx")
    found = read_exported_onnx(tmp_path / "model.onnx")
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_is_no_bert_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no")
    with pytest.raises(InvalidInput, match="is not an ONNX file"):
        read_exported_onnx(tmp_path / "text.onnx")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [])
    onnx.save(helper.make_model(graph), str(tmp_path / "other.onnx"))
    with pytest.raises(InvalidInput, match="no word embeddings"):
        read_exported_onnx(tmp_path / "other.onnx")


def test_the_recipe_makes_a_bundle_of_a_jar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(tmp_path / "model.onnx")
    tiny_tokenizer().save(str(tmp_path / TOKENIZER))
    with zipfile.ZipFile(tmp_path / "model.jar", "w") as jar:
        jar.write(tmp_path / "model.onnx", "bge-small-zh-v1.5.onnx")
        jar.write(tmp_path / TOKENIZER, "bge-small-zh-v1.5-tokenizer.json")
    weights = tiny_weights()
    layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.")})
    hidden = weights["embeddings.word_embeddings.weight"].shape[1]
    monkeypatch.setattr(chinese_encoder, "_SHAPE", BertConfig(layers=layers, heads=2))
    monkeypatch.setattr(
        chinese_encoder,
        "_FIELDS",
        {**chinese_encoder._FIELDS, "dimensions": hidden, "max_tokens": 32},
    )
    one = chinese_encoder.make(tmp_path / "model.jar", tmp_path / "one")
    other = chinese_encoder.make(tmp_path / "model.jar", tmp_path / "other")
    assert one.ref == other.ref
    assert Encoder.load(one).encode_passages(["a b"]).shape == (1, hidden)

"""Integer products in ONNX Runtime's own operation."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neuralrank.backends.fused import fused
from neuralrank.backends.onnxruntime import OnnxRuntime
from neuralrank.errors import InvalidBundle
from neuralrank.models.bert import write_bert
from tests.unit.backends.rounding import run
from tests.unit.backends.test_graph import feeds
from tests.unit.conftest import CONFIG, tiny_weights


def written(folder: Path, model: onnx.ModelProto) -> Path:
    file = folder / "model.onnx"
    onnx.save(model, str(file))
    return file


def product(**other: object) -> onnx.ModelProto:
    """y = (x · weight) · scale, as a bundle has it, but for what is said."""
    arrays = {
        "weight": np.arange(-6, 6, dtype=np.int8).reshape(3, 4),
        "scale": np.array([0.5, 1.0, 2.0, 4.0], np.float32),
        "zero": np.array(128, np.uint8),
        **{name: value for name, value in other.items() if isinstance(value, np.ndarray)},
    }
    outputs = ["y", *other.get("outputs", [])]
    graph = helper.make_graph(
        [
            helper.make_node("MatMulInteger", ["x", "weight", "zero"], ["i32"]),
            helper.make_node("Cast", ["i32"], ["f32"], to=other.get("to", TensorProto.FLOAT)),
            helper.make_node("Mul", ["f32", "scale"], ["y"]),
        ],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, 3])],
        [
            helper.make_tensor_value_info(name, other.get("to", TensorProto.FLOAT), [None, 4])
            for name in outputs
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("head", ["mean", "cls", "score", "tokens"])
def test_a_bundles_graph_gives_the_same_bits_in_fewer_operations(tmp_path: Path, head: str) -> None:
    weights = tiny_weights()
    if head == "tokens":
        weights |= {
            "projection.weight": np.eye(8, 32, dtype=np.float32),
            "projection.bias": np.zeros(8, np.float32),
        }
    plain = write_bert(weights, CONFIG, head, "int8")
    content = fused(written(tmp_path, plain))
    assert content is not None
    model = onnx.load_from_string(content)
    kinds = [node.op_type for node in model.graph.node]
    products = [node.op_type for node in plain.graph.node].count("MatMulInteger")
    assert kinds.count("MatMulIntegerToFloat") == products > 0
    assert "MatMulInteger" not in kinds
    assert len(kinds) == len(plain.graph.node) - 2 * products
    given = feeds(plain)
    np.testing.assert_array_equal(run(model, given), run(plain, given))


def test_a_session_runs_the_fused_graph(tmp_path: Path) -> None:
    plain = write_bert(tiny_weights(), CONFIG, "score", "int8")
    backend = OnnxRuntime(written(tmp_path, plain), threads=1)
    given = feeds(plain)
    np.testing.assert_allclose(backend.run(given), run(plain, given), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        {"outputs": ["i32"]},
        {"outputs": ["f32"]},
        {"scale": np.array(2.0, np.float32)},
        {"scale": np.array([[0.5], [1.0]], np.float32)},
        {"to": TensorProto.DOUBLE, "scale": np.array([0.5, 1.0, 2.0, 4.0], np.float64)},
    ],
    ids=[
        "the integers are read, too",
        "the float is read, too",
        "one scale",
        "a scale a row",
        "double",
    ],
)
def test_what_is_no_product_of_ours_stays(tmp_path: Path, other: dict) -> None:
    if other.get("outputs") == ["i32"]:
        model = product(**other)
        model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT32
    else:
        model = product(**other)
    onnx.checker.check_model(model, full_check=True)
    assert fused(written(tmp_path, model)) is None
    assert fused(written(tmp_path, product())) is not None


def test_float_graphs_and_weights_beside_the_graph_stay(tmp_path: Path) -> None:
    assert fused(written(tmp_path, write_bert(tiny_weights(), CONFIG, "score", "fp32"))) is None
    file = tmp_path / "apart.onnx"
    onnx.save(
        write_bert(tiny_weights(), CONFIG, "score", "int8"), str(file),
        save_as_external_data=True, location="model.data", size_threshold=256,
    )  # fmt: skip
    assert fused(file) is None
    given = feeds(write_bert(tiny_weights(), CONFIG, "score", "int8"))
    assert OnnxRuntime(file, threads=1).run(given).shape == (6, 1)


@pytest.mark.parametrize("content", [b"", b"not onnx", b"MatMulInteger is not onnx"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InvalidBundle, match="can't be loaded by ONNX Runtime"):
        OnnxRuntime(tmp_path / "model.onnx")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="can't be loaded by ONNX Runtime"):
        OnnxRuntime(tmp_path / "model.onnx")

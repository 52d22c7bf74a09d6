"""Float weights out of int8 bundles."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from neuralrank.backends.tensorrt.graph import read_float_graph
from neuralrank.errors import InvalidBundle
from neuralrank.models.bert import write_bert
from tests.unit.backends.rounding import run
from tests.unit.conftest import CONFIG, tiny_weights


def feeds(model: onnx.ModelProto, seed: int = 0, rows: int = 6, length: int = 20) -> dict:
    random = np.random.default_rng(seed)
    made = {}
    for given in model.graph.input:
        high = 2 if given.name != "input_ids" else 40
        made[given.name] = random.integers(0, high, (rows, length))
    made["attention_mask"] = (np.arange(length) < random.integers(4, length, (rows, 1))).astype(
        np.int64
    )
    return made


@pytest.mark.parametrize("head", ["mean", "cls", "score"])
def test_an_int8_bundle_becomes_the_float_graph_that_it_was_made_from(
    tmp_path: Path, head: str
) -> None:
    weights = tiny_weights()
    file = tmp_path / "model.onnx"
    onnx.save(write_bert(weights, CONFIG, head, "int8"), str(file))
    restored = read_float_graph(file)
    onnx.checker.check_model(restored, full_check=True)
    exact = write_bert(weights, CONFIG, head, "fp32")
    # Node for node the graph of float weights: nothing of the quantisation is left.
    assert [n.op_type for n in restored.graph.node] == [n.op_type for n in exact.graph.node]
    assert {item.data_type for item in restored.graph.initializer} == {
        TensorProto.FLOAT,
        TensorProto.INT64,
    }
    given = feeds(exact)
    spread = run(exact, given).std()
    # The weights were rounded to 7 bits; the activations are rounded no more.
    assert np.abs(run(restored, given) - run(exact, given)).max() < 0.2 * spread


def test_a_float_graph_is_left_as_it_is(tmp_path: Path) -> None:
    model = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert read_float_graph(tmp_path / "model.onnx") == model


def test_what_others_quantised_is_refused_with_what_to_do(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("MatMulInteger", ["q", "q", "z"], ["y"]),
        ],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 4])],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "model.onnx"))
    with pytest.raises(InvalidBundle, match=r"DynamicQuantizeLinear, MatMulInteger.*fp32"):
        read_float_graph(tmp_path / "model.onnx")


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not onnx")
    with pytest.raises(InvalidBundle, match="not an ONNX file"):
        read_float_graph(tmp_path / "model.onnx")

"""Half precision and FP8: the types are in the file, and the numbers stay."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neuralrank.backends.tensorrt.agreement import agreement
from neuralrank.backends.tensorrt.fp8 import to_fp8
from neuralrank.backends.tensorrt.precision import to_half
from neuralrank.errors import InvalidBundle
from neuralrank.models.bert import write_bert
from tests.unit.backends.rounding import element_types, run, run_rounded
from tests.unit.backends.test_graph import feeds
from tests.unit.conftest import CONFIG, tiny_weights

HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
# Largest difference in spreads of the float32 output: 11 and 8 bits of significand.
NEAR = {"fp16": 0.01, "bf16": 0.1}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("head", ["mean", "cls", "score"])
def test_products_are_half_and_what_needs_float32_keeps_it(head: str, precision: str) -> None:
    model = write_bert(tiny_weights(), CONFIG, head, "fp32")
    converted = to_half(model, precision)
    onnx.checker.check_model(converted, full_check=True)
    types = element_types(converted)
    by_kind: dict[str, set[int]] = {}
    for node in converted.graph.node:
        by_kind.setdefault(node.op_type, set()).add(types[node.input[0]])
    assert by_kind["Gelu"] == {HALF[precision]}
    for kind in ("LayerNormalization", "Softmax"):
        assert by_kind[kind] == {TensorProto.FLOAT}
    products = {n.name: types[n.input[0]] for n in converted.graph.node if n.op_type == "MatMul"}
    exact = {name for name, kind in products.items() if kind == TensorProto.FLOAT}
    # The head, and nothing but the head.
    assert exact == ({"pooler.dense.product", "logits.product"} if head == "score" else set())
    assert list(converted.graph.input) == list(model.graph.input)
    assert list(converted.graph.output) == list(model.graph.output)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("head", ["mean", "score"])
def test_half_precision_agrees_with_float32(head: str, precision: str) -> None:
    model = write_bert(tiny_weights(), CONFIG, head, "fp32")
    given = feeds(model, rows=24)
    exact, half = run(model, given), run_rounded(to_half(model, precision), given)
    found = agreement(exact, half)
    assert 0 < found.difference < NEAR[precision], str(found)
    assert found.kendall > 0.9


def test_ort_runs_the_fp16_file_itself_and_gives_what_rounding_gives() -> None:
    model = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    given = feeds(model)
    converted = to_half(model, "fp16")
    assert np.abs(run(converted, given) - run_rounded(converted, given)).max() < 2e-3


def test_softmax_can_follow_the_products() -> None:
    model = write_bert(tiny_weights(), CONFIG, "mean", "fp32")
    converted = to_half(model, "fp16", exact_softmax=False)
    onnx.checker.check_model(converted, full_check=True)
    types = element_types(converted)
    softmax = [n for n in converted.graph.node if n.op_type == "Softmax"]
    assert len(softmax) == CONFIG.layers
    assert {types[n.input[0]] for n in softmax} == {TensorProto.FLOAT16}
    given = feeds(model)
    assert agreement(run(model, given), run_rounded(converted, given)).difference < 0.02


def perceptron(weight: float = 0.5) -> onnx.ModelProto:
    """[batch, 8] float → [batch, 1]: a ranker over features, which has no axis of tokens."""
    random = np.random.default_rng(1)
    arrays = {
        "w1": random.normal(0, weight, (8, 16)).astype(np.float32),
        "b1": random.normal(0, 0.1, 16).astype(np.float32),
        "w2": random.normal(0, weight, (16, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("Add", ["h", "b1"], ["hb"]),
        helper.make_node("Relu", ["hb"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["score"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_model_over_float_features_keeps_its_last_product_exact() -> None:
    converted = to_half(perceptron(), "fp16")
    types = element_types(converted)
    products = {n.name: types[n.input[0]] for n in converted.graph.node if n.op_type == "MatMul"}
    assert products == {"first": TensorProto.FLOAT16, "last": TensorProto.FLOAT}
    x = np.random.default_rng(2).normal(0, 1, (20, 8)).astype(np.float32)
    given = {"x": x}
    assert agreement(run(perceptron(), given), run_rounded(converted, given)).within()


def test_weights_that_fp16_can_not_hold_stay_float32() -> None:
    model = perceptron(weight=1e5)
    types = element_types(to_half(model, "fp16"))
    assert TensorProto.FLOAT16 not in types.values()
    assert TensorProto.BFLOAT16 in element_types(to_half(model, "bf16")).values()


def test_an_output_that_comes_in_half_is_given_in_float32() -> None:
    model = perceptron()
    # The first product's output is given out too: with rank 2 everywhere it is half inside.
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, ["batch", 16]))
    converted = to_half(model, "fp16")
    onnx.checker.check_model(converted, full_check=True)
    assert element_types(converted)["r"] == TensorProto.FLOAT
    x = np.ones((2, 8), np.float32)
    assert run_rounded(converted, {"x": x}).shape == (2, 1)


def test_an_old_graph_is_refused() -> None:
    model = perceptron()
    model.opset_import[0].version = 11
    with pytest.raises(InvalidBundle, match="opset 11"):
        to_half(model, "fp16")
    model.opset_import[0].version = 17
    with pytest.raises(InvalidBundle, match="opset 17; FP8 needs 19"):
        to_fp8(model, [])


def test_fp8_has_both_sides_of_every_linear_layer_and_agrees() -> None:
    model = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    given = feeds(model, rows=24)
    converted = to_fp8(model, [given])
    onnx.checker.check_model(converted, full_check=True)
    makers = {output: node for node in converted.graph.node for output in node.output}
    layers = [
        n
        for n in converted.graph.node
        if n.op_type == "MatMul"
        and n.name.split(".")[1] in ("qkv", "query", "kv", "attended", "inner", "outer")
    ]
    # The last layer computes the query of the first token apart.
    assert len(layers) == 4 * CONFIG.layers + 1
    for layer in layers:
        assert [makers[name].op_type for name in layer.input] == ["DequantizeLinear"] * 2
    stored = [i for i in converted.graph.initializer if i.name.endswith("weight.fp16.fp8")]
    assert {i.data_type for i in stored} == {TensorProto.FLOAT8E4M3FN}
    assert len(stored) == len(layers)
    found = agreement(run(model, given), run(converted, given))
    # Three bits of significand: near, and measurably further away than fp16.
    assert 0.01 < found.difference < 0.6, str(found)
    assert found.kendall > 0.7


def test_fp8_without_a_linear_layer_is_refused() -> None:
    model = perceptron(weight=1e5)
    with pytest.raises(InvalidBundle, match="no linear layer"):
        to_fp8(model, [{"x": np.ones((2, 8), np.float32)}])

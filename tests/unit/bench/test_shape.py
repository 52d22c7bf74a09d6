"""What a BERT computes, counted in the graph itself."""

import math

import onnx
import pytest

from bench.shape import MINILM_L12, Shape
from neuralrank.models.bert import write_bert
from tests.unit.conftest import CONFIG, HIDDEN, INNER, LAYERS, tiny_weights


def products(model: onnx.ModelProto, length: int) -> float:
    """Multiplications and additions of the layers' matrix products, of a pair of so many tokens."""
    for given in model.graph.input:
        batch, tokens = given.type.tensor_type.shape.dim
        batch.dim_value, tokens.dim_value = 1, length
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    shapes |= {item.name: list(item.dims) for item in inferred.initializer}
    return sum(
        2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        for node in inferred.node
        if node.op_type == "MatMul" and node.name.startswith("layer")
    )


@pytest.mark.parametrize("length", [7, 60])
def test_what_is_counted_is_what_the_graph_does(length: int) -> None:
    shape = Shape(LAYERS, HIDDEN, INNER)
    ours = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    assert shape.flop(length) == products(ours, length)
    # A graph whose last layer computes every token, as others' do.
    whole = write_bert(tiny_weights(), CONFIG, "mean", "fp32")
    assert shape.flop(length, ours=False) == products(whole, length)


def test_a_graph_of_others_takes_seven_percent_more_for_twelve_layers() -> None:
    for length in (30, 60, 128):
        more = MINILM_L12.flop(length, ours=False) / MINILM_L12.flop(length)
        assert more == pytest.approx(1.07, abs=0.005)

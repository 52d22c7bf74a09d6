"""The weights of a graph that we wrote, read back."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from neuralrank.errors import InvalidInput
from neuralrank.models.bert import write_bert
from neuralrank.models.bert_reader import read_bert
from tests.unit.conftest import CONFIG, HEADS, HIDDEN, LAYERS, tiny_weights


def with_additions() -> dict[str, np.ndarray]:
    weights = tiny_weights()
    random = np.random.default_rng(4)
    for layer in range(LAYERS):
        key = f"encoder.layer.{layer}"
        for part in ("key", "value"):
            prefix = random.normal(size=(HEADS, 3, HIDDEN // HEADS))
            weights[f"{key}.attention.self.prefix.{part}"] = prefix.astype(np.float32)
        for place in ("attention.output.dense", "output.dense"):
            for name, shape in {"down": (5, HIDDEN), "up": (HIDDEN, 5)}.items():
                adapter = f"{key}.{place}.adapter.{name}"
                weights[f"{adapter}.weight"] = random.normal(size=shape).astype(np.float32)
                weights[f"{adapter}.bias"] = random.normal(size=shape[0]).astype(np.float32)
    return weights


@pytest.mark.parametrize("head", ["score", "mean", "cls"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("additions", [False, True])
def test_what_was_written_is_read_and_written_again(
    tmp_path: Path, head: str, precision: str, additions: bool
) -> None:
    weights = with_additions() if additions else tiny_weights()
    if head == "score":
        table = np.random.default_rng(5).normal(size=(2, HIDDEN)).astype(np.float32)
        weights["embeddings.match_embeddings.weight"] = table
    file = tmp_path / "model.onnx"
    onnx.save(write_bert(weights, CONFIG, head, precision), str(file))
    found, config, found_head = read_bert(file)
    assert (config.layers, config.heads, config.first_position) == (LAYERS, HEADS, 0)
    assert config.epsilon == pytest.approx(CONFIG.epsilon)
    assert found_head == head
    if head == "score":
        assert set(found) == set(weights)
        tolerance = 1e-6 if precision == "fp32" else 0.02
        for name, array in weights.items():
            assert np.abs(found[name] - array).max() <= tolerance * np.abs(array).max(), name
    # Read and written again it is the same graph, but for what rounding a scale costs.
    again = write_bert(found, config, found_head, "fp32")
    assert [n.op_type for n in again.graph.node] == [
        n.op_type for n in write_bert(weights, CONFIG, head, "fp32").graph.node
    ]


def test_without_types_they_are_in_the_positions(tmp_path: Path) -> None:
    weights = tiny_weights(types=1)
    file = tmp_path / "model.onnx"
    onnx.save(write_bert(weights, CONFIG, "score", "fp32"), str(file))
    found, _, _ = read_bert(file)
    np.testing.assert_array_equal(
        found["embeddings.position_embeddings.weight"],
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0],
    )
    assert not found["embeddings.token_type_embeddings.weight"].any()


def test_another_graph_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), str(file))
    with pytest.raises(InvalidInput, match="Train from the Hugging Face folder"):
        read_bert(file)
    file.write_bytes(b"no graph")
    with pytest.raises(InvalidInput, match="can't be trained further"):
        read_bert(file)

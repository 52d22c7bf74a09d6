from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from neuralrank.models.bert import write_bert
from tests.unit.conftest import CONFIG, tiny_weights
from trainer.compress.quantize import dynamic_int8, static_int8


def feeds(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    ids = random.integers(4, 20, (8, 12))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": (np.arange(12) >= 5).astype(np.int64) * np.ones_like(ids),
    }


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_int8_orders_as_fp32_does(tmp_path: Path, kind: str) -> None:
    whole, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(write_bert(tiny_weights(), CONFIG, "score", "fp32"), whole)
    if kind == "dynamic":
        dynamic_int8(whole, small)
    else:
        static_int8(whole, small, [feeds(seed) for seed in range(4)])
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert kinds & {"MatMulInteger", "DequantizeLinear"}
    scores = [
        onnxruntime.InferenceSession(path).run(None, feeds(9))[0][:, 0] for path in (whole, small)
    ]
    assert np.corrcoef(*scores)[0, 1] > 0.98

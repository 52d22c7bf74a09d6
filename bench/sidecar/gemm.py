"""What the machine can do at most: large matrix products, measured in the same run."""

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from bench.shape import MINILM_L12
from bench.sidecar.pairs import PairSet
from neuralrank.bundles.bundle import Bundle

__all__ = ["operations", "peak"]

_SIZE: Final = 2_048
_ROUNDS: Final = 5


def peak(threads: int) -> dict[str, float]:
    """10⁹ operations a second (a multiply and an add are two) by precision: the best of ONNX
    Runtime and, for fp32, numpy."""
    random = np.random.default_rng(0)
    a = random.normal(size=(_SIZE, _SIZE)).astype(np.float32)
    b = random.normal(size=(_SIZE, _SIZE)).astype(np.float32)
    small = {
        "a": random.integers(0, 255, a.shape).astype(np.uint8),
        # Seven bits, as our bundles have them: see docs/decisions/002.
        "b": random.integers(-63, 64, b.shape).astype(np.int8),
    }
    fp32 = _product("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT, threads)
    int8 = _product(
        "MatMulInteger", TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, threads
    )
    return {
        "fp32": max(
            _rate(lambda: fp32.run(None, {"a": a, "b": b})), _rate(lambda: np.matmul(a, b))
        ),
        "int8": _rate(lambda: int8.run(None, small)),
    }


def operations(bundle: Bundle, pairs: PairSet, *, ours: bool) -> float:
    """Multiplications and additions that reading the pairs takes in the matrix products of the
    layers, on their own tokens: what padding adds is waste and does not count.

    Args:
        bundle: whose tokenizer splits the pairs.
        ours: as of `Shape.flop`.
    """
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(bundle.manifest.max_tokens)
    return sum(
        MINILM_L12.flop(len(encoding), ours=ours)
        for query, texts in zip(pairs.queries, pairs.texts, strict=True)
        for encoding in tokenizer.encode_batch([(query, text) for text in texts])
    )


def _product(kind: str, left: int, right: int, out: int, threads: int) -> Any:
    graph = helper.make_graph(
        [helper.make_node(kind, ["a", "b"], ["c"])],
        "product",
        [
            helper.make_tensor_value_info("a", left, [_SIZE, _SIZE]),
            helper.make_tensor_value_info("b", right, [_SIZE, _SIZE]),
        ],
        [helper.make_tensor_value_info("c", out, [_SIZE, _SIZE])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _rate(run: Callable[[], Any]) -> float:
    """Of the fastest round: a peak is what the machine can do when nothing is in the way."""
    times = []
    for _ in range(_ROUNDS + 1):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 2 * _SIZE**3 / min(times) / 1e9

"""Reads the weights back out of a BERT that ONNX Runtime quantised dynamically.

Why: dynamic quantisation takes one activation scale from the whole batch, so that a pair's score
depends on the pairs beside it. The weights themselves are fine; with them the graph is written anew
(`neuralrank.models.bert`). Node names of such exports carry the names of the weights:
`/bert/encoder/layer.0/attention/self/query/MatMul_quant`.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from neuralrank.errors import InvalidInput
from neuralrank.onnx_file import read_onnx

__all__ = ["read_quantized_onnx"]

_LINEAR = re.compile(r"^/(?P<path>.+)/(MatMul|Gemm_MatMul)_quant$")


def read_quantized_onnx(path: Path) -> dict[str, NDArray[np.float32]]:
    """float32 weights by Hugging Face name, without the prefix `bert.`; linear ones [out, in].

    Raises:
        InvalidInput: the file is not such a model.
    """
    graph = read_onnx(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}

    def dequantized(stem: str) -> NDArray[np.float32]:
        steps = arrays[f"{stem}_quantized"].astype(np.float32)
        zero = arrays[f"{stem}_zero_point"].astype(np.float32)
        result: NDArray[np.float32] = (steps - zero) * arrays[f"{stem}_scale"]
        return result

    weights = {name: array.astype(np.float32) for name, array in arrays.items() if "." in name}
    try:
        for name in arrays:
            if name.endswith("embeddings.weight_quantized"):
                stem = name.removesuffix("_quantized")
                weights[stem] = dequantized(stem)
        for node in graph.node:
            match = _LINEAR.match(node.name)
            if node.op_type == "MatMulInteger" and match:
                key = match["path"].replace("/", ".") + ".weight"
                weights[key] = dequantized(node.input[1].removesuffix("_quantized")).T
    except KeyError as error:
        raise InvalidInput(f"{path} is not a dynamically quantised BERT: no {error}.") from error
    return {
        name.removeprefix("bert."): array
        for name, array in weights.items()
        if not name.endswith(("_quantized", "_scale", "_zero_point"))
    }

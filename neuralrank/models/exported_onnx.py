"""Reads the weights back out of a BERT that torch exported to ONNX as float32.

Exported linear layers have lost their names (`onnx::MatMul_541`); their nodes carry them:
`/encoder/layer.0/attention/self/query/MatMul`.
"""

import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from neuralrank.errors import InvalidInput
from neuralrank.onnx_file import read_onnx

__all__ = ["read_exported_onnx"]

_LINEAR: Final = re.compile(r"^/(?P<path>(?:encoder|pooler)/.+)/MatMul$")


def read_exported_onnx(path: Path) -> dict[str, NDArray[np.float32]]:
    """float32 weights by Hugging Face name; linear ones [out, in].

    Raises:
        InvalidInput: the file is not such a model.
    """
    graph = read_onnx(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    weights = {
        name: np.asarray(array, np.float32)
        for name, array in arrays.items()
        if name.endswith((".weight", ".bias"))
    }
    for node in graph.node:
        named = _LINEAR.match(node.name)
        constant = [arrays[given] for given in node.input if given in arrays]
        if node.op_type == "MatMul" and named and constant:
            key = named["path"].replace("/", ".") + ".weight"
            weights[key] = np.ascontiguousarray(constant[0].T, np.float32)
    if "embeddings.word_embeddings.weight" not in weights:
        raise InvalidInput(f"{path} is not a BERT that torch exported: no word embeddings.")
    return weights

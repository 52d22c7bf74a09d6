"""Reads the weights back out of a graph that `neuralrank.models.bert` wrote, so that what serves
can be trained further. An int8 graph gives the weights that its steps stand for.

What the graph folded stays folded: position tables begin at the first position, and where all
tokens are of one type, the type's vector is in the positions.
"""

import re
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from neuralrank.backends.tensorrt.graph import read_float_graph
from neuralrank.errors import InvalidBundle, InvalidInput
from neuralrank.models.bert import BertConfig, Head
from neuralrank.models.bert_matches import MATCHES

__all__ = ["read_bert"]

_NORMS = {"norm": "attention.output.LayerNorm", "output": "output.LayerNorm"}
_LINEARS = {
    "attended": "attention.output.dense",
    "inner": "intermediate.dense",
    "outer": "output.dense",
}
# Projections that are one product: of a whole layer, or of one that computes the first token only.
_JOINED = {
    "qkv": ("query", "key", "value"),
    "query": ("query",),
    "kv": ("key", "value"),
}
_HEADS = re.compile(r"heads(\.\d+){0,2}")
_EXTRA = re.compile(r"encoder\.layer\.\d+\..*(adapter\.(down|up)\.(weight|bias)|prefix\.\w+)")


def read_bert(path: Path) -> tuple[dict[str, NDArray[np.float32]], BertConfig, Head]:
    """Weights by Hugging Face name, the sizes and the head: what `write_bert` was given.

    Raises:
        InvalidInput: the file is not such a graph; the message says what to train from instead.
    """
    try:
        return _read(read_float_graph(path).graph)
    except (InvalidBundle, KeyError, IndexError, ValueError) as error:
        raise InvalidInput(
            f"{path} is no BERT as neuralrank writes them ({error}), so its weights can't be "
            "trained further. Train from the Hugging Face folder that it was made of."
        ) from error


def _read(graph: onnx.GraphProto) -> tuple[dict[str, NDArray[np.float32]], BertConfig, Head]:
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    nodes = {node.output[0]: node for node in graph.node}

    def linear(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """weight [out, in] and bias [out]."""
        (weight,) = (arrays[given] for given in nodes[f"{name}.product"].input if given in arrays)
        return weight.T, arrays[f"{name}.bias"]

    positions = arrays["position_table"]
    hidden = positions.shape[1]
    (words,) = (arrays[given] for given in nodes["words"].input if given in arrays)
    found = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": positions,
        "embeddings.token_type_embeddings.weight": arrays.get(
            "type_table", np.zeros((1, hidden), np.float32)
        ),
        "embeddings.LayerNorm.weight": arrays["embeddings.weight"],
        "embeddings.LayerNorm.bias": arrays["embeddings.bias"],
    }
    if "match_table" in arrays:
        found[MATCHES] = arrays["match_table"]
    # A pruned layer has a shape of its own; the size of a head is the same in all.
    shapes = (array for name, array in arrays.items() if _HEADS.fullmatch(name))
    size = int(next(shapes)[-1])
    grow = np.float32(np.float32(1.0) / np.float32(size**-0.5))
    layers = sum(f"layer{layer}.output" in nodes for layer in range(len(graph.node)))
    for layer in range(layers):
        key = f"encoder.layer.{layer}"
        for joined, parts in _JOINED.items():
            if f"layer{layer}.{joined}" not in nodes:
                continue
            weight, bias = linear(f"layer{layer}.{joined}")
            width = len(weight) // len(parts)
            for place, part in enumerate(parts):
                rows = slice(place * width, (place + 1) * width)
                factor = grow if part == "query" else np.float32(1.0)
                found[f"{key}.attention.self.{part}.weight"] = weight[rows] * factor
                found[f"{key}.attention.self.{part}.bias"] = bias[rows] * factor
        for short, name in _LINEARS.items():
            weight, bias = linear(f"layer{layer}.{short}")
            found[f"{key}.{name}.weight"], found[f"{key}.{name}.bias"] = weight, bias
        for short, name in _NORMS.items():
            found[f"{key}.{name}.weight"] = arrays[f"layer{layer}.{short}.weight"]
            found[f"{key}.{name}.bias"] = arrays[f"layer{layer}.{short}.bias"]
    for name, array in arrays.items():
        if _EXTRA.fullmatch(name):
            found[name] = array.T if ".adapter." in name else array
    head: Head = "mean" if "length_axis" in arrays else "cls"
    if "logits" in nodes:
        head = "score"
        for name, short in {"pooler.dense": "pooler.dense", "classifier": "logits"}.items():
            found[f"{name}.weight"], found[f"{name}.bias"] = linear(short)
    (epsilon,) = (a.f for a in nodes["embeddings"].attribute if a.name == "epsilon")
    weights = {name: np.array(array, np.float32, order="C") for name, array in found.items()}
    return weights, BertConfig(layers=layers, heads=hidden // size, epsilon=epsilon), head

"""A bundle's int8 graph in the operations that ONNX Runtime alone has.

Bundles are plain ONNX, so that every backend can run them, and an index goes on knowing its encoder
by the hash of that graph. What a runtime does better in a way of its own is put in when it is
loaded: here, that integer products become float in the product itself, scaled by the channels of
their weights (`MatMulIntegerToFloat`), and not in two passes more over all that was computed. The
numbers are the same to the last bit.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["fused"]

_INTEGER: Final = b"MatMulInteger"
_DOMAIN: Final = "com.microsoft"
_ONE: Final = "fused.one"


def fused(model: Path) -> bytes | None:
    """The graph of a file with its integer products fused; None where it has none to fuse, or its
    weights lie outside of it."""
    content = model.read_bytes()
    if _INTEGER not in content:
        return None
    try:
        loaded = onnx.load_from_string(content)
    except Exception:  # ONNX Runtime says what is wrong with it
        return None
    if not _fuse(loaded.graph):
        return None
    if all(known.domain != _DOMAIN for known in loaded.opset_import):
        loaded.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    fused_content: bytes = loaded.SerializeToString()
    return fused_content


def _fuse(graph: onnx.GraphProto) -> bool:
    """Makes Mul(Cast(MatMulInteger(x, weight, zero)), scale) one node; whether there was any."""
    constants = {item.name: item for item in graph.initializer}
    if any(item.data_location == TensorProto.EXTERNAL for item in constants.values()):
        return False
    producers = {output: node for node in graph.node for output in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    fused_nodes: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for node in graph.node:
        cast = producers.get(node.input[0]) if node.op_type == "Mul" else None
        product = producers.get(cast.input[0]) if cast is not None else None
        if cast is None or product is None or not _is_linear(product, cast, node, constants):
            continue
        # What somebody else reads, too, has to stay.
        if any(readers[inner.output[0]] > 1 for inner in (cast, product)):
            continue
        x, weight, *zeros = product.input
        fused_nodes[node.output[0]] = helper.make_node(
            "MatMulIntegerToFloat",
            [x, weight, _ONE, node.input[1], *zeros],
            node.output,
            node.name,
            domain=_DOMAIN,
        )
        gone |= {cast.output[0], product.output[0]}
    if not fused_nodes:
        return False
    left = [node for node in graph.node if node.output[0] not in gone]
    nodes = [fused_nodes.get(node.output[0], node) for node in left]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array(1.0, np.float32), _ONE))
    return True


def _is_linear(
    product: onnx.NodeProto,
    cast: onnx.NodeProto,
    scaled: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
) -> bool:
    """Whether integers times a constant weight [in, out] become float and are scaled by constants
    [out]."""
    if [product.op_type, cast.op_type] != ["MatMulInteger", "Cast"]:
        return False
    weight, scale = constants.get(product.input[1]), constants.get(scaled.input[1])
    return (
        weight is not None
        and scale is not None
        and scale.data_type == TensorProto.FLOAT
        and len(weight.dims) == 2
        and list(scale.dims) == list(weight.dims[1:])
        and helper.get_node_attr_value(cast, "to") == TensorProto.FLOAT
    )

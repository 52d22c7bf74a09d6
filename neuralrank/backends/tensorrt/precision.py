"""Converts an ONNX model to half precision: the types are in the file (strong typing).

TensorRT 11 has no flags for precision any more; what a strongly typed network computes in is what
its tensors say. So the file is converted, by three rules:

- Matrix products and convolutions, which are nearly all of the time, take and give `fp16` or `bf16`
  (GPUs add them up in float32).
- What only moves or joins numbers, and activations, follow what they are given.
- Everything else stays float32: normalisation, softmax, reductions, roots and exponentials, sums
  with a float32 part (the residual stream), and the head, whose rounding would be that of the score
  itself and whose time is nothing.

The inputs and outputs keep their types. ONNX Runtime's converter knows fp16 only, keeps nothing but
named operations in float32, and clips what does not fit; NVIDIA's needs torch.

Micikevicius et al., "Mixed Precision Training" (2018); Kalamkar et al., "A Study of BFLOAT16 for
Deep Learning Training" (2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from neuralrank.errors import InvalidBundle

__all__ = ["CONVERTER", "HalfPrecision", "is_product", "to_half"]

HalfPrecision = Literal["fp16", "bf16"]

# Part of the key of cached engines: one more with every change of what is written here or in fp8.
CONVERTER: Final = 1

_PRODUCTS: Final = {"MatMul", "Gemm", "Conv"}
_FOLLOW: Final = {
    "Add", "Concat", "Div", "Dropout", "Erf", "Expand", "Flatten", "Gather", "Gelu", "Identity",
    "LeakyRelu", "Mul", "Neg", "Relu", "Reshape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub",
    "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_ELEMENT: Final = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_LARGEST: Final = {"fp16": 65_504.0, "bf16": 3.3e38}
# An opset with bfloat16 in all of the operations above.
_OPSET: Final = 13


def to_half(
    model: onnx.ModelProto, precision: HalfPrecision, *, exact_softmax: bool = True
) -> onnx.ModelProto:
    """A copy of a float32 model that computes in `precision` where that is safe.

    Args:
        exact_softmax: False lets softmax, and the mask added before it, follow the products.

    Raises:
        InvalidBundle: the model is older than opset 13, or its tensors' types can't be inferred.
    """
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _OPSET:
        raise InvalidBundle(
            f"The graph has opset {opset}; half precision needs {_OPSET} or newer. Export it anew."
        )
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # the library's own error is no public class
        raise InvalidBundle(f"The graph's types can't be inferred: {error}") from error
    converted = onnx.ModelProto()
    converted.CopyFrom(inferred)
    _Conversion(converted.graph, precision, exact_softmax).convert()
    return converted


def is_product(node: onnx.NodeProto) -> bool:
    """Whether a node is one of those that take nearly all of the time."""
    return node.op_type in _PRODUCTS


@dataclass
class _Float:
    """A float tensor: how it comes about, and its names in both types, "" where there is none."""

    origin: Literal["float32", "half", "constant"]
    high: str = ""
    low: str = ""


class _Conversion:
    def __init__(
        self, graph: onnx.GraphProto, precision: HalfPrecision, exact_softmax: bool
    ) -> None:
        self._graph = graph
        softmax = [] if exact_softmax else [n for n in graph.node if n.op_type == "Softmax"]
        # What comes in half precision even where a part of it is float32.
        self._attention = {n.output[0] for n in softmax} | {n.input[0] for n in softmax}
        self._precision = precision
        self._element = _ELEMENT[precision]
        self._dtype = helper.tensor_dtype_to_np_dtype(self._element)
        self._nodes: list[onnx.NodeProto] = []
        self._arrays = {item.name: item for item in graph.initializer}
        self._types = {
            info.name: info.type.tensor_type
            for info in (*graph.value_info, *graph.input, *graph.output)
        }
        self._outputs = {output.name for output in graph.output}
        self._exact = _exact_products(graph, self._types)
        self._floats: dict[str, _Float] = {}

    def convert(self) -> None:
        nodes = []
        for node in self._graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensor = node.attribute[0].t
                tensor.name = node.output[0]
                self._arrays[tensor.name] = tensor
            else:
                nodes.append(node)
        for given in self._graph.input:
            if given.type.tensor_type.elem_type == TensorProto.FLOAT:
                self._floats[given.name] = _Float("float32", high=given.name)
        for name, array in self._arrays.items():
            if array.data_type == TensorProto.FLOAT:
                self._floats[name] = _Float("constant", high=name)
        for node in nodes:
            self._convert(node)
        used = {name for node in self._nodes for name in node.input} | self._outputs
        kept = [array for name, array in self._arrays.items() if name in used]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(kept)

    def _convert(self, node: onnx.NodeProto) -> None:
        floats = [self._floats[name] for name in node.input if name in self._floats]
        low = bool(floats) and self._is_low(node, floats)
        for position, name in enumerate(node.input):
            if name in self._floats:
                node.input[position] = self._as_low(name) if low else self._as_high(name)
        self._nodes.append(node)
        for position, name in enumerate(node.output):
            found = self._types.get(name)
            if found is None or found.elem_type != TensorProto.FLOAT:
                continue
            if not low:
                self._floats[name] = _Float("float32", high=name)
            elif name in self._outputs:
                node.output[position] = f"{name}.half"
                self._cast(f"{name}.half", name, TensorProto.FLOAT)
                self._floats[name] = _Float("half", high=name, low=f"{name}.half")
            else:
                self._floats[name] = _Float("half", low=name)

    def _is_low(self, node: onnx.NodeProto, floats: list[_Float]) -> bool:
        if any(self._too_large(tensor) for tensor in floats if tensor.origin == "constant"):
            return False
        if is_product(node):
            return node.output[0] not in self._exact
        if node.output[0] in self._attention:
            return True
        moving = [tensor.origin for tensor in floats if tensor.origin != "constant"]
        return node.op_type in _FOLLOW and "half" in moving and "float32" not in moving

    def _too_large(self, constant: _Float) -> bool:
        array = numpy_helper.to_array(self._arrays[constant.high])
        largest = float(np.abs(array).max()) if array.size else 0.0
        return not largest <= _LARGEST[self._precision]

    def _as_low(self, name: str) -> str:
        tensor = self._floats[name]
        if not tensor.low:
            tensor.low = f"{name}.{self._precision}"
            if tensor.origin == "constant":
                array = numpy_helper.to_array(self._arrays[name]).astype(self._dtype)
                self._arrays[tensor.low] = numpy_helper.from_array(array, tensor.low)
            else:
                self._cast(tensor.high, tensor.low, self._element)
        return tensor.low

    def _as_high(self, name: str) -> str:
        tensor = self._floats[name]
        if not tensor.high:
            tensor.high = f"{name}.fp32"
            self._cast(tensor.low, tensor.high, TensorProto.FLOAT)
        return tensor.high

    def _cast(self, source: str, target: str, element: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], target, to=element))


def _exact_products(
    graph: onnx.GraphProto, types: Mapping[str, onnx.TypeProto.Tensor]
) -> frozenset[str]:
    """Outputs of the products that stay float32: those of the head.

    Where a model works on tokens, that is what has no axis for them any more (one row a text).
    Elsewhere it is the products that no other product comes after.
    """
    products = [node for node in graph.node if is_product(node)]
    flat = {
        node.output[0]
        for node in products
        if node.output[0] in types and len(types[node.output[0]].shape.dim) <= 2
    }
    if len(flat) < len(products):
        return frozenset(flat)
    inner: set[str] = set()  # tensors that a product is made from
    for node in reversed(graph.node):
        if is_product(node) or inner & set(node.output):
            inner |= set(node.input)
    return frozenset(node.output[0] for node in products if node.output[0] not in inner)

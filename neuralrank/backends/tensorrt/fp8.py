"""FP8: linear layers between Quantize and Dequantize nodes, the only way that TensorRT 11 has.

Both sides of a product are E4M3 with one scale a tensor: the largest absolute value over real texts
divided by 448. Attention, and what `precision` keeps exact, stays as it is. GPUs have it from
compute capability 8.9 on.

Micikevicius et al., "FP8 Formats for Deep Learning" (2022).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from neuralrank.backends.tensorrt.precision import is_product, to_half
from neuralrank.errors import InvalidBundle

__all__ = ["to_fp8"]

_E4M3_MAX: Final = 448.0
_OPSET: Final = 19  # the first with FP8 in QuantizeLinear

Feeds = Mapping[str, NDArray[Any]]


def to_fp8(model: onnx.ModelProto, samples: Sequence[Feeds]) -> onnx.ModelProto:
    """A copy of a float32 model whose linear layers are FP8, the rest as `to_half(…, "fp16")`.

    Args:
        samples: inputs of real texts; the ranges of activations are taken from them.

    Raises:
        InvalidBundle: the model's opset is below 19, or it has no linear layer for FP8.
    """
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _OPSET:
        raise InvalidBundle(f"The graph has opset {opset}; FP8 needs {_OPSET}. Use fp16 or bf16.")
    half = to_half(model, "fp16")
    graph = half.graph
    arrays = {item.name: item for item in graph.initializer}
    layers = [
        node
        for node in graph.node
        if is_product(node)
        and node.op_type == "MatMul"
        and node.input[1] in arrays
        and arrays[node.input[1]].data_type == TensorProto.FLOAT16
    ]
    if not layers:
        raise InvalidBundle("The graph has no linear layer that FP8 could serve. Use fp16 or bf16.")
    # In float32, by the names that both graphs share: a half copy of x is called x.fp16.
    largest = _ranges(model, {_original(node.input[0]) for node in layers}, samples)
    nodes: list[onnx.NodeProto] = []
    made: dict[str, str] = {}
    for node in graph.node:
        if node in layers:
            x, weight = node.input[0], node.input[1]
            if x not in made:
                scale = max(largest[_original(x)], 1e-6) / _E4M3_MAX
                made[x] = _through_fp8(graph, nodes, x, scale)
            array = numpy_helper.to_array(arrays[weight]).astype(np.float32)
            weight_scale = max(float(np.abs(array).max()), 1e-6) / _E4M3_MAX
            node.input[0] = made[x]
            node.input[1] = _stored_fp8(graph, nodes, weight, array, weight_scale)
            graph.initializer.remove(arrays[weight])
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return half


def _original(name: str) -> str:
    return name.removesuffix(".fp16")


def _ranges(model: onnx.ModelProto, names: set[str], samples: Sequence[Feeds]) -> dict[str, float]:
    """The largest absolute value of each tensor over the samples, in float32."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in watched.graph.output}
    order = sorted(names)
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in order
        if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    largest = dict.fromkeys(order, 0.0)
    for feeds in samples:
        for name, value in zip(order, session.run(order, dict(feeds)), strict=True):
            largest[name] = max(largest[name], float(np.abs(value).max()))
    return largest


def _scale(graph: onnx.GraphProto, name: str, scale: float) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float16), f"{name}.scale"))
    return f"{name}.scale"


def _zero(graph: onnx.GraphProto) -> str:
    if not any(item.name == "fp8.zero" for item in graph.initializer):
        dtype = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
        graph.initializer.append(numpy_helper.from_array(np.zeros((), dtype), "fp8.zero"))
    return "fp8.zero"


def _through_fp8(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], x: str, scale: float) -> str:
    inputs = [_scale(graph, x, scale), _zero(graph)]
    quantised, back = f"{x}.fp8", f"{x}.from_fp8"
    nodes.append(helper.make_node("QuantizeLinear", [x, *inputs], [quantised], quantised))
    nodes.append(helper.make_node("DequantizeLinear", [quantised, *inputs], [back], back))
    return back


def _stored_fp8(
    graph: onnx.GraphProto,
    nodes: list[onnx.NodeProto],
    name: str,
    weight: NDArray[np.float32],
    scale: float,
) -> str:
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
    # Rounded as it is read: the scale is stored as float16.
    exact = float(np.float16(scale))
    stored = np.clip(weight / exact, -_E4M3_MAX, _E4M3_MAX).astype(dtype)
    graph.initializer.append(numpy_helper.from_array(stored, f"{name}.fp8"))
    back = f"{name}.from_fp8"
    inputs = [f"{name}.fp8", _scale(graph, name, scale), _zero(graph)]
    nodes.append(helper.make_node("DequantizeLinear", inputs, [back], back))
    return back

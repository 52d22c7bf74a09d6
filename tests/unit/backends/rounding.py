"""Runs a converted model on the CPU as a GPU would: each half-precision node takes and gives half
numbers and computes in float32. ONNX Runtime's CPU has no bfloat16 products of its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def run_rounded(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    return run(rounded(model), feeds)


def run(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # What is rounded must stay rounded.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(feeds))[0]


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor, as ONNX's strict inference has it."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {
        info.name: info.type.tensor_type.elem_type
        for info in (*graph.value_info, *graph.input, *graph.output)
    }
    return types | {item.name: item.data_type for item in graph.initializer}


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    types = element_types(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for item in graph.initializer:
        if item.data_type in HALF:
            exact = numpy_helper.to_array(item).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(exact, item.name))
    nodes = []
    for node in list(graph.node):
        nodes.append(node)
        # Every half tensor is held as float32 with the value that the half one has.
        for position, name in enumerate(node.output):
            if types.get(name) not in HALF:
                continue
            node.output[position] = f"{name}.unrounded"
            half = types[name]
            if node.op_type == "Cast":
                node.attribute[0].i = TensorProto.FLOAT
            nodes.append(
                helper.make_node("Cast", [node.output[position]], [f"{name}.half"], to=half)
            )
            nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return copy

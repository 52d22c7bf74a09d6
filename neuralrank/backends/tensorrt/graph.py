"""A bundle's graph with float32 weights, which is what every GPU precision is made from.

The bundles for CPUs are int8 with a scale for each token (`neuralrank.models.bert`), made of
integer operations that TensorRT's parser does not know. Their weights are steps times a scale, so
that a float graph of the same meaning is restored from them: the bundle stays the same, and with it
the vectors that an index names.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from neuralrank.errors import InvalidBundle

__all__ = ["read_float_graph"]

_INTEGER_OPS = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "DynamicQuantizeLinear"}


def read_float_graph(path: Path) -> onnx.ModelProto:
    """The model of an ONNX file, its linear layers and tables in float32.

    Raises:
        InvalidBundle: it is not an ONNX file, or is quantised in a way that is not our own.
    """
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own errors share no better base class
        raise InvalidBundle(f"{path} is not an ONNX file: {error}") from error
    _Restored(model.graph).restore()
    left = sorted({node.op_type for node in model.graph.node} & _INTEGER_OPS)
    if left:
        raise InvalidBundle(
            f"{path} computes with integers ({', '.join(left)}) in a way that neuralrank did not "
            "write, and TensorRT can't take: its weights can't be restored. Add the model from "
            "its float weights: neuralrank models add SOURCE --precision fp32"
        )
    return model


class _Restored:
    """The graph of `write_bert(…, "int8")` on its way back to float."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._producers = {output: node for node in graph.node for output in node.output}
        self._arrays = {item.name: item for item in graph.initializer}

    def restore(self) -> None:
        replaced: dict[str, onnx.NodeProto] = {}
        added: list[onnx.TensorProto] = []
        for node in self._graph.node:
            found = self._product(node) or self._table(node)
            if found:
                new, weights = found
                replaced[node.output[0]] = new
                added.append(weights)
        if not replaced:
            return
        nodes = [replaced.get(node.output[0], node) for node in self._graph.node]
        kept = _needed(nodes, [output.name for output in self._graph.output])
        used = {name for node in kept for name in node.input}
        initializers = [item for item in (*self._arrays.values(), *added) if item.name in used]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(kept)
        self._graph.initializer.extend(initializers)

    def _product(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, onnx.TensorProto] | None:
        """x [.., in] · W [in, out] of Mul(Mul(Cast(MatMulInteger(q(x), W)), w_scale), x_scale)."""
        scaled = self._made(node, "Mul", 0, of="Mul")
        product = self._made(self._made(scaled, "Cast", 0), "MatMulInteger", 0)
        if scaled is None or product is None:
            return None
        steps, scale = self._arrays.get(product.input[1]), self._arrays.get(scaled.input[1])
        x = self._unquantised(product.input[0], node.input[1])
        if steps is None or scale is None or x is None:
            return None
        weight = numpy_helper.to_array(steps).astype(np.float32) * numpy_helper.to_array(scale)
        return self._node("MatMul", node, x, weight, first="x")

    def _unquantised(self, quantised: str, scale: str) -> str | None:
        """x of Reshape(QuantizeLinear(Reshape(x), Reshape(scale))), which has the shape of x."""
        steps = self._made(self._producers.get(quantised), "QuantizeLinear", 0, of="Reshape")
        rows, scales = self._made(steps, "Reshape", 0), self._made(steps, "Reshape", 1)
        if rows is None or scales is None or scales.input[0] != scale:
            return None
        return str(rows.input[0])

    def _table(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, onnx.TensorProto] | None:
        """The rows of a table of `Mul(Cast(Gather(steps, ids)), Gather(scales, ids))`."""
        if node.op_type != "Mul" or len(node.input) != 2:
            return None
        rows = self._made(self._made(node, "Cast", 0, of="Mul"), "Gather", 0)
        scales = self._made(node, "Gather", 1, of="Mul")
        if rows is None or scales is None or rows.input[1] != scales.input[1]:
            return None
        steps, scale = self._arrays.get(rows.input[0]), self._arrays.get(scales.input[0])
        if steps is None or scale is None or steps.data_type != onnx.TensorProto.INT8:
            return None
        table = numpy_helper.to_array(steps).astype(np.float32) * numpy_helper.to_array(scale)
        return self._node("Gather", node, rows.input[1], table, first="table")

    def _node(
        self, kind: str, old: onnx.NodeProto, other: str, array: np.ndarray, *, first: str
    ) -> tuple[onnx.NodeProto, onnx.TensorProto]:
        name = f"{old.output[0]}.float"
        inputs = [other, name] if first == "x" else [name, other]
        return (
            helper.make_node(kind, inputs, [old.output[0]], old.name),
            numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name),
        )

    def _made(
        self, node: onnx.NodeProto | None, kind: str, position: int, of: str = ""
    ) -> onnx.NodeProto | None:
        """The node of a kind that makes an input of `node`, if there is one."""
        if node is None or (of and node.op_type != of) or position >= len(node.input):
            return None
        found = self._producers.get(node.input[position])
        return found if found is not None and found.op_type == kind else None


def _needed(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on, in their order."""
    nodes = list(nodes)
    producers: Mapping[str, onnx.NodeProto] = {
        output: node for node in nodes for output in node.output
    }
    wanted: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in wanted or name not in producers:
            continue
        wanted.add(name)
        waiting.extend(producers[name].input)
    return [node for node in nodes if wanted & set(node.output)]

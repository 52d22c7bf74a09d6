"""An ONNX graph under construction, with linear layers in two precisions (see
`neuralrank.models.bert`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Graph", "Precision", "Weights"]

Weights = Mapping[str, NDArray[np.float32]]
Precision = Literal["fp32", "int8"]


@dataclass
class Graph:
    """Nodes and initializers under construction; every method returns the name of its output."""

    precision: Precision
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def linear(
        self, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        """x [.., in] · weightᵀ [in, out] + bias [out]."""
        if self.precision == "fp32":
            product = self.op(
                "MatMul", f"{name}.product", x, self.constant(f"{name}.weight", weight.T)
            )
        else:
            product = self._int8_product(name, *self._per_token_int8(x, weight.shape[1]), weight)
        return self.op("Add", name, product, self.constant(f"{name}.bias", bias))

    def _per_token_int8(self, x: str, width: int) -> tuple[str, str]:
        """x [.., width] as uint8 around 128, and its scale [.., 1]."""
        quantised, scale = f"{x}.u8", f"{x}.scale"
        if any(node.output[0] == quantised for node in self.nodes):
            return quantised, scale
        axis = self.constant("last_axis", np.array([-1], np.int64))
        highest = self.op("ReduceMax", f"{x}.highest", x, axis, keepdims=1)
        lowest = self.op("ReduceMin", f"{x}.lowest", x, axis, keepdims=1)
        below = self.op("Neg", f"{x}.below", lowest)
        # The floor keeps an all-zero token from dividing by zero.
        largest = self.op("Max", f"{x}.max", highest, below, self.number("int8.floor", 1e-8))
        self.op("Div", scale, largest, self.number("int8.range", 127.0))
        # One scale a row is what QuantizeLinear knows as an axis, of a table of tokens.
        rows = self.op(
            "Reshape", f"{x}.rows", x, self.constant(f"rows.{width}", np.array([-1, width]))
        )
        scales = self.op("Reshape", f"{x}.scales", scale, self.constant("flat", np.array([-1])))
        zeros = self.op(
            "ConstantOfShape",
            f"{x}.zeros",
            self.op("Shape", f"{x}.count", scales),
            value=helper.make_tensor("zero", TensorProto.UINT8, [1], [128]),
        )
        steps = self.op("QuantizeLinear", f"{x}.steps", rows, scales, zeros, axis=0)
        self.op("Reshape", quantised, steps, self.op("Shape", f"{x}.shape", x))
        return quantised, scale

    def _int8_product(self, name: str, x: str, scale: str, weight: NDArray[np.float32]) -> str:
        # Weights use 7 bits: processors without VNNI add pairs of u8·s8 products in 16 bits, and
        # would saturate with 8.
        weight_scale = np.maximum(np.abs(weight).max(axis=1), 1e-8) / 63.0  # [out]
        steps = np.rint(weight / weight_scale[:, None]).astype(np.int8).T  # [in, out]
        product = self.op(
            "MatMulInteger",
            f"{name}.i32",
            x,
            self.constant(f"{name}.weight", steps),
            self.constant("int8.zero_point", np.array(128, np.uint8)),
        )
        scaled = self.op(
            "Mul",
            f"{name}.channels",
            self.op("Cast", f"{name}.f32", product, to=TensorProto.FLOAT),
            self.constant(f"{name}.weight_scale", weight_scale.astype(np.float32)),
        )
        return self.op("Mul", f"{name}.product", scaled, scale)

    def layer_norm(self, name: str, x: str, weights: Weights, key: str, epsilon: float) -> str:
        return self.op(
            "LayerNormalization",
            name,
            x,
            self.constant(f"{name}.weight", weights[f"{key}.weight"]),
            self.constant(f"{name}.bias", weights[f"{key}.bias"]),
            axis=-1,
            epsilon=epsilon,
        )

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def layer(self, name: str, x: str, weights: Weights, key: str) -> str:
        """The linear layer `key` of the weights."""
        return self.linear(name, x, weights[f"{key}.weight"], weights[f"{key}.bias"])

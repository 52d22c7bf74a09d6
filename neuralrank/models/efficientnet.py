"""The graph of an EfficientNet-Lite from its weights: photos to vectors.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019); the
Lite variants have no squeeze-and-excitation and ReLU6 for swish. What the network knows of a photo
are the 1,280 numbers before its classifier, averaged over the photo. The classifier tells which
directions among them say what a thing is: its singular vectors, the largest first, make shorter
vectors of them that are as good (docs/decisions/024-images.md).
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from neuralrank.errors import InvalidInput
from neuralrank.models.onnx_graph import Graph

__all__ = ["PIXELS", "write_efficientnet"]

# Name of the graph's input.
PIXELS: Final = "pixel_values"
_EPSILON: Final = 1e-3
# Blocks that halve the photo; the same in all Lite variants that share Lite0's depth.
_HALVING: Final = frozenset({1, 3, 5, 11})
_OPSET: Final = 18

Weights = Mapping[str, NDArray[Any]]


def write_efficientnet(weights: Weights, size: int, dimensions: int) -> onnx.ModelProto:
    """The graph: `pixel_values` float32 [n, 3, size, size] to `vectors` float32 [n, dimensions], of
    length 1.

    Args:
        weights: by the names of `efficientnet_lite_pytorch`, classifier included.

    Raises:
        InvalidInput: they are not those of such a network.
    """
    graph = Graph("fp32")
    try:
        last = _features(graph, weights)
        directions = _directions(weights["_fc.weight"], dimensions)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"These are not the weights of an EfficientNet-Lite0: {error}.") from (
            error
        )
    # [n, 1280, 1, 1] → [n, 1280]
    pooled = graph.op("Flatten", "pooled", graph.op("GlobalAveragePool", "average", last), axis=1)
    shorter = graph.op("MatMul", "shorter", pooled, graph.constant("directions", directions))
    axes = graph.constant("last_axis", np.array([-1], np.int64))
    length = graph.op("ReduceL2", "length", shorter, axes, keepdims=1)
    floor = graph.op("Max", "floor", length, graph.number("tiny", 1e-12))
    graph.op("Div", "vectors", shorter, floor)
    made = helper.make_graph(
        graph.nodes,
        "efficientnet_lite",
        [helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", dimensions])],
        list(graph.initializers.values()),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _features(graph: Graph, weights: Weights) -> str:
    """The network up to its last activation, [n, 1280, size / 32, size / 32]."""
    layers = _Layers(graph, weights)
    x = layers.convolution("_conv_stem", "_bn0", PIXELS, stride=2)
    count = 0
    while f"_blocks.{count}._depthwise_conv.weight" in weights:
        x = _block(layers, f"_blocks.{count}", x, 2 if count in _HALVING else 1)
        count += 1
    if count != 16:
        raise ValueError(f"they have {count} blocks, and not 16")
    return layers.convolution("_conv_head", "_bn1", x)


def _block(layers: "_Layers", name: str, x: str, stride: int) -> str:
    """An inverted residual: wider, each channel by itself, narrower."""
    inner = x
    norm = 0
    if f"{name}._expand_conv.weight" in layers.weights:
        inner = layers.convolution(f"{name}._expand_conv", f"{name}._bn0", inner)
        norm = 1
    depthwise = f"{name}._depthwise_conv"
    inner = layers.convolution(depthwise, f"{name}._bn1", inner, stride, each=True)
    project = f"{name}._project_conv"
    narrow = layers.convolution(project, f"{name}._bn2", inner, active=False)
    wide = layers.weights[f"{name}.{'_expand' if norm else '_depthwise'}_conv.weight"]
    entered = wide.shape[1] if norm else wide.shape[0]
    if stride == 1 and entered == layers.weights[f"{project}.weight"].shape[0]:
        return layers.graph.op("Add", f"{name}.sum", narrow, x)
    return narrow


class _Layers:
    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph = graph
        self.weights = weights

    def convolution(
        self, name: str, norm: str, x: str, stride: int = 1, *, each: bool = False,
        active: bool = True,
    ) -> str:  # fmt: skip
        """A convolution with its batch normalisation folded in, and ReLU6 where it is `active`.

        Args:
            each: each channel by itself.
        """
        weight = self.weights[f"{name}.weight"]
        scale = self.weights[f"{norm}.weight"] / np.sqrt(
            self.weights[f"{norm}.running_var"] + _EPSILON
        )
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        graph = self.graph
        out = graph.op(
            "Conv",
            name,
            x,
            graph.constant(f"{name}.weight", (weight * scale[:, None, None, None]).astype("<f4")),
            graph.constant(f"{name}.bias", bias.astype("<f4")),
            auto_pad="SAME_UPPER",
            kernel_shape=list(weight.shape[2:]),
            strides=[stride, stride],
            group=len(weight) if each else 1,
        )
        if not active:
            return out
        bounds = graph.number("zero", 0.0), graph.number("six", 6.0)
        return graph.op("Clip", f"{name}.relu6", out, *bounds)


def _directions(classifier: NDArray[Any], dimensions: int) -> NDArray[np.float32]:
    """[1280, dimensions]: the first right singular vectors of the classifier, its mean taken out,
    which is the same for all classes."""
    centred = classifier.astype(np.float64) - classifier.mean(axis=0, dtype=np.float64)
    _, _, found = np.linalg.svd(centred, full_matrices=False)
    if dimensions > len(found):
        raise ValueError(f"they have {len(found)} directions, fewer than {dimensions}")
    chosen = found[:dimensions]
    # A singular vector may be turned round; which way LAPACK gives depends on the machine.
    largest = np.abs(chosen).argmax(axis=1)
    signs = np.sign(chosen[np.arange(dimensions), largest])
    return np.asarray((chosen * signs[:, None]).T, np.float32)

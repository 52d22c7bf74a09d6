"""The graph of an EfficientNet-Lite against the paper's layers, computed by torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from neuralrank.backends.onnxruntime import open_session
from neuralrank.errors import InvalidInput
from neuralrank.models.efficientnet import PIXELS, write_efficientnet

# Lite0's blocks, with fewer channels: kernel, stride, how much wider inside, channels out.
BLOCKS = [
    (3, 1, 1, 4), (3, 2, 6, 6), (3, 1, 6, 6), (5, 2, 6, 8), (5, 1, 6, 8), (3, 2, 6, 10),
    (3, 1, 6, 10), (3, 1, 6, 10), (5, 1, 6, 12), (5, 1, 6, 12), (5, 1, 6, 12), (5, 2, 6, 14),
    (5, 1, 6, 14), (5, 1, 6, 14), (5, 1, 6, 14), (3, 1, 6, 16),
]  # fmt: skip
STEM, TOP, CLASSES, SIZE = 8, 40, 30, 64

Weights = dict[str, NDArray[Any]]


def made(seed: int = 0) -> Weights:
    random = np.random.default_rng(seed)
    weights: Weights = {}

    def layer(name: str, norm: str, shape: tuple[int, ...]) -> None:
        weights[f"{name}.weight"] = random.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        channels = shape[0]
        weights[f"{norm}.weight"] = random.uniform(0.5, 1.5, channels)
        weights[f"{norm}.bias"] = random.normal(0.5, 0.3, channels)
        weights[f"{norm}.running_mean"] = random.normal(0, 0.2, channels)
        weights[f"{norm}.running_var"] = random.uniform(0.5, 2, channels)

    layer("_conv_stem", "_bn0", (STEM, 3, 3, 3))
    channels = STEM
    for number, (kernel, _, wider, out) in enumerate(BLOCKS):
        block, inner = f"_blocks.{number}", channels * wider
        if wider > 1:
            layer(f"{block}._expand_conv", f"{block}._bn0", (inner, channels, 1, 1))
        layer(f"{block}._depthwise_conv", f"{block}._bn1", (inner, 1, kernel, kernel))
        layer(f"{block}._project_conv", f"{block}._bn2", (out, inner, 1, 1))
        channels = out
    layer("_conv_head", "_bn1", (TOP, channels, 1, 1))
    weights["_fc.weight"] = random.normal(size=(CLASSES, TOP))
    return {name: value.astype("f4") for name, value in weights.items()}


def by_torch(weights: Mapping[str, NDArray[Any]], x: torch.Tensor) -> torch.Tensor:
    """The paper's layers one by one, with TensorFlow's padding."""
    w = {name: torch.from_numpy(value) for name, value in weights.items()}

    def conv(x: torch.Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> Any:
        kernel, size = w[f"{name}.weight"].shape[-1], x.shape[-1]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        low = total // 2
        x = F.conv2d(
            F.pad(x, (low, total - low, low, total - low)), w[f"{name}.weight"], None, stride,
            groups=groups,
        )  # fmt: skip
        mean, variance = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        return F.batch_norm(
            x, mean, variance, w[f"{norm}.weight"], w[f"{norm}.bias"], False, 0.0, 1e-3
        )

    x = F.relu6(conv(x, "_conv_stem", "_bn0", 2))
    for number, (_, stride, wider, out) in enumerate(BLOCKS):
        block, entered = f"_blocks.{number}", x
        if wider > 1:
            x = F.relu6(conv(x, f"{block}._expand_conv", f"{block}._bn0"))
        x = F.relu6(conv(x, f"{block}._depthwise_conv", f"{block}._bn1", stride, x.shape[1]))
        x = conv(x, f"{block}._project_conv", f"{block}._bn2")
        if stride == 1 and entered.shape[1] == out:
            x = x + entered
    return F.relu6(conv(x, "_conv_head", "_bn1")).mean((2, 3))


def run(model: onnx.ModelProto, folder: Path, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    onnx.save(model, str(folder / "model.onnx"))
    session = open_session(folder / "model.onnx", 1)
    return np.asarray(session.run(None, {PIXELS: pixels})[0])


def test_it_computes_what_the_paper_says(tmp_path: Path) -> None:
    weights = made()
    pixels = np.random.default_rng(1).normal(size=(3, 3, SIZE, SIZE)).astype("f4")
    pooled = by_torch(weights, torch.from_numpy(pixels)).numpy().astype(np.float64)
    classifier = weights["_fc.weight"].astype(np.float64)
    # As many directions as there are: nothing is lost of what the classifier sees.
    whole = run(write_efficientnet(weights, SIZE, CLASSES), tmp_path, pixels)
    _, _, right = np.linalg.svd(classifier - classifier.mean(axis=0), full_matrices=False)
    expected = pooled @ right[:CLASSES].T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(whole), np.abs(expected), atol=2e-5)
    np.testing.assert_allclose(whole @ whole.T, expected @ expected.T, atol=2e-5)


def test_shorter_vectors_are_the_beginning_of_longer_ones(tmp_path: Path) -> None:
    weights = made()
    pixels = np.random.default_rng(2).normal(size=(2, 3, SIZE, SIZE)).astype("f4")
    longer = run(write_efficientnet(weights, SIZE, 20), tmp_path, pixels)[:, :8]
    shorter = run(write_efficientnet(weights, SIZE, 8), tmp_path, pixels)
    longer /= np.linalg.norm(longer, axis=1, keepdims=True)
    np.testing.assert_allclose(shorter, longer, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("_fc.weight"), "_fc.weight"),
        (lambda w: w.pop("_blocks.15._depthwise_conv.weight"), "15 blocks, and not 16"),
        (lambda w: w.pop("_bn0.bias"), "_bn0.bias"),
    ],
)
def test_other_weights_are_refused(change: Any, words: str) -> None:
    weights = made()
    change(weights)
    with pytest.raises(InvalidInput, match=f"not the weights of an EfficientNet-Lite0.*{words}"):
        write_efficientnet(weights, SIZE, 8)


def test_more_dimensions_than_there_are_directions_are_refused() -> None:
    with pytest.raises(InvalidInput, match="30 directions, fewer than 31"):
        write_efficientnet(made(), SIZE, CLASSES + 1)

"""int8 by ONNX Runtime's own tools, to be measured beside ours (`neuralrank.models.bert`)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

__all__ = ["dynamic_int8", "static_int8"]

Feeds = Mapping[str, NDArray[Any]]


def dynamic_int8(model: Path, target: Path) -> None:
    """Weights as int8; of activations, one scale for a whole tensor, taken while running. A score
    then depends on who shares its batch: for comparison, not for serving (decision 002)."""
    quantize_dynamic(model, target, weight_type=QuantType.QInt8)


def static_int8(model: Path, target: Path, calibration: Sequence[Feeds]) -> None:
    """Weights and activations as int8, with scales that are fixed by what the calibration data
    shows (its extremes).

    Args:
        calibration: inputs of the graph, batch by batch, as they will be served.
    """
    quantize_static(
        model,
        target,
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        # Processors without VNNI add pairs of products in 16 bits, which saturates with 8.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Sequence[Feeds]) -> None:
        self._batches: Iterator[Feeds] = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {name: np.asarray(v) for name, v in batch.items()}

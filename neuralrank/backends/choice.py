"""Which backend a service wants, and what it wants to know of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["BackendName", "Choice", "GpuPrecision"]

BackendName = Literal["auto", "onnxruntime", "tensorrt"]
GpuPrecision = Literal["fp32", "fp16", "bf16", "fp8"]


def _nobody(_: str) -> None:
    """Nobody counts."""


@dataclass(frozen=True)
class Choice:
    """What to run graphs with."""

    # auto: TensorRT where there is an NVIDIA driver with a GPU, else ONNX Runtime.
    backend: BackendName = "onnxruntime"
    # What a GPU computes in; a safer one is taken where this does not agree with float32.
    precision: GpuPrecision = "fp16"
    # Built engines are kept here, this many bytes of them.
    engines: Path = field(default_factory=lambda: Path("engines"))
    engine_bytes: int = 8 * 2**30
    # Called with the reason (unavailable, refused, failed, out_of_memory, too_long, not_finite)
    # whenever ONNX Runtime does what a GPU was to do.
    on_fallback: Callable[[str], None] = _nobody

"""What runs a model's graph. One small protocol; ONNX Runtime on the CPU is the default."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends.onnxruntime import OnnxRuntime
from neuralrank.bundle import Bundle

__all__ = ["Backend", "load_backend"]


class Backend(Protocol):
    """A loaded graph. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """What runs it, e.g. `onnxruntime-cpu`."""
        ...

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the graph's inputs."""
        ...

    def run(self, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """The graph's first output, [batch, width], for int64 inputs [batch, length]."""
        ...


def load_backend(bundle: Bundle, threads: int = 0) -> Backend:
    """The graph of a bundle, ready to run.

    Args:
        threads: how many threads one call may use; 0 means one a core.

    Raises:
        InvalidBundle: the graph can't be loaded.
    """
    return OnnxRuntime(bundle.model, threads)

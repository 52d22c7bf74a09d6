"""A GPU backend with ONNX Runtime behind it: whatever the GPU does, the caller is answered."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput

__all__ = ["Backend", "Guarded"]

_log = logging.getLogger(__name__)


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

    def batches(self, lengths: Sequence[int] | NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Positions of the texts, of these lengths in tokens, that are best run together."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The graph's first output, [batch, width], for inputs [batch, length] or [batch, ..]."""
        ...


class Guarded:
    """A backend that may fail, and one that answers then.

    After an error the first is not used again: CUDA's errors stay until the process ends. Numbers
    that are not finite are computed anew and leave it in use.
    """

    def __init__(self, engine: Backend, spare: Backend, on_fallback: Callable[[str], None]) -> None:
        self._engine: Backend | None = engine
        self._spare = spare
        self._on_fallback = on_fallback
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        engine = self._engine
        return engine.name if engine else f"{self._spare.name} (the GPU failed)"

    @property
    def inputs(self) -> frozenset[str]:
        return self._spare.inputs

    def batches(self, lengths: Sequence[int] | NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        engine = self._engine
        if engine is not None and len(lengths):
            try:
                yield from list(engine.batches(lengths))
                return
            except InvalidInput:  # longer than its longest profile
                pass
        yield from self._spare.batches(lengths)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        engine = self._engine
        if engine is not None:
            try:
                result = engine.run(feeds)
                if np.isfinite(result).all():
                    return result
                _log.error("the GPU gave numbers that are not finite; the CPU computes them anew")
                self._on_fallback("not_finite")
            except InvalidInput:
                self._on_fallback("too_long")
            except Exception as error:  # whatever a driver does, the caller is answered
                self._give_up(engine, error)
        return self._spare.run(feeds)

    def _give_up(self, engine: Backend, error: Exception) -> None:
        with self._lock:
            if self._engine is None:
                return
            self._engine = None
        _log.error(
            "THE GPU FAILED: the CPU serves this model from now on, slower; restart the sidecar to "
            "try the GPU again",
            extra={"backend": engine.name, "reason": str(error) or type(error).__name__},
        )
        self._on_fallback("failed")

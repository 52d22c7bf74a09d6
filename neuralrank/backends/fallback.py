"""A GPU backend with ONNX Runtime behind it: whatever the GPU does, the caller is answered."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidBundle, InvalidInput, OutOfMemory

__all__ = ["Backend", "Guarded", "check_loaded"]

_log = logging.getLogger(__name__)

_Reason = Literal["failed", "refused"]
# Why a GPU was given up: for the log, and beside the spare's name.
_LOUD: Final[dict[_Reason, str]] = {
    "failed": "THE GPU FAILED: the CPU serves this model from now on, slower; restart the sidecar "
    "to try the GPU again",
    "refused": "THE GPU COMPUTES SOMETHING ELSE than what the bundle was published with: the CPU "
    "serves this model, slower",
}
_QUIET: Final[dict[_Reason, str]] = {"failed": "the GPU failed", "refused": "the GPU was refused"}


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

    After an error the first is not used again: CUDA's errors stay until the process ends. What
    passes leaves it in use: numbers that are not finite, and memory that is used up, are the
    other's for that run.
    """

    def __init__(self, engine: Backend, spare: Backend, on_fallback: Callable[[str], None]) -> None:
        self._engine: Backend | None = engine
        self._spare = spare
        self._on_fallback = on_fallback
        self._given_up: _Reason = "failed"
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        engine = self._engine
        return engine.name if engine else f"{self._spare.name} ({_QUIET[self._given_up]})"

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
            except OutOfMemory as error:
                _log.error("%s The CPU answers this time", error)
                self._on_fallback("out_of_memory")
            except Exception as error:  # whatever a driver does, the caller is answered
                self.give_up("failed", error)
        return self._spare.run(feeds)

    def give_up(self, reason: _Reason, error: Exception) -> bool:
        """Uses the spare alone from now on; whether it did not before."""
        with self._lock:
            engine = self._engine
            if engine is None:
                return False
            self._given_up, self._engine = reason, None
        _log.error(
            _LOUD[reason],
            extra={"backend": engine.name, "reason": str(error) or type(error).__name__},
        )
        self._on_fallback(reason)
        return True


def check_loaded(backend: Backend, check: Callable[[], None]) -> None:
    """Checks a model that runs on a backend. Where it fails on a GPU, that is the GPU's fault until
    the CPU has been asked.

    Raises:
        InvalidBundle: the check's own, where it fails on the CPU.
    """
    try:
        check()
    except InvalidBundle as error:
        if not isinstance(backend, Guarded) or not backend.give_up("refused", error):
            raise
        check()

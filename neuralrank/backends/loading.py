"""Loads the graph of a bundle with the backend that a service wants."""

import logging

from neuralrank.backends.choice import Choice
from neuralrank.backends.fallback import Backend, Guarded
from neuralrank.backends.onnxruntime import OnnxRuntime
from neuralrank.bundles.bundle import Bundle
from neuralrank.errors import InvalidInput, Unsupported

__all__ = ["load_backend"]

_log = logging.getLogger(__name__)


def load_backend(bundle: Bundle, threads: int = 0, choice: Choice | None = None) -> Backend:
    """The graph of a bundle, ready to run.

    With TensorRT this builds an engine the first time, which takes minutes. What a GPU can't do is
    done by ONNX Runtime, with a loud line in the log and a call of `choice.on_fallback`.

    Args:
        threads: how many threads one call may use on the CPU; 0 means one a core.
        choice: by default ONNX Runtime.

    Raises:
        InvalidBundle: the graph can't be loaded.
    """
    spare = OnnxRuntime(bundle.model, threads)
    if choice is None or choice.backend == "onnxruntime":
        return spare
    # Here, so that nothing of it is loaded where it is not wanted.
    from neuralrank.backends.tensorrt.driver import open_driver
    from neuralrank.backends.tensorrt.library import load_library
    from neuralrank.backends.tensorrt.load import load_tensorrt

    try:
        cuda = open_driver()
    except Unsupported as error:
        if choice.backend == "auto":
            _log.info("no GPU: ONNX Runtime serves", extra={"reason": str(error)})
        else:
            _fall_back(choice, bundle, "unavailable", error)
        return spare
    try:
        library = load_library()
    except Unsupported as error:
        _fall_back(choice, bundle, "unavailable", error)
        return spare
    try:
        return Guarded(load_tensorrt(bundle, choice, cuda, library), spare, choice.on_fallback)
    except InvalidInput as error:
        _fall_back(choice, bundle, "refused", error)
    except Exception as error:  # a library that is not ours, on hardware that we don't know
        _fall_back(choice, bundle, "failed", error)
    return spare


def _fall_back(choice: Choice, bundle: Bundle, reason: str, error: Exception) -> None:
    _log.error(
        "NO GPU FOR THIS MODEL: ONNX Runtime serves it on the CPU, slower",
        extra={"bundle": bundle.ref, "reason": str(error) or type(error).__name__},
    )
    choice.on_fallback(reason)

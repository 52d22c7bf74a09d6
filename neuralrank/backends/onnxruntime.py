"""ONNX Runtime on the CPU."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from neuralrank.backends.fused import fused
from neuralrank.errors import InvalidBundle
from neuralrank.text.batching import token_batches

__all__ = ["OnnxRuntime", "open_session"]

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


def open_session(model: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A graph, ready to run.

    Args:
        threads: how many threads one call may use; 0 means one a core.

    Raises:
        InvalidBundle: it can't be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    # Threads that spin between calls would take cores from whoever shares the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        graph = fused(model)
        session = onnxruntime.InferenceSession(
            str(model) if graph is None else graph,
            options,
            providers=["CPUExecutionProvider"],
            # Its Gelu with a bias takes longer than an addition and its Gelu.
            disabled_optimizers={"BiasGeluFusion"},
        )
    except Exception as error:  # the library's own errors share no better base class
        raise InvalidBundle(f"{model} can't be loaded by ONNX Runtime: {error}") from error
    # It keeps a graph that came as bytes, so as to begin anew where a provider fails. There is one.
    session._model_bytes = None
    return session


class OnnxRuntime:
    """A graph in ONNX Runtime's CPU execution provider."""

    name = "onnxruntime-cpu"

    def __init__(self, model: Path, threads: int = 0) -> None:
        self._session = open_session(model, threads)
        self.inputs = frozenset(i.name for i in self._session.get_inputs())
        if not {"input_ids", "attention_mask"} <= self.inputs <= _INPUTS:
            raise InvalidBundle(
                f"{model} has the inputs {sorted(self.inputs)}; needed are input_ids and "
                "attention_mask, allowed is token_type_ids too."
            )
        self._output = self._session.get_outputs()[0].name

    def batches(self, lengths: Sequence[int] | NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        return token_batches(lengths)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._session.run([self._output], feeds)[0]
        return result

"""From an ONNX model to a serialised engine: parse, profiles, build, with progress.

The network is strongly typed: the precision is that of the file. The same calls serve TensorRT 10,
11 and TensorRT-RTX.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from neuralrank.backends.tensorrt.library import Library
from neuralrank.backends.tensorrt.profiles import Profile
from neuralrank.errors import InvalidBundle, InvalidInput, Unsupported

__all__ = ["Built", "build_engine"]

# What is built, and how far it is, 0 to 1.
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Built:
    """A serialised engine, and what was learnt of kernels' times while building it."""

    engine: bytes
    timings: bytes


def build_engine(
    library: Library,
    model: onnx.ModelProto,
    profiles: Sequence[Profile],
    *,
    timings: bytes = b"",
    compute_capability: str = "",
    progress: Progress | None = None,
) -> Built:
    """Builds an engine. Takes from seconds to minutes.

    Args:
        timings: of an earlier build with the same TensorRT on the same kind of GPU: it is then
            much faster. What can't be used is ignored.
        compute_capability: TensorRT-RTX only: the one to build for, such as "SM89", where there is
            no GPU to ask.
        progress: called with the phase and how far it is.

    Raises:
        InvalidBundle: TensorRT does not understand the model; the message names the operation.
        InvalidInput: the profiles don't fit the model's inputs.
        Unsupported: TensorRT could not build the engine.
    """
    trt = library.module
    builder = trt.Builder(library.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(library, network, model)
    config = builder.create_builder_config()
    # What is float32 is meant to be exact.
    config.clear_flag(trt.BuilderFlag.TF32)
    if compute_capability:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, compute_capability), 0)
    for profile in profiles:
        _add_profile(builder, config, network, profile)
    cache = _timing_cache(config, timings)
    if progress:
        config.progress_monitor = _monitor(trt, progress)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise Unsupported(
            f"{library.name} {library.version} could not build an engine; its messages in the log "
            "say why. ONNX Runtime serves the model meanwhile."
        )
    return Built(bytes(serialised), bytes(cache.serialize()) if cache is not None else b"")


def _parse(library: Library, network: Any, model: onnx.ModelProto) -> None:
    parser = library.module.OnnxParser(network, library.logger)
    if parser.parse(model.SerializeToString()):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    what = "; ".join(
        f"{error.node_name() or 'graph'} ({error.node_operator() or 'none'}): {error.desc()}"
        for error in errors[:3]
    )
    raise InvalidBundle(
        f"{library.name} {library.version} does not understand the model ({what or 'no reason'}). "
        "Export it with operations that TensorRT has, or serve it by ONNX Runtime."
    )


def _add_profile(builder: Any, config: Any, network: Any, profile: Profile) -> None:
    made = builder.create_optimization_profile()
    for position in range(network.num_inputs):
        given = network.get_input(position)
        sizes = [None if size < 0 else int(size) for size in given.shape]
        if not sizes or sizes[0] is not None:
            raise InvalidInput(
                f"The model's input {given.name} has shape {tuple(given.shape)}; its first axis "
                "must be the batch, of no fixed size. Export it with a dynamic batch."
            )
        shapes = [profile.shape(sizes, n) for n in (profile.least, profile.best, profile.most)]
        made.set_shape(given.name, *shapes)
    if config.add_optimization_profile(made) < 0:
        raise InvalidInput(f"TensorRT does not accept the profile {profile} for this model.")


def _timing_cache(config: Any, timings: bytes) -> Any:
    """What kernels took in earlier builds, as far as it can be used, and what they take in this."""
    with warnings.catch_warnings():
        # TensorRT-RTX finds its kernels when it runs, and says that it keeps these for a while.
        warnings.simplefilter("ignore", DeprecationWarning)
        for content in (timings, b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return cache
    return None


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Says how far the outermost phase is; TensorRT calls it from several threads."""

        def __init__(self) -> None:
            super().__init__()
            self._outer = ""
            self._steps = 1

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._outer, self._steps = phase_name, max(1, num_steps)
                progress(phase_name, 0.0)

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self._outer:
                progress(phase_name, 1.0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self._outer:
                progress(phase_name, min(1.0, (step + 1) / self._steps))
            return True  # go on

    return Monitor()

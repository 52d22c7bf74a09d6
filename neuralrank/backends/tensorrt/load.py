"""From a bundle to a backend on the GPU: the cached engine, or a new one from a child process."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends.choice import Choice
from neuralrank.backends.tensorrt.cache import CachedEngine, EngineCache
from neuralrank.backends.tensorrt.driver import Cuda
from neuralrank.backends.tensorrt.library import Library
from neuralrank.backends.tensorrt.session import Session
from neuralrank.bundles.bundle import Bundle
from neuralrank.errors import InvalidBundle, InvalidInput, OutOfMemory, Unsupported

__all__ = ["TensorRt", "load_tensorrt"]

_log = logging.getLogger(__name__)

# What is tried in turn where a precision is refused.
_SAFER: Final = {
    "fp8": ("fp8", "fp16", "bf16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp32"),
    "fp32": ("fp32",),
}
# Longer than any build that was heard of. A child that hangs must not keep a model away for ever.
_BUILD_SECONDS: Final = 3_600.0

# Arguments of the child, to an engine in the cache or an error.
Build = Callable[[Bundle, str, Choice], None]


class TensorRt:
    """A bundle's graph on the GPU."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self.name = name
        self.inputs = session.inputs

    def batches(self, lengths: Sequence[int] | NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        return self._session.router.batches(lengths)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return self._session.run(feeds)


def load_tensorrt(
    bundle: Bundle,
    choice: Choice,
    cuda: Cuda,
    library: Library,
    build: "Build | None" = None,
) -> TensorRt:
    """The bundle on the GPU, in the asked precision or the first safer one that agrees.

    Args:
        build: how an engine gets into the cache; by default in a child process.

    Raises:
        Unsupported: this GPU or library failed.
        InvalidBundle: TensorRT can't take the model, or no precision agrees with float32.
    """
    from neuralrank.backends.tensorrt.trial import bundle_profiles, engine_key

    cache = EngineCache(choice.engines, choice.engine_bytes)
    refused = []
    for precision in _SAFER[choice.precision]:
        key = engine_key(bundle, precision, library, cuda)
        cached = cache.get(key)
        try:
            found = cached or _built(bundle, precision, choice, cache, key, build)
        except (InvalidInput, Unsupported) as error:
            refused.append(f"{precision}: {error}")
            _log.error(
                "a precision can't be had", extra={"bundle": bundle.ref, "reason": refused[-1]}
            )
            continue
        if not found.engine:
            refused.append(f"{precision}: {found.facts.get('words', 'no numbers')}")
            _log.error(
                "a precision does not agree with float32 and is refused",
                extra={"bundle": bundle.ref, "reason": refused[-1]},
            )
            continue
        try:
            session = Session(library, cuda, found.engine, bundle_profiles(bundle))
        except OutOfMemory:  # which is not the engine's fault
            raise
        except Unsupported as error:
            if cached is None:
                raise
            _log.warning(
                "a cached engine can't be loaded; it is deleted and built anew",
                extra={"bundle": bundle.ref, "reason": str(error)},
            )
            cache.remove(key)
            return load_tensorrt(bundle, choice, cuda, library, build)
        name = f"{library.name}-{library.version}-{precision}"
        _log.info(
            "on the GPU",
            extra={
                "bundle": bundle.ref,
                "backend": name,
                "gpu": cuda.device.name,
                "agreement": found.facts.get("words", ""),
            },
        )
        return TensorRt(session, name)
    raise InvalidBundle(
        f"{bundle.ref} can't be served by {library.name} {library.version} on {cuda.device.name}: "
        f"{'; '.join(refused)}."
    )


def _built(
    bundle: Bundle,
    precision: str,
    choice: Choice,
    cache: EngineCache,
    key: Any,
    build: "Build | None",
) -> CachedEngine:
    _log.warning(
        "building an engine; this is done once and takes minutes",
        extra={"bundle": bundle.ref, "precision": precision},
    )
    with cache.building(key):
        # Another process may have built it while this one waited for its turn.
        found = cache.get(key)
        if found is None:
            (build or build_in_child)(bundle, precision, choice)
            found = cache.get(key)
    if found is None:
        raise Unsupported(
            f"The engine that was built is not in {choice.engines}: the folder can't be written, "
            "or the child used another TensorRT."
        )
    return found


def build_in_child(
    bundle: Bundle,
    precision: str,
    choice: Choice,
    module: str = "neuralrank.backends.tensorrt.trial",
    seconds: float = _BUILD_SECONDS,
) -> None:
    """Builds and tries an engine in a process of its own; its progress goes to our log.

    Raises:
        InvalidBundle: the model can't be converted or built.
        Unsupported: anything else that the child says, or that it crashed or hung.
    """
    command = [
        *(sys.executable, "-m", module, str(bundle.path), precision),
        *(str(choice.engines), str(choice.engine_bytes)),
    ]
    pipe = subprocess.PIPE
    error = ""
    # The child ends when its standard input does, which is when this process ends.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        watch = threading.Timer(seconds, child.kill)
        watch.start()
        try:
            assert child.stdout is not None  # a pipe was asked for
            for line in child.stdout:
                error = _hear(line, bundle, precision) or error
            code = child.wait()
        finally:
            watch.cancel()
            child.kill()  # if it has not ended
    if code == 0:
        return
    if code < 0:
        raise Unsupported(
            f"Building the {precision} engine of {bundle.ref} ended with signal {-code}: TensorRT "
            f"or the driver crashed, or it took longer than {seconds:.0f} s. Nothing else was hurt."
        )
    kind = InvalidBundle if code == 3 else Unsupported
    raise kind(error or f"Building the engine ended with code {code}; standard error says why.")


def _hear(line: str, bundle: Bundle, precision: str) -> str:
    """Logs a line of the child; gives back its error, if it is one."""
    try:
        said = json.loads(line)
        if "error" in said:
            return str(said["error"])
        percent = round(100 * float(said["done"]))
        facts = {"bundle": bundle.ref, "precision": precision, "phase": said["phase"]}
        _log.info("building: %d %%", percent, extra=facts)
    except (ValueError, KeyError, TypeError):  # a library's own words on standard output
        _log.info("building: %s", line.rstrip())
    return ""

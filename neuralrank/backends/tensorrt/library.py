"""TensorRT's own module, found and named. It is given to whoever needs it, never imported at once.

TensorRT-RTX has the same interface and is another product: its name says so everywhere.
"""

import importlib
import logging
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from neuralrank.errors import Unsupported

__all__ = ["MODULES", "Library", "load_library"]

_log = logging.getLogger(__name__)

# `tensorrt` is the whole package; the bindings alone do with the libraries beside them.
MODULES: Final = ("tensorrt", "tensorrt_bindings")

# By the name of TensorRT's severity. Its warnings are about habits of models, not about ours.
_LEVELS: Final = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.INFO,
    "INFO": logging.DEBUG,
}


@dataclass(frozen=True)
class Library:
    """The module, `tensorrt` or `tensorrt_rtx`, and its version.

    Without a GPU the interface that runs engines must not be touched: TensorRT 10 aborts the
    process and 11 crashes. Probe the driver first (`neuralrank.backends.tensorrt.driver`).
    """

    module: Any
    name: str
    version: str
    # TensorRT's messages, in our log. It knows one of a process: the first that it is given, which
    # must live as long as anything of it.
    logger: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "logger", _logger(self.module, self.name))


def _logger(module: Any, name: str) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, level: Any, message: str) -> None:
            number = _LEVELS.get(level.name, logging.NOTSET)
            if number:
                _log.log(number, "%s: %s", name, message)

    return Logger()


@cache
def load_library(modules: tuple[str, ...] = MODULES) -> Library:
    """Imports the first of the modules that there is; the same one for all of a process.

    Raises:
        Unsupported: none is installed, or its libraries can't be loaded.
    """
    problems = []
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            problems.append(f"{name}: {error}")
            continue
        # The file's own name: `tensorrt_rtx_bindings` is TensorRT-RTX, whatever it is called.
        product = "tensorrt_rtx" if "tensorrt_rtx" in module.__name__ else "tensorrt"
        return Library(module, product, str(module.__version__))
    raise Unsupported(
        f"TensorRT can't be loaded ({'; '.join(problems)}). Its wheels come from NVIDIA's own "
        "package index: docs/gpu.md says how to install them."
    )

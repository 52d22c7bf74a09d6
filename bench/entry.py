"""How benchmarks begin and end as commands."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

import psutil

from neuralrank.errors import NeuralrankError, exit_code

__all__ = ["entry"]

# As a shell says of what SIGTERM ended.
_TERMINATED: Final = 128 + signal.SIGTERM


def entry(main: Callable[[], None]) -> NoReturn:
    """Runs a command. What is missing is said in a line, with the exit code that `neuralrank` has
    for it; with SIGTERM the processes that were started end too."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except NeuralrankError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(0)


def _terminate(*_: object) -> NoReturn:
    # Before unwinding, which would wait for threads that wait for one of them.
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    sys.exit(_TERMINATED)

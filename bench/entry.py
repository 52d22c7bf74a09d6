"""How benchmarks begin and end as commands."""

import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from neuralrank.errors import NeuralrankError, exit_code

__all__ = ["entry"]

# As a shell says of what SIGTERM ended.
_TERMINATED: Final = 128 + signal.SIGTERM


def entry(main: Callable[[], None]) -> NoReturn:
    """Runs a command. What is missing is said in a line, with the exit code that `neuralrank` has
    for it; SIGTERM unwinds, so that the processes that were started end too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        main()
    except NeuralrankError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(0)

"""Waits until a part of the stack serves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from neuralrank.errors import Unavailable
from neuralrank.stack.processes import Process, is_alive, tail

__all__ = ["POLL_S", "wait_until_ready"]

POLL_S: Final = 0.25


def wait_until_ready(
    what: str,
    ready: Callable[[], bool],
    process: Process,
    log: Path,
    timeout_s: float,
) -> None:
    """Waits until a part is ready; one that ends or takes too long is an error with its log.

    Raises:
        Unavailable: it is not going to be ready, or not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not is_alive(process):
            raise Unavailable(f"{what} ended while starting. The last lines of {log}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{what} (process {process.pid}) was not healthy after {timeout_s:.0f} s. "
                "It still runs; wait and look with `neuralrank status`, or end it with "
                f"`neuralrank down`. The last lines of {log}:\n{tail(log)}"
            )
        time.sleep(POLL_S)

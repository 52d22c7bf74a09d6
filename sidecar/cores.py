"""How the cores of a process are shared among the runs of models.

A query is alone on its way and everything else waits for it: all cores work on it at once. Pairs
come by the hundred: several runs beside each other, a core each, do a third more of them than one
run on all cores (docs/decisions/007-one-queue.md).
"""

import os
import sys
import threading
from dataclasses import dataclass

__all__ = ["Share", "available_cores", "share", "step_back"]


@dataclass(frozen=True, slots=True)
class Share:
    """`query_threads` and `pair_threads` are threads inside one run; `workers` are runs at once,
    the one that is kept for queries among them."""

    query_threads: int
    pair_threads: int
    workers: int


def available_cores() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(threads: int, workers: int) -> Share:
    """What the settings `threads` and `workers` mean on this machine."""
    cores = threads or available_cores()
    workers = workers or cores + 1
    return Share(cores, max(1, cores // max(1, workers - 1)), workers)


def step_back(nice: int) -> None:
    """Lowers the priority of this thread: where there are too few cores for all, the thread that
    answers requests goes first, and models are asked for less. Only on Linux are priorities those
    of threads; elsewhere nothing is done.

    Args:
        nice: how much lower, 0 to 19, each step about a fifth less of a core that is wanted by all.
    """
    if nice and sys.platform == "linux":
        thread = threading.get_native_id()
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(19, before + nice))

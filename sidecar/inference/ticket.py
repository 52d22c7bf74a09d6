"""What a request waits for while its entries are in the queue."""

import asyncio
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sidecar.domain import Floats
from sidecar.inference.cost import Cost
from sidecar.inference.queue import Job

__all__ = ["Runner", "Ticket"]


@dataclass(frozen=True, slots=True)
class Runner:
    """A model as a worker sees it: `run` gives float32 [batch, width]."""

    ref: str
    backend: str
    width: int
    run: Callable[[Sequence[Any]], Floats]
    cost: Cost


@dataclass(slots=True, eq=False)
class Ticket:
    """A job, its tokens (or whatever else its model reads), and what has come of it so far: float32
    [n, width] and bool [n].

    Results are written by the event loop that made it, even when nobody waits any more: `keep` gets
    them all, for the caches.
    """

    job: Job
    tokens: Sequence[Sized]
    runner: Runner
    keep: Callable[[int, Floats], None]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    values: Floats = field(init=False)
    done: npt.NDArray[np.bool_] = field(init=False)
    # What went wrong with an entry.
    errors: dict[int, Exception] = field(default_factory=dict)
    finished: "asyncio.Future[None]" = field(init=False)
    # Entries in batches under way; the workers' own, as `begun`, whether any ever was in one, and
    # `abandoned`.
    running: int = 0
    begun: bool = False
    abandoned: bool = False
    submitted: float = 0.0
    # Instant of the last result, and seconds of all runs that it took part in.
    last: float = 0.0
    ran: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.tokens)
        self.values = np.full((count, self.runner.width), np.nan, np.float32)
        self.done = np.zeros(count, np.bool_)
        self.finished = self.loop.create_future()
        self.submitted = self.last = time.perf_counter()

    @property
    def waited(self) -> float:
        """Seconds from being submitted to the last result in which no run of it was under way."""
        return max(0.0, self.last - self.submitted - self.ran)

    def receive(self, places: Sequence[int], values: Floats, seconds: float) -> None:
        """Results of a run, float32 [places, width]."""
        self.ran += seconds
        self.last = time.perf_counter()
        for place, row in zip(places, values, strict=True):
            self.keep(place, row)
        self.values[list(places)] = values
        self.done[list(places)] = True

    def finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

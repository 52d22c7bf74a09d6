"""Threads that run what the queue gives them. onnxruntime releases the interpreter meanwhile."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from neuralrank.errors import DeadlineExceeded, Unavailable
from sidecar.cores import step_back
from sidecar.deadline import Clock
from sidecar.domain import Floats
from sidecar.inference.cost import Cost
from sidecar.inference.queue import Job, Priority, Queue
from sidecar.inference.ticket import Ticket
from sidecar.telemetry.metrics import Metrics

__all__ = ["Workers"]

_log = logging.getLogger(__name__)

_Entries = Sequence[tuple[Ticket, int]]


class Workers:
    """Drives a queue. With two workers or more, one takes queries alone: a query then waits for no
    batch of pairs."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        *,
        workers: int,
        batch_tokens: int,
        queue_tokens: int,
        nice: int = 0,
    ) -> None:
        """
        Args:
            batch_tokens: padded tokens in one run.
            queue_tokens: that may wait.
            nice: how much lower the workers' priority is.
        """
        self._nice = nice
        self._metrics = metrics
        self._clock = clock
        self._changed = threading.Condition()
        self._costs: dict[str, Cost] = {}
        self._queue = Queue(
            clock, self._seconds, batch_tokens=batch_tokens, max_tokens=queue_tokens
        )
        self._tickets: dict[Job, Ticket] = {}
        self._workers = workers
        self._threads: list[threading.Thread] = []
        # Workers for pairs that wait for something to do.
        self._idle = 0
        self._closed = False

    @property
    def pair_runs(self) -> int:
        """Runs of pairs at once."""
        return max(1, self._workers - 1)

    def submit(self, ticket: Ticket) -> None:
        """Has a ticket's entries run; it is finished when nothing more will come.

        Raises:
            Overloaded: too much waits.
            Unavailable: the workers have been closed.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("This sidecar is stopping. Ask another, or again in a moment.")
            self._queue.add(ticket.job)
            self._tickets[ticket.job] = ticket
            self._costs[ticket.runner.ref] = ticket.runner.cost
            if not self._threads:
                self._start()
            self._changed.notify_all()
        self._metrics.queued.inc()

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for it any more: what is not running is dropped."""
        with self._changed:
            if self._tickets.pop(ticket.job, None) is None:
                return
            ticket.abandoned = True
            self._queue.cancel(ticket.job)
            begun = ticket.begun
        self._metrics.queued.dec()
        # Most of those that never begin are those that waited longest: without them the metric
        # would be lowest where there is too little processor.
        if not begun:
            self._metrics.queue(time.perf_counter() - ticket.submitted)

    def room(self, priority: Priority) -> int:
        """See `Queue.room`."""
        with self._changed:
            return self._queue.room(priority)

    def ahead(self, priority: Priority, caller: Hashable, tokens: int) -> int:
        """See `Queue.ahead`."""
        with self._changed:
            return self._queue.ahead(priority, caller, tokens)

    def forget(self, ref: str) -> None:
        """A bundle serves no more."""
        with self._changed:
            self._costs.pop(ref, None)

    def close(self) -> None:
        """Runs nothing more; whoever waits is told so at once."""
        with self._changed:
            self._closed = True
            tickets = list(self._tickets.values())
            for ticket in tickets:
                self._queue.cancel(ticket.job)
            self._changed.notify_all()
        for ticket in tickets:
            _call(ticket, ticket.finish)

    def _seconds(self, model: str, tokens: int) -> float:
        cost = self._costs.get(model)
        return 0.0 if cost is None else cost.estimate(tokens)

    def _start(self) -> None:
        lanes = [Priority.PAIR] * self._workers
        if self._workers > 1:
            lanes[0] = Priority.QUERY
        for number, lane in enumerate(lanes):
            thread = threading.Thread(
                target=self._work, args=(lane,), name=f"model-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _work(self, lane: Priority) -> None:
        step_back(self._nice)
        while (entries := self._next(lane)) is not None:
            try:
                self._run(entries)
            except Exception as error:  # a worker that ends would strand all who come after
                _log.exception("a batch failed outside of its model")
                self._fail(entries, error)
            # While this thread waits for the next batch it holds no model that could be freed.
            del entries

    def _next(self, lane: Priority) -> _Entries | None:
        """Waits for a batch; None once closed."""
        with self._changed:
            while not self._closed:
                batch = self._queue.take(lane, 1 if lane is Priority.QUERY else self._idle + 1)
                for job in self._queue.pop_dropped():
                    if (ticket := self._tickets.get(job)) is not None:
                        _call(ticket, self._settle, ticket)
                if batch is not None:
                    entries = [(self._tickets[job], place) for job, place in batch.entries]
                    now = time.perf_counter()
                    for ticket, _ in entries:
                        ticket.running += 1
                        if not ticket.begun:
                            ticket.begun = True
                            self._metrics.queue(now - ticket.submitted)
                    return entries
                self._wait(lane)
        return None

    def _wait(self, lane: Priority) -> None:
        """Until something has changed."""
        idle = lane is not Priority.QUERY
        self._idle += idle
        self._changed.wait()
        self._idle -= idle

    def _run(self, entries: _Entries) -> None:
        """Runs a batch. If it fails, its halves are run by themselves, and so on: only the entry at
        fault is left without a result."""
        parts: list[_Entries] = [entries]
        while parts:
            part = parts.pop()
            if part is not entries:
                part = self._still_wanted(part)
            if not part:
                continue
            runner = part[0][0].runner
            start = time.perf_counter()
            try:
                values = runner.run([ticket.tokens[place] for ticket, place in part])
            except Exception as error:  # whatever a model raises, others are not to suffer
                if len(part) == 1:
                    self._fail(part, error)
                else:
                    half = len(part) // 2
                    parts += [part[:half], part[half:]]
                continue
            seconds = time.perf_counter() - start
            longest = max(len(ticket.tokens[place]) for ticket, place in part)
            padded = len(part) * longest
            runner.cost.observe(padded, seconds)
            self._metrics.inference(runner.ref, runner.backend, seconds, padded)
            good: npt.NDArray[np.bool_] = np.isfinite(values).min(axis=1)
            self._deliver(
                [e for e, ok in zip(part, good, strict=True) if ok], values[good], seconds
            )
            bad = [entry for entry, ok in zip(part, good, strict=True) if not ok]
            if len(bad) == 1 and len(part) == 1:
                self._fail(bad, _not_finite(runner.ref))
            elif bad and len(bad) < len(part):
                parts.append(bad)
            elif bad:
                half = len(bad) // 2
                parts += [bad[:half], bad[half:]]

    def _still_wanted(self, part: _Entries) -> _Entries:
        """Without those that nobody waits for, or not any more in time."""
        now = self._clock()
        late = [e for e in part if e[0].abandoned or e[0].job.deadline <= now]
        self._fail(late, DeadlineExceeded("The time was used up while a model was running."))
        return [entry for entry in part if entry not in late]

    def _deliver(self, entries: _Entries, values: Floats, seconds: float) -> None:
        rows: dict[Ticket, list[int]] = defaultdict(list)
        for row, (ticket, _) in enumerate(entries):
            rows[ticket].append(row)
        for ticket, chosen in rows.items():
            places = [entries[row][1] for row in chosen]
            _call(ticket, self._received, ticket, places, values[chosen], seconds)

    def _fail(self, entries: _Entries, error: Exception) -> None:
        for ticket, place in entries:
            _call(ticket, self._failed, ticket, place, error)

    def _received(self, ticket: Ticket, places: list[int], values: Floats, seconds: float) -> None:
        """In the ticket's event loop."""
        ticket.receive(places, values, seconds)
        self._settle(ticket, len(places))

    def _failed(self, ticket: Ticket, place: int, error: Exception) -> None:
        """In the ticket's event loop."""
        ticket.errors[place] = error
        self._settle(ticket, 1)

    def _settle(self, ticket: Ticket, ended: int = 0) -> None:
        with self._changed:
            ticket.running -= ended
            over = not ticket.running and not ticket.job.waiting
        if over:
            ticket.finish()


def _not_finite(ref: str) -> Unavailable:
    return Unavailable(f"{ref} gave a result that is not finite. Try another text or bundle.")


def _call(ticket: Ticket, call: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        ticket.loop.call_soon_threadsafe(call, *arguments)

"""One queue over all requests: which waiting entries run next, and together.

Pure logic: no threads, no asyncio, time comes from a clock that is given. An entry is one text or
pair and counts as many tokens as the model reads of it. What `take` guarantees:

- A batch is of one model, and padded (longest × count) within the budget, unless a single entry is
  longer than that.
- What was cancelled or has expired is dropped before it costs anything, and what the remaining time
  does not allow is not begun.
- Queries go before passages and passages before pairs; but a class that waits is passed over at
  most `PATIENCE` batches in a row.
- Callers get equal shares of tokens, and so do the requests of one caller among themselves. The
  caller that was served least is always in the next batch, and no two that wait are ever further
  apart than the window and an entry.
- Entries of one request run in its order, but for the window: within it they are sorted by length
  over all requests, since padding is work for nothing.

What `add` guarantees: a job is never refused for what is less urgent than it, nor while it is
within an equal share of what may wait. However much one request has, others find room.
"""

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from neuralrank.errors import Overloaded
from sidecar.deadline import Clock

__all__ = ["PATIENCE", "Batch", "Job", "Priority", "Queue"]

# Batches of more urgent classes that a waiting class lets pass.
PATIENCE: Final = 8
# Budgets' worth of tokens among which lengths are sorted.
_WINDOW: Final = 4
# Of an entry's remaining time, the most that a batch may take: if the estimate is wrong by as much
# again, it still comes in time, and the next one is estimated anew.
_SHARE: Final = 0.5
# Padded tokens for each real one, at most: beyond it another run is cheaper than padding.
_PADDING: Final = 1.25
# Of what may wait, the part that one job should bring at most.
_SLICE: Final = 4


class Priority(IntEnum):
    """What goes first."""

    # A search query: short, and everything else of its request waits for it.
    QUERY = 0
    # Texts to be encoded: a request without them has no answer.
    PASSAGE = 1
    # Query and candidate for a cross-encoder: there is an answer without them, they better it.
    PAIR = 2


@dataclass(slots=True, eq=False)
class Job:
    """The entries of one request for one model, in the order in which the request wants them.

    `lengths` are tokens, each 1 or more; jobs with the same `model` share batches; `deadline` is an
    instant on the queue's clock.
    """

    model: str
    priority: Priority
    caller: Hashable
    deadline: float
    lengths: Sequence[int]
    # Places in `lengths` that still wait, and their tokens. The queue's own, as `served`: tokens
    # that it has been given, beyond those of its caller's that was given least when it came.
    waiting: deque[int] = field(default_factory=deque)
    tokens: int = 0
    served: int = 0

    def __post_init__(self) -> None:
        self.waiting.extend(range(len(self.lengths)))
        self.tokens = sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Batch:
    """What runs together: places of jobs, shortest first."""

    model: str
    priority: Priority
    entries: tuple[tuple[Job, int], ...]


@dataclass(slots=True, eq=False)
class _Caller:
    """One caller's jobs in a class, oldest first, and the tokens that it has been given and that
    still wait. `level` is those of its job that was given least: where one that is new begins."""

    served: int
    number: int
    tokens: int = 0
    level: int = 0
    jobs: deque[Job] = field(default_factory=deque)


class Queue:
    """Not safe for several threads at once: whoever drives it holds a lock."""

    def __init__(
        self,
        clock: Clock,
        seconds: Callable[[str, int], float],
        *,
        batch_tokens: int,
        max_tokens: int,
    ) -> None:
        """
        Args:
            seconds: what a run of so many padded tokens takes on a model; 0 if not known.
            batch_tokens: budget of a batch.
            max_tokens: that may wait at once, of a class and what is more urgent; see `add`.
        """
        self._clock = clock
        self._seconds = seconds
        self._batch_tokens = batch_tokens
        self._max_tokens = max_tokens
        self._classes: dict[Priority, dict[Hashable, _Caller]] = {each: {} for each in Priority}
        # Tokens of the caller that was served least: where one that is new begins.
        self._level = dict.fromkeys(Priority, 0)
        self._passed = dict.fromkeys(Priority, 0)
        self._number = 0
        self._dropped: list[Job] = []
        self.entries = 0
        self.tokens = 0

    def add(self, job: Job) -> None:
        """Lets a job wait.

        Raises:
            Overloaded: so much of its class and of more urgent ones waits that this would not fit,
                and it is more than an equal share. What is less urgent doesn't count.
        """
        new = job.tokens
        if new > self._left(job.priority):
            self.drop_gone()
        waiting, _ = self._waiting(job.priority)
        # A job larger than the whole queue is let in where nothing else waits.
        if waiting and new > self._left(job.priority):
            raise Overloaded(
                f"{waiting} tokens wait for a model, {new} more would be above the "
                f"{self._max_tokens} that may. Try again later, or add a sidecar."
            )
        callers = self._classes[job.priority]
        caller = callers.get(job.caller)
        if caller is None:
            self._number += 1
            caller = callers[job.caller] = _Caller(self._level[job.priority], self._number)
        job.served = caller.level
        caller.jobs.append(job)
        caller.tokens += new
        self.entries += len(job.lengths)
        self.tokens += new

    def cancel(self, job: Job) -> None:
        """Drops what still waits of a job."""
        if not job.waiting:
            return
        self._classes[job.priority][job.caller].tokens -= job.tokens
        self.tokens -= job.tokens
        self.entries -= len(job.waiting)
        job.waiting.clear()
        job.tokens = 0

    def room(self, priority: Priority) -> int:
        """Tokens that one job of a class should bring at most, to be let in and to leave room for
        others: who has more brings it bit by bit."""
        return min(self._max_tokens // _SLICE, self._left(priority))

    def ahead(self, priority: Priority, caller: Hashable, tokens: int) -> int:
        """About the tokens that are served before a new job of a caller has got so many: what is
        more urgent, as much of each of the caller's own jobs, and of every other caller's as much
        as all of these."""
        urgent = sum(
            other.tokens
            for each, callers in self._classes.items()
            if each < priority
            for other in callers.values()
        )
        callers = self._classes[priority]
        own = callers[caller].jobs if caller in callers else ()
        within = sum(min(job.tokens, tokens) for job in own)
        others = sum(
            min(other.tokens, within + tokens) for name, other in callers.items() if name != caller
        )
        return urgent + within + others

    def drop_gone(self) -> None:
        """Drops what has expired, and forgets callers of whom nothing waits."""
        now = self._clock()
        for callers in self._classes.values():
            for name, caller in list(callers.items()):
                for job in caller.jobs:
                    if job.deadline <= now:
                        self.cancel(job)
                        self._dropped.append(job)
                if not all(job.waiting for job in caller.jobs):
                    caller.jobs = deque(job for job in caller.jobs if job.waiting)
                if not caller.jobs:
                    del callers[name]

    def pop_dropped(self) -> list[Job]:
        """Jobs that have lost entries to the clock since the last call."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def take(self, least: Priority = Priority.PAIR, idle: int = 1) -> Batch | None:
        """The next batch, of class `least` or a more urgent one; None if nothing of it waits.

        Args:
            idle: workers that have nothing to do, the one that asks among them. What waits is
                shared among them: a short request would else be one run beside an idle core.
        """
        while True:
            self.drop_gone()
            waiting = [each for each in Priority if each <= least and self._classes[each]]
            if not waiting:
                return None
            starved = [each for each in waiting if self._passed[each] >= PATIENCE]
            chosen = starved[-1] if starved else waiting[0]
            batch = self._form(chosen, idle)
            if batch is None:  # what came first could not be done in time, and is gone
                continue
            for each in Priority:
                if each <= chosen or not self._classes[each]:
                    self._passed[each] = 0
                elif each <= least:
                    self._passed[each] += 1
            return batch

    def _left(self, priority: Priority) -> int:
        """The most that `add` lets in: what is free, and never less than an equal share. With n
        jobs at most max_tokens × (1 + 1/2 + … + 1/n) wait in a class."""
        tokens, jobs = self._waiting(priority)
        return max(self._max_tokens - tokens, self._max_tokens // (jobs + 1))

    def _waiting(self, priority: Priority) -> tuple[int, int]:
        """Tokens and jobs of a class and of more urgent ones."""
        callers = [
            caller
            for each, found in self._classes.items()
            if each <= priority
            for caller in found.values()
        ]
        tokens = sum(caller.tokens for caller in callers)
        return tokens, sum(bool(job.waiting) for caller in callers for job in caller.jobs)

    def _form(self, priority: Priority, idle: int) -> Batch | None:
        window = self._window(priority)
        job, place = window[0]
        length = job.lengths[place]
        budget = self._budget(job, length, idle)
        if budget < length:
            self._drop_late(job)
            return None
        window.sort(key=lambda entry: entry[0].lengths[entry[1]])
        lengths = [each.lengths[i] for each, i in window]
        first, last = _around(lengths, window.index((job, place)), budget)
        entries = tuple(window[first:last])
        callers = self._classes[priority]
        for each, i in entries:
            each.waiting.remove(i)
            caller = callers[each.caller]
            for counted in (each, caller):
                counted.served += each.lengths[i]
                counted.tokens -= each.lengths[i]
            self.tokens -= each.lengths[i]
        for name in {each.caller for each, _ in entries}:
            left = [job.served for job in callers[name].jobs if job.waiting]
            callers[name].level = min(left, default=callers[name].level)
        self.entries -= len(entries)
        self._level[priority] = min(caller.served for caller in callers.values())
        return Batch(job.model, priority, entries)

    def _drop_late(self, job: Job) -> None:
        """Drops what can't be done in the time that a job has left."""
        left = job.deadline - self._clock()
        kept = [i for i in job.waiting if self._seconds(job.model, job.lengths[i]) <= left]
        self.cancel(job)
        job.tokens = sum(job.lengths[place] for place in kept)
        self._classes[job.priority][job.caller].tokens += job.tokens
        self.tokens += job.tokens
        self.entries += len(kept)
        job.waiting.extend(kept)
        self._dropped.append(job)

    def _budget(self, job: Job, length: int, idle: int) -> int:
        """Padded tokens of a batch that holds the entry; below its length: it can't be in time."""
        left = job.deadline - self._clock()
        if self._seconds(job.model, length) > left:
            return 0
        budget = self._batch_tokens
        if idle > 1:
            waiting = sum(caller.tokens for caller in self._classes[job.priority].values())
            budget = min(budget, -(-waiting // idle))
        budget = max(budget, length)
        # Halved until it fits: time is not quite proportional to tokens.
        while budget > length and self._seconds(job.model, budget) > _SHARE * left:
            budget = max(budget // 2, length)
        return budget

    def _window(self, priority: Priority) -> list[tuple[Job, int]]:
        """The entries that may be in the next batch, those of the caller that was served least
        first; every caller gets as much of it as it lacks in comparison with the others."""
        callers = self._classes[priority].values()
        heads = [(caller.served, caller.number, _walk(caller.jobs)) for caller in callers]
        heapq.heapify(heads)
        window: list[tuple[Job, int]] = []
        tokens = 0
        model = ""
        while heads and tokens < _WINDOW * self._batch_tokens:
            served, number, entries = heads[0]
            entry = next((e for e in entries if not model or e[0].model == model), None)
            if entry is None:
                heapq.heappop(heads)
                continue
            window.append(entry)
            model = entry[0].model
            length = entry[0].lengths[entry[1]]
            tokens += length
            heapq.heapreplace(heads, (served + length, number, entries))
        return window


def _walk(jobs: Iterable[Job]) -> Iterator[tuple[Job, int]]:
    """What waits of one caller's jobs, always of the one that has been given least by then."""
    heads = [(job.served, number, iter(job.waiting), job) for number, job in enumerate(jobs)]
    heapq.heapify(heads)
    while heads:
        served, number, places, job = heads[0]
        place = next(places, None)
        if place is None:
            heapq.heappop(heads)
            continue
        heapq.heapreplace(heads, (served + job.lengths[place], number, places, job))
        yield job, place


def _around(lengths: Sequence[int], seed: int, budget: int) -> tuple[int, int]:
    """The slice of sorted lengths that holds `seed`, padded within the budget, grown by whichever
    neighbour is nearer in length."""
    first, last = seed, seed + 1
    real = lengths[seed]
    while True:
        longest, count = lengths[last - 1], last - first
        shorter = longest - lengths[first - 1] if first else None
        longer = (lengths[last] - longest) * count if last < len(lengths) else None
        if longer is not None and (shorter is None or longer <= shorter):
            longest, added, step = lengths[last], lengths[last], (first, last + 1)
        elif shorter is not None:
            added, step = lengths[first - 1], (first - 1, last)
        else:
            return first, last
        padded = longest * (count + 1)
        if padded > budget or padded > _PADDING * (real + added):
            return first, last
        real += added
        first, last = step

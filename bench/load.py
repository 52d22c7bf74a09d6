"""A load generator for `Rank`, in a process of its own: `python -m bench.load SPEC.json`.

Open loop: requests leave at a constant rate whether or not earlier ones were answered, and a
request's time counts from when it should have left. A generator that waits for answers sends less
just when the service is slow, and so never sees how slow it was (coordinated omission).

Closed loop: a number of callers, each of which asks again as soon as it has its answer.

Every second one JSON line goes to standard output: a `Tally` of the requests that ended in it.
"""

import asyncio
import json
import os
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

__all__ = ["Spec", "Tally", "load", "loading", "merged", "parse", "save_requests"]

_ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


@dataclass(frozen=True)
class Spec:
    """What load to make.

    `rate` requests a second for open loop, or `callers` for closed; the other is 0. `timeout` is
    each call's gRPC deadline in seconds. `skip` leaves out the first of the requests in the file,
    so that a run does not ask what an earlier one had cached. Over `connections`, in turn: worker
    processes on one port share connections, not requests. On `cores` alone; empty: on any.
    """

    target: str
    requests: str
    seconds: float
    rate: float = 0.0
    callers: int = 0
    timeout: float = 2.0
    skip: int = 0
    connections: int = 1
    cores: Sequence[int] = ()


@dataclass
class Tally:
    """Requests that ended in a span of time. `ms` of the answered ones, from when they should have
    left; `refused_ms` of those that were turned away."""

    at: float = 0.0
    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    # One message of each kind of failure.
    messages: dict[str, str] = field(default_factory=dict)
    # Answers that lack a candidate, or have one twice.
    wrong: int = 0
    # Answers by what degraded them, and by the bundles that took part.
    degraded: Counter[str] = field(default_factory=Counter)
    bundles: Counter[str] = field(default_factory=Counter)
    # How late the generator itself was, at most: above a few ms, it was the bottleneck. None where
    # callers wait for answers, and nothing has to leave on time.
    late_ms: float | None = None

    @property
    def ended(self) -> int:
        return sum(self.statuses.values())

    @property
    def lost(self) -> int:
        """Neither answered nor refused: what the service forgets ends by the caller's own
        timeout."""
        return self.sent - self.ended + self.statuses["DEADLINE_EXCEEDED"]

    @property
    def answered(self) -> int:
        return self.statuses["OK"]

    @property
    def refused(self) -> int:
        return self.statuses["RESOURCE_EXHAUSTED"]

    def percentile(self, share: float) -> float:
        """Of the milliseconds of the answered; NaN where there were none."""
        return float(np.percentile(self.ms, share)) if self.ms else float("nan")


def merged(tallies: Sequence[Tally]) -> Tally:
    """All of them as one."""
    whole = Tally()
    for tally in tallies:
        whole.at = max(whole.at, tally.at)
        whole.sent += tally.sent
        whole.statuses += tally.statuses
        whole.ms += tally.ms
        whole.refused_ms += tally.refused_ms
        whole.messages |= tally.messages
        whole.wrong += tally.wrong
        whole.degraded += tally.degraded
        whole.bundles += tally.bundles
    whole.late_ms = max((t.late_ms for t in tallies if t.late_ms is not None), default=None)
    return whole


def save_requests(path: Path, requests: Sequence[pb.RankRequest]) -> None:
    """Each with its length before it, as `load` reads them."""
    with path.open("wb") as stream:
        for request in requests:
            body = request.SerializeToString()
            stream.write(struct.pack("<I", len(body)) + body)


@contextmanager
def loading(spec: Spec, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The generator, running; its standard output has a line a second. Ended with the context."""
    file = folder / f"load-{time.monotonic_ns()}.json"
    file.write_text(json.dumps(asdict(spec)))
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load", str(file)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def parse(line: str) -> Tally:
    """A line of the generator's output."""
    row = json.loads(line)
    for name in ("statuses", "degraded", "bundles"):
        row[name] = Counter(row[name])
    return Tally(**row)


def load(spec: Spec, folder: Path) -> Tally:
    """Makes the load, waits for its end, and gives all of it as one tally.

    Raises:
        RuntimeError: the generator failed.
    """
    with loading(spec, folder) as process:
        assert process.stdout is not None
        tallies = [parse(line) for line in process.stdout]
        if process.wait() != 0:
            raise RuntimeError(f"the load generator ended with {process.returncode}")
    return merged(tallies)


class _Generator:
    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._requests = islice(_without_end(Path(spec.requests)), spec.skip, None)
        self._tally = Tally()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stubs: Iterator[Any] = iter(())

    async def run(self) -> None:
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.service_config", _ROUND_ROBIN),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with AsyncExitStack() as stack:
            stubs = []
            for _ in range(self._spec.connections):
                channel = grpc.aio.insecure_channel(self._spec.target, options)
                await stack.enter_async_context(channel)
                await asyncio.wait_for(channel.channel_ready(), 30)
                stubs.append(pb_grpc.RankingStub(channel))  # type: ignore[no-untyped-call]
            self._stubs = cycle(stubs)
            begin = time.perf_counter()
            printing = asyncio.create_task(self._print(begin))
            await (self._open(begin) if self._spec.rate else self._closed(begin))
            if self._tasks:
                await asyncio.wait(self._tasks)
            printing.cancel()
            self._flush(begin)

    async def _open(self, begin: float) -> None:
        for number in range(int(self._spec.rate * self._spec.seconds)):
            due = begin + number / self._spec.rate
            wait = due - time.perf_counter()
            # Even when late, the loop must get to run, or no answer would ever be seen.
            await asyncio.sleep(max(0.0, wait))
            late = (time.perf_counter() - due) * 1e3
            self._tally.late_ms = max(self._tally.late_ms or 0.0, late)
            task = asyncio.create_task(self._ask(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _closed(self, begin: float) -> None:
        end = begin + self._spec.seconds

        async def caller() -> None:
            while (now := time.perf_counter()) < end:
                await self._ask(now)

        await asyncio.gather(*(caller() for _ in range(self._spec.callers)))

    async def _ask(self, due: float) -> None:
        request = next(self._requests)
        self._tally.sent += 1
        try:
            answer = await next(self._stubs).Rank(request, timeout=self._spec.timeout)
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            self._tally.statuses[status] += 1
            self._tally.messages[status] = (error.details() or "")[:200]
            if status == "RESOURCE_EXHAUSTED":
                self._tally.refused_ms.append(round((time.perf_counter() - due) * 1e3, 3))
            return
        tally = self._tally
        tally.ms.append(round((time.perf_counter() - due) * 1e3, 3))
        tally.statuses["OK"] += 1
        shown = {hit.id for hit in answer.results}
        if len(shown) != len(answer.results) or len(shown) != len(request.candidates):
            tally.wrong += 1
        notes = {pb.DegradedReason.Name(note.reason) for note in answer.degraded}
        tally.degraded.update(name.removeprefix("DEGRADED_REASON_") for name in notes)
        tally.bundles.update(answer.bundles)

    async def _print(self, begin: float) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._flush(begin)

    def _flush(self, begin: float) -> None:
        tally, self._tally = self._tally, Tally()
        tally.at = round(time.perf_counter() - begin, 3)
        print(json.dumps(vars(tally)), flush=True)


def _without_end(path: Path) -> Iterator[pb.RankRequest]:
    """The requests of a file again and again, each time with other queries: none is ever asked
    twice, so that no cache knows its answer."""
    requests = list(_read(path))
    queries = [request.query for request in requests]
    yield from requests
    for turn in count(1):
        for request, query in zip(requests, queries, strict=True):
            request.query = f"{query} {turn}"
            yield request


def _read(path: Path) -> Iterator[pb.RankRequest]:
    body = path.read_bytes()
    place = 0
    while place < len(body):
        (length,) = struct.unpack_from("<I", body, place)
        place += 4
        yield pb.RankRequest.FromString(body[place : place + length])
        place += length


def main() -> None:
    """Makes the load of a file with a `Spec`."""
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text()))
    if spec.cores:
        os.sched_setaffinity(0, spec.cores)
    asyncio.run(_Generator(spec).run())


if __name__ == "__main__":
    main()

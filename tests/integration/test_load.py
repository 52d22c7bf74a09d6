"""The load generator, a process of its own, against servers that do as they are told."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from bench.load import Spec, Tally, load, loading, merged, parse, save_requests
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

Answer = Callable[[pb.RankRequest, Any], Awaitable[pb.RankResponse]]
# Of each request.
CANDIDATES = ("a", "b", "c")


class Server(pb_grpc.RankingServicer):
    """Answers as `answer` does, and knows what it was asked and from where."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[pb.RankRequest] = []
        self.peers: set[str] = set()
        self.most_at_once = 0
        self.port = 0
        self._now = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        self.asked.append(request)
        self.peers.add(context.peer())
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self.answer(request, context)
        finally:
            self._now -= 1


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    made, server = Server(answer), grpc.aio.server()
    pb_grpc.add_RankingServicer_to_server(made, server)
    made.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)


def answered(*ids: str) -> pb.RankResponse:
    return pb.RankResponse(results=[pb.RankedCandidate(id=name, score=0.5) for name in ids])


async def rank(request: pb.RankRequest, _: Any) -> pb.RankResponse:
    return answered(*(candidate.id for candidate in reversed(request.candidates)))


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Ten of them."""
    file = tmp_path / "requests.bin"
    candidates = [pb.Candidate(id=name, text=f"text of {name}") for name in CANDIDATES]
    save_requests(
        file, [pb.RankRequest(query=f"水 {n}", index="x", candidates=candidates) for n in range(10)]
    )
    return file


async def made(target: str, requests: Path, seconds: float = 0.5, **how: Any) -> Tally:
    spec = Spec(target, str(requests), seconds, **how)
    return await asyncio.to_thread(load, spec, requests.parent)


async def test_all_leave_at_the_rate_and_none_is_asked_twice(requests: Path) -> None:
    async with serving(rank) as server:
        tally = await made(server.address, requests, rate=100.0, skip=3)
    assert (tally.sent, tally.answered, tally.lost, tally.wrong) == (50, 50, 0, 0)
    assert len(tally.ms) == 50
    assert tally.late_ms is not None
    expected = [f"水 {n % 10}" + (f" {n // 10}" if n >= 10 else "") for n in range(3, 53)]
    assert sorted(request.query for request in server.asked) == sorted(expected)
    for request in server.asked:
        assert (request.index, len(request.candidates)) == ("x", 3)
        assert request.candidates[1].text == "text of b"


async def test_callers_ask_again_when_they_are_answered(requests: Path) -> None:
    async with serving(rank) as server:
        tally = await made(server.address, requests, callers=3)
    assert tally.sent == tally.answered == len(server.asked) > 3
    assert server.most_at_once <= 3
    assert tally.late_ms is None


async def test_what_is_refused_or_fails_is_counted(requests: Path) -> None:
    async def refuse(_: pb.RankRequest, context: Any) -> pb.RankResponse:
        if len(server.asked) % 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return await context.abort(grpc.StatusCode.INTERNAL, "broken")

    async with serving(refuse) as server:
        tally = await made(server.address, requests, rate=40.0)
    assert tally.statuses == {"RESOURCE_EXHAUSTED": 10, "INTERNAL": 10}
    assert tally.messages == {"RESOURCE_EXHAUSTED": "full", "INTERNAL": "broken"}
    assert (len(tally.ms), len(tally.refused_ms)) == (0, 10)
    assert tally.refused == 10


async def test_what_is_never_answered_is_lost_at_the_callers_deadline(requests: Path) -> None:
    async def hang(request: pb.RankRequest, context: Any) -> pb.RankResponse:
        if len(server.asked) % 5 == 0:
            await asyncio.Event().wait()
        return await rank(request, context)

    async with serving(hang) as server:
        tally = await made(server.address, requests, rate=40.0, timeout=1.0)
    assert tally.statuses == {"OK": 16, "DEADLINE_EXCEEDED": 4}
    assert tally.lost == 4


async def test_wrong_answers_and_what_answers_say_is_counted(requests: Path) -> None:
    async def answer(*_: Any) -> pb.RankResponse:
        wrong = {1: ("a", "b"), 2: ("a", "b", "b"), 3: ("a", "b", "b", "c"), 4: ()}
        said = answered(*wrong.get(len(server.asked), CANDIDATES))
        said.bundles.append("model@1")
        for reason in (pb.DEGRADED_REASON_DEADLINE, pb.DEGRADED_REASON_DEADLINE):
            said.degraded.add(reason=reason, detail="late")
        return said

    async with serving(answer) as server:
        tally = await made(server.address, requests, rate=20.0)
    assert (tally.answered, tally.wrong) == (10, 4)
    assert tally.bundles == {"model@1": 10}
    assert tally.degraded == {"DEADLINE": 10}


async def test_several_addresses_and_connections_are_taken_in_turn(requests: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(serving(rank)) for _ in range(2)]
        target = f"ipv4:{one.address},{two.address}"
        tally = await made(target, requests, rate=200.0, connections=3)
    assert tally.answered == 100
    assert min(len(one.asked), len(two.asked)) > 20
    assert (len(one.peers), len(two.peers)) == (3, 3)


async def test_time_counts_from_when_a_request_should_have_left(requests: Path) -> None:
    """The generator is held up for half a second: what was due then counts as late."""
    core = min(psutil.Process().cpu_affinity())
    async with serving(rank) as server:
        spec = Spec(server.address, str(requests), 2.0, rate=100.0, cores=[core])
        with loading(spec, requests.parent) as process:
            assert process.stdout is not None
            lines = [await asyncio.to_thread(process.stdout.readline)]
            assert psutil.Process(process.pid).cpu_affinity() == [core]
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGCONT)
            lines += (await asyncio.to_thread(process.stdout.read)).splitlines()
            assert await asyncio.to_thread(process.wait) == 0
    tallies = [parse(line) for line in lines]
    assert len(tallies) >= 2
    whole = merged(tallies)
    assert whole.sent == whole.answered == 200
    assert whole.late_ms is not None
    assert whole.late_ms > 400
    assert sum(ms > 100 for ms in whole.ms) >= 30

"""What happens to a request before it is ranked: it is let in, decoded and read, in this order."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from neuralrank.v1 import ranking_pb2 as pb
from sidecar.deadline import Deadline
from sidecar.rpc.incoming import Incoming
from sidecar.rpc.reader import MANY_CANDIDATES
from sidecar.rpc.wire import read_encode, read_rank
from sidecar.sizes import LARGE_BYTES
from tests.unit.sidecar.parts import Bench, WordJudge, request
from tests.unit.sidecar.test_service import count, serving

DOCS = Path(__file__).resolve().parents[3] / "docs"


class Steps:
    """What was decoded and read, and in which thread; `seconds` of the clock each takes, and
    `held` steps wait in the thread until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
        self.done: list[str] = []
        self.threads: set[str] = set()
        self.seconds = 0.0
        self.held = ""
        self.entered = threading.Event()
        self.go = threading.Event()
        decode = Incoming.decode

        def noted(name: str, step: Any) -> Any:
            def run(*arguments: Any, **named: Any) -> Any:
                self.done.append(name)
                self.threads.add(threading.current_thread().name)
                bench.clock.now += self.seconds
                if name == self.held and threading.current_thread() is not threading.main_thread():
                    self.entered.set()
                    self.go.wait(10)
                return step(*arguments, **named)

            return run

        monkeypatch.setattr(Incoming, "decode", noted("decode", decode))
        monkeypatch.setattr("sidecar.rpc.service.read_rank", noted("read", read_rank))
        monkeypatch.setattr("sidecar.rpc.service.read_encode", noted("read", read_encode))

    async def are_held(self) -> None:
        await asyncio.to_thread(self.entered.wait, 10)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Iterator[Steps]:
    made = Steps(monkeypatch, bench)
    yield made
    made.go.set()


def clocked(stub: Any, bench: Bench) -> None:
    """Deadlines are on the bench's clock, which stands still."""
    stub.service._allowance = replace(stub.service._allowance, clock=bench.clock)


def many(number: int, **fields: Any) -> pb.RankRequest:
    rows = [pb.Candidate(id=str(place)) for place in range(number)]
    return pb.RankRequest(query="computer", candidates=rows, **fields)


def long() -> pb.RankRequest:
    return pb.RankRequest(
        query="computer",
        candidates=[pb.Candidate(id=str(place), text="x" * 16_000) for place in range(40)],
    )


def refusals(bench: Bench) -> dict[str, float]:
    return {
        sample.labels["reason"]: sample.value
        for family in bench.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "neuralrank_refused_requests_total" and sample.value
    }


async def test_a_deadline_begins_before_the_request_is_counted_and_decoded(
    bench: Bench, steps: Steps
) -> None:
    left: list[float] = []
    rank = bench.ranker.rank

    async def noted(query: Any, deadline: Deadline) -> Any:
        left.append(deadline.remaining())
        return await rank(query, deadline)

    bench.ranker.rank = noted  # type: ignore[method-assign]
    steps.seconds = 0.03
    async with serving(bench, deadline_ms=100) as stub:
        clocked(stub, bench)
        await stub.Rank(request(query="computer"))
        await stub.Rank(request(query="computer"), timeout=5_000)
    assert steps.done == ["decode", "read"] * 2
    assert left == [pytest.approx(0.092 - 2 * 0.03)] * 2
    # What a request gives is not what is left of it.
    name = "neuralrank_deadline_seconds_sum"
    given = bench.metrics.registry.get_sample_value(name, {"method": "Rank"})
    assert given == pytest.approx(2 * 0.092)


async def test_a_deadline_of_the_transport_begins_there_too(bench: Bench, steps: Steps) -> None:
    left: list[float] = []

    async def encode(_inputs: Any, _encoder: str, _index: str, deadline: Deadline, **_: Any) -> Any:
        left.append(deadline.remaining())
        return [], ""

    bench.vectors.encode = encode  # type: ignore[method-assign, assignment]
    steps.seconds = 0.5
    made = pb.EncodeRequest(inputs=[pb.EncodeInput(query="phone")])
    async with serving(bench, encode_deadline_ms=5_000) as stub:
        clocked(stub, bench)
        await stub.Encode(made)
        stub.service._allowance = replace(stub.service._allowance, most=2.0)
        await stub.Encode(made)
    assert left == [pytest.approx(4.992 - 1), pytest.approx(1.992 - 1)]


async def test_a_deadline_that_passes_while_a_request_is_read_leaves_the_order_that_came_in(
    bench: Bench, steps: Steps
) -> None:
    steps.seconds = 0.03
    made = request("C", "D", "B", "A", query="apple computer")
    made.options.deadline_ms = 50
    async with serving(bench) as stub:
        clocked(stub, bench)
        admission = stub.service.admission
        # There is time for what is in work, though not for reading.
        admission._effort.seconds = 0.02
        with admission.admitted("another", Deadline.never()):
            answer = await stub.Rank(made)
    assert [hit.id for hit in answer.results] == ["C", "D", "B", "A"]
    assert pb.DEGRADED_REASON_DEADLINE in {note.reason for note in answer.degraded}
    assert isinstance(bench.judge, WordJudge)
    assert (bench.encoder.calls, bench.judge.calls) == ([], [])
    # What the index is, is asked for the next ones' sake; neither items nor events are.
    assert bench.catalogue.reads == ["index"]
    assert refusals(bench) == {}


async def test_the_first_stage_is_reading(bench: Bench) -> None:
    async with serving(bench) as stub:
        answer = await stub.Rank(request(query="computer"))
        with pytest.raises(grpc.RpcError):
            await stub.Rank(request("A", "A"))
    first = answer.stages[0]
    assert (first.name, first.candidates) == ("read", 4)
    assert first.milliseconds > 0
    assert [stage.name for stage in answer.stages].count("read") == 1
    name = "neuralrank_stage_seconds_count"
    assert bench.metrics.registry.get_sample_value(name, {"stage": "read"}) == 2


@pytest.mark.parametrize(
    ("made", "threads"),
    [
        (many(MANY_CANDIDATES), {"MainThread"}),
        # The message is short: it is decoded in place.
        (many(MANY_CANDIDATES + 1), {"MainThread", "read_0"}),
        (long(), {"read_0"}),
    ],
    ids=["small", "many", "long"],
)
async def test_large_requests_are_read_beside_the_event_loop_and_small_ones_in_it(
    bench: Bench, steps: Steps, made: pb.RankRequest, threads: set[str]
) -> None:
    async with serving(bench) as stub:
        answer = await stub.Rank(made)
    assert len(answer.results) == len(made.candidates)
    assert (steps.done, steps.threads) == (["decode", "read"], threads)


async def test_a_large_encode_is_read_there_too(bench: Bench, steps: Steps) -> None:
    passages = [pb.EncodeInput(passage="x" * 16_000)] * 40
    async with serving(bench) as stub:
        answer = await stub.Encode(pb.EncodeRequest(inputs=passages))
        assert len(answer.encodings) == 40
        assert steps.threads == {"read_0"}
        await stub.Encode(pb.EncodeRequest(inputs=passages[:1]))
    assert steps.threads == {"read_0", "MainThread"}


@pytest.mark.parametrize(("made", "held"), [(long(), "decode"), (many(600), "read")])
async def test_others_are_answered_while_a_large_request_is_read(
    bench: Bench, steps: Steps, made: pb.RankRequest, held: str
) -> None:
    steps.held = held
    async with serving(bench) as stub:
        large = asyncio.ensure_future(stub.Rank(made))
        await steps.are_held()
        small = await stub.Rank(request(query="computer"))
        assert len(small.results) == 4
        assert not large.done()
        steps.go.set()
        assert len((await large).results) == len(made.candidates)


async def test_of_a_large_request_that_is_cancelled_no_more_is_read(
    bench: Bench, steps: Steps
) -> None:
    steps.held = "decode"
    async with serving(bench) as stub:
        gone = stub.Rank(long())
        await steps.are_held()
        gone.cancel()
        while count(bench, "Rank", "CANCELLED") < 1:
            await asyncio.sleep(0)
        assert stub.service.admission.in_flight == 0
        steps.go.set()
        assert len((await stub.Rank(long())).results) == 40
    assert steps.done == ["decode", "decode", "read"]


async def test_large_requests_leave_places_to_small_ones(bench: Bench, steps: Steps) -> None:
    steps.held = "decode"
    async with serving(bench, max_in_flight=4, caller_rate=1, caller_burst=3) as stub:
        large = asyncio.ensure_future(stub.Rank(long()))
        await steps.are_held()
        with pytest.raises(grpc.RpcError, match="1 large requests are being read, allowed are 1"):
            await stub.Rank(long())
        # It cost its caller nothing: there is one left, and no more.
        await stub.Rank(request(query="computer"))
        await stub.Rank(request(query="computer"))
        with pytest.raises(grpc.RpcError, match="asks too often"):
            await stub.Rank(request(query="computer"))
        steps.go.set()
        await large
    assert refusals(bench) == {"in_flight": 1, "caller_limit": 1}


@pytest.mark.parametrize("method", ["Rank", "Encode"])
@pytest.mark.parametrize(
    ("settings", "reason", "code"),
    [
        ({"caller_concurrency": 1}, "caller_limit", "RESOURCE_EXHAUSTED"),
        ({"max_in_flight": 1}, "in_flight", "RESOURCE_EXHAUSTED"),
        ({"max_busy_percent": 85}, "busy", "RESOURCE_EXHAUSTED"),
        ({"max_deadline_ms": 100, "http_deadline_ms": 100}, "late", "RESOURCE_EXHAUSTED"),
        ({}, "stopping", "UNAVAILABLE"),
    ],
)
async def test_who_is_refused_has_nothing_counted_or_decoded(
    bench: Bench, steps: Steps, method: str, settings: dict[str, int], reason: str, code: str
) -> None:
    async with serving(bench, **{**settings, "deadline_ms": 50}) as stub:
        admission = stub.service.admission
        with ExitStack() as held:
            held.enter_context(admission.admitted("127.0.0.1", Deadline.never()))
            if reason == "busy":
                admission.busy.note(working=1.0, idle=0.0)
            elif reason == "late":
                admission._effort.seconds = 0.2
            elif reason == "stopping":
                admission.close()
            call = stub.channel.unary_unary(f"/neuralrank.v1.Ranking/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                await call(b"no message")
    assert caught.value.code().name == code
    assert (steps.done, refusals(bench), count(bench, method, code)) == ([], {reason: 1}, 1)


async def test_who_has_too_little_time_is_refused_when_it_is_known_and_counts_once(
    bench: Bench, steps: Steps
) -> None:
    hurried = request(query="computer", options=pb.RankOptions(deadline_ms=100))
    async with serving(bench, caller_rate=1, caller_burst=1) as stub:
        admission = stub.service.admission
        with admission.admitted("another", Deadline.never()):
            admission._effort.seconds = 0.2
            with pytest.raises(grpc.RpcError, match="1 requests are in work, which take 200 ms"):
                await stub.Rank(hurried)
            # Decoded, as its deadline is in it; read it was not.
            assert steps.done == ["decode"]
            # A refusal makes no more of them.
            assert admission._effort.seconds == pytest.approx(0.2 * 0.99)
            assert admission.in_flight == 1
            # Its caller may ask as often as before: once.
            await stub.Rank(request(query="computer"))
            with pytest.raises(grpc.RpcError, match="asks too often"):
                await stub.Rank(request(query="computer"))
    assert refusals(bench) == {"late": 1, "caller_limit": 1}


async def test_a_request_that_cannot_be_used_counts_for_the_rate(bench: Bench) -> None:
    async with serving(bench, caller_rate=1, caller_burst=1) as stub:
        with pytest.raises(grpc.RpcError, match="comes twice"):
            await stub.Rank(request("A", "A"))
        with pytest.raises(grpc.RpcError, match="asks too often"):
            await stub.Rank(request("A"))


async def test_model_status_is_held_to_tokens_and_to_no_limit(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("shop: 0123456789abcdef\n")
    limits = {"caller_rate": 1, "caller_burst": 1, "max_in_flight": 1}
    settings = {**limits, "tokens": str(tmp_path / "tokens")}
    metadata = [("authorization", "Bearer 0123456789abcdef")]
    async with serving(bench, **settings) as stub:
        for _ in range(3):
            await stub.ModelStatus(pb.ModelStatusRequest(), metadata=metadata)
        with stub.service.admission.admitted("another", Deadline.never()):
            await stub.ModelStatus(pb.ModelStatusRequest(), metadata=metadata)
        with pytest.raises(grpc.RpcError) as caught:
            await stub.ModelStatus(pb.ModelStatusRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refusals(bench) == {"unauthenticated": 1}


@pytest.mark.parametrize("name", ["services.md", "security.md"])
def test_the_documents_say_what_is_large(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    assert f"{LARGE_BYTES // 1024} KiB" in text
    assert f"{MANY_CANDIDATES} candidates" in text

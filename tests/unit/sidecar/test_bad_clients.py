"""Clients that are slow, silent, gone, or too many: what they cost the others."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from neuralrank.client.channel import Access, Route
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.rpc.transport import PERMITTED_PING_MS, server_options
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings
from tests.unit.sidecar.secured import Files, secured

OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
REQUEST = pb.RankRequest(query="x", candidates=[pb.Candidate(id="a"), pb.Candidate(id="b")])
# How HTTP/2 begins: the preface, and an empty SETTINGS frame.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
# The header of a HEADERS frame of 200 bytes, which then do not come.
HALF_A_REQUEST = b"\x00\x00\xc8\x01\x04\x00\x00\x00\x01"


def channel(made: Sidecar) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{made.port}", OPTIONS)


async def ranked(made: Sidecar) -> bool:
    async with channel(made) as opened:
        answer = await pb_grpc.RankingStub(opened).Rank(REQUEST, timeout=20)
    return len(answer.results) == 2


def hold(made: Sidecar) -> tuple[asyncio.Semaphore, asyncio.Event]:
    """Each ranking that begins releases the first, and goes on when the second is set."""
    begun, go = asyncio.Semaphore(0), asyncio.Event()
    rank = made._service._ranker.rank

    async def held(*arguments: Any) -> Any:
        begun.release()
        await go.wait()
        return await rank(*arguments)

    made._service._ranker.rank = held  # type: ignore[method-assign]
    return begun, go


def value(made: Sidecar, name: str, **labels: str) -> float:
    return made.metrics.registry.get_sample_value(name, labels) or 0.0


async def until(what: Any) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("tls", [False, True])
async def test_who_does_not_finish_the_handshake_is_cut_off_and_others_are_served(
    tmp_path: Path, tls: bool, said: bytes
) -> None:
    settings = Files(tmp_path).settings() if tls else {}
    async with secured(tmp_path, **settings, handshake_seconds=0.1) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(said)
        if not tls:
            assert await ranked(made)
        async with asyncio.timeout(20):
            # Its end of the connection, after whatever the sidecar says to it.
            try:
                while await reader.read(4_096):
                    pass
            except ConnectionResetError:
                pass
        writer.close()


async def test_many_that_stop_in_the_middle_of_a_request_hold_up_nobody(tmp_path: Path) -> None:
    async with secured(tmp_path) as made:
        slow = [await asyncio.open_connection("127.0.0.1", made.port) for _ in range(100)]
        for _, writer in slow:
            writer.write(PREFACE + HALF_A_REQUEST)
            await writer.drain()
        assert all([await ranked(made) for _ in range(10)])
        # They are no requests yet, and take nobody's place.
        assert value(made, "neuralrank_in_flight_requests") == 0
        for _, writer in slow:
            writer.close()


async def test_cancelled_calls_give_their_places_back(tmp_path: Path) -> None:
    limits = {"max_in_flight": 100, "caller_concurrency": 100}
    async with secured(tmp_path, **limits) as made, channel(made) as opened:
        begun, go = hold(made)
        stub = pb_grpc.RankingStub(opened)
        calls = [stub.Rank(REQUEST, timeout=60) for _ in range(100)]
        waiting = [asyncio.ensure_future(call.wait_for_connection()) for call in calls]
        for _ in calls:
            await begun.acquire()
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(REQUEST, timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: value(made, "neuralrank_in_flight_requests") == 0)
        cancelled = value(made, "neuralrank_requests_total", method="Rank", status="CANCELLED")
        assert cancelled == 100
        go.set()
        assert len((await stub.Rank(REQUEST, timeout=60)).results) == 2


async def test_a_message_over_the_limit_is_refused_alone(tmp_path: Path) -> None:
    async with secured(tmp_path, max_message_bytes=2**16) as made, channel(made) as opened:
        stub = pb_grpc.RankingStub(opened)
        large = pb.RankRequest(query="x", candidates=[pb.Candidate(id="a", text="x" * 2**17)])
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(large, timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len((await stub.Rank(REQUEST, timeout=20)).results) == 2


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_what_is_compressed_is_refused_and_not_unpacked(
    tmp_path: Path, kind: grpc.Compression
) -> None:
    async with secured(tmp_path) as made, channel(made) as opened:
        stub = pb_grpc.RankingStub(opened)
        large = pb.RankRequest(query="x", candidates=[pb.Candidate(id="a", text="x" * 2**14)])
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(large, compression=kind, timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "is disabled" in (caught.value.details() or "")
        assert len((await stub.Rank(REQUEST, timeout=20)).results) == 2


async def test_streams_beyond_the_limit_wait_at_the_client_and_are_answered(
    tmp_path: Path,
) -> None:
    # One that comes just when another ends may be refused, and is tried again.
    options = [*OPTIONS, *Route.to("127.0.0.1:1", Access()).options]
    async with (
        secured(tmp_path, max_streams=4) as made,
        grpc.aio.insecure_channel(f"127.0.0.1:{made.port}", options) as opened,
    ):
        begun, go = hold(made)
        stub = pb_grpc.RankingStub(opened)
        # The client knows the limit from the first answer on.
        go.set()
        await stub.Rank(REQUEST, timeout=60)
        go.clear()
        await begun.acquire()
        calls = [asyncio.ensure_future(stub.Rank(REQUEST, timeout=60)) for _ in range(20)]
        for _ in range(4):
            await begun.acquire()
        assert value(made, "neuralrank_in_flight_requests") == 4
        go.set()
        answers = await asyncio.gather(*calls)
        assert [len(answer.results) for answer in answers] == [2] * 20


async def test_an_old_connection_is_ended_and_no_call_is_lost(tmp_path: Path) -> None:
    async with secured(tmp_path, max_connection_age_seconds=0.2) as made:
        seen = set()
        rank = made._service._answer

        async def noted(method: str, context: Any, *rest: Any, **named: Any) -> Any:
            seen.add(context.peer())
            return await rank(method, context, *rest, **named)

        made._service._answer = noted  # type: ignore[method-assign]
        async with channel(made) as opened, asyncio.timeout(30):
            stub = pb_grpc.RankingStub(opened)
            while len(seen) < 3:
                assert len((await stub.Rank(REQUEST, timeout=20)).results) == 2


def test_the_settings_reach_grpc() -> None:
    settings = SidecarSettings(
        keepalive_seconds=30, keepalive_timeout_seconds=5, max_connection_age_seconds=60
    )
    options = dict(server_options(settings, shared_port=True))
    assert options["grpc.keepalive_time_ms"] == 30_000
    assert options["grpc.keepalive_timeout_ms"] == 5_000
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == PERMITTED_PING_MS
    assert options["grpc.max_connection_age_ms"] == 60_000
    # Whatever a request may take, it is answered before its connection goes.
    assert options["grpc.max_connection_age_grace_ms"] > settings.max_deadline_ms
    assert options["grpc.so_reuseport"] == 1
    without = dict(server_options(SidecarSettings(max_connection_age_seconds=0), shared_port=False))
    assert "grpc.max_connection_age_ms" not in without
    assert without["grpc.so_reuseport"] == 0

"""Stopping a whole sidecar, over real gRPC; neither models nor OpenSearch are there."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings
from tests.unit.answering import answering

NO_PROXY = [("grpc.enable_http_proxy", 0)]


def sidecar(folder: Path, port: int = 1, read_ms: int = 200, **given: str) -> Sidecar:
    return Sidecar(
        SidecarSettings(
            listen="127.0.0.1:0",
            drain_seconds=600,
            opensearch_timeout_ms=100,
            opensearch_read_ms=read_ms,
            **given,
        ),
        Settings(opensearch_url=f"http://127.0.0.1:{port}", registry=str(folder)),
    )


def hold(made: Sidecar) -> tuple[asyncio.Semaphore, asyncio.Event]:
    """Each ranking that begins releases the first, and goes on when the second is set."""
    arrived, go = asyncio.Semaphore(0), asyncio.Event()
    rank = made._service._ranker.rank

    async def held(*arguments: Any) -> Any:
        arrived.release()
        await go.wait()
        return await rank(*arguments)

    made._service._ranker.rank = held  # type: ignore[method-assign]
    return arrived, go


async def test_requests_under_way_are_answered_and_a_watcher_holds_up_nothing(
    tmp_path: Path,
) -> None:
    made = sidecar(tmp_path)
    await made.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{made.port}", NO_PROXY) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        stub = pb_grpc.RankingStub(channel)
        request = pb.RankRequest(query="x", candidates=[pb.Candidate(id="a"), pb.Candidate(id="b")])
        arrived, go = hold(made)
        calls = [asyncio.ensure_future(stub.Rank(request, timeout=30)) for _ in range(20)]
        async with asyncio.timeout(30):
            for _ in calls:
                await arrived.acquire()
            stopping = asyncio.ensure_future(made.stop())
            go.set()
            answers = await asyncio.gather(*calls)
            await stopping
        assert all([hit.id for hit in answer.results] == ["a", "b"] for answer in answers)


async def test_after_the_end_a_request_is_unavailable_and_a_second_stop_does_nothing(
    tmp_path: Path,
) -> None:
    made = sidecar(tmp_path)
    await made.start()
    await made.stop()
    await made.stop()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{made.port}", NO_PROXY) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await pb_grpc.RankingStub(channel).Rank(pb.RankRequest(query="x"), timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_models_serve_where_opensearch_hangs(
    tmp_path: Path, cross_encoder_bundle: Bundle
) -> None:
    asked = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    opensearch = await asyncio.start_server(hang, "127.0.0.1", 0)
    Registry(str(tmp_path)).publish(cross_encoder_bundle)
    made = sidecar(tmp_path, opensearch.sockets[0].getsockname()[1], read_ms=60_000)
    await made.start()
    try:
        async with asyncio.timeout(50):
            await made.loaded()
        assert asked.is_set()
        assert list(made.models.serving.loaded) == [cross_encoder_bundle.ref]
    finally:
        await made.stop()
        ended.set()
        opensearch.close()


async def test_a_sidecar_without_a_model_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = sidecar(tmp_path)
    await made.start()
    try:
        await made.loaded()
        await made.models.refresh()
    finally:
        await made.stop()
    said = [vars(record) for record in caplog.records if "no model serves" in record.message]
    assert [record["registry"] for record in said] == [str(tmp_path)]


async def test_bundles_are_held_to_earlier_ones_once_there_are_some(
    tmp_path: Path, cross_encoder_bundle: Bundle
) -> None:
    made = sidecar(tmp_path, registry_poll_seconds="0.01")
    held, refresh = asyncio.Semaphore(0), made.models.refresh
    looks = 0

    async def looking() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:  # what could not be read can
            Registry(str(tmp_path)).publish(cross_encoder_bundle)
        await refresh()

    async def holding() -> None:
        assert made.models.serving.loaded
        held.release()

    made.models.refresh = looking  # type: ignore[method-assign]
    made.models.hold_to_earlier = holding  # type: ignore[method-assign]
    await made.start()
    try:
        async with asyncio.timeout(50):
            await held.acquire()
            before = looks
            while looks < before + 3:
                await asyncio.sleep(0.01)
        assert held.locked()
    finally:
        await made.stop()


@pytest.mark.parametrize(("shards", "named"), [(0, {"clicks"}), (1, set())])
async def test_where_there_is_no_index_of_events_the_start_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shards: int, named: set[str]
) -> None:
    # As OpenSearch answers a search of an index that is not there, and need not be.
    found = {"_shards": {"total": shards, "successful": shards}, "hits": {"hits": []}}
    with answering((200, {"responses": [found, found]})) as opensearch:
        port = int(opensearch.url.rpartition(":")[2])
        made = sidecar(tmp_path, port, read_ms=20_000, events_index="clicks")
        await made.load()
        await made._warm()
        await made.stop()
    said = [vars(record) for record in caplog.records if "no index of events" in record.message]
    assert {record["events_index"] for record in said} == named


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"default_cross_encoder": "tiny-pears"}, [{"cross_encoder": "tiny-pears"}]),
        ({"default_encoder": "{name}"}, [{"encoder": "{name}"}]),  # a cross-encoder's name
        ({"personal_ranker": "nobody"}, [{"personal_ranker": "nobody"}]),
        ({"default_cross_encoder": "{name}", "personal_ranker": "none"}, []),
        ({"default_cross_encoder": "{ref}"}, []),
        ({}, []),
    ],
)
async def test_a_setting_that_names_no_bundle_in_service_is_said_once(
    tmp_path: Path,
    cross_encoder_bundle: Bundle,
    caplog: pytest.LogCaptureFixture,
    given: dict[str, str],
    named: list[dict[str, str]],
) -> None:
    name = cross_encoder_bundle.ref.partition("@")[0]

    def known(texts: dict[str, str]) -> dict[str, str]:
        return {
            one: text.format(name=name, ref=cross_encoder_bundle.ref) for one, text in texts.items()
        }

    Registry(str(tmp_path)).publish(cross_encoder_bundle)
    made = sidecar(tmp_path, registry_poll_seconds="0.01", **known(given))
    await made.start()
    try:
        await made.loaded()
        looked, refresh = asyncio.Semaphore(0), made.models.refresh

        async def looking() -> None:
            await refresh()
            looked.release()

        made.models.refresh = looking  # type: ignore[method-assign]
        for _ in range(3):
            await looked.acquire()
    finally:
        await made.stop()
    said = [vars(record) for record in caplog.records if "settings give" in record.message]
    assert [record["named"] for record in said] == list(map(known, named))

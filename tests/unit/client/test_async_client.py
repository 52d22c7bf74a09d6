"""The client for asyncio against whole sidecars: the same as the other, without a thread."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import neuralrank
from neuralrank import Access, AsyncClient, Client
from neuralrank.errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidSettings,
    NotFound,
    Overloaded,
    Unauthenticated,
    Unavailable,
)
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from tests.unit.client.test_client import REQUEST, SECRET, at, count, served
from tests.unit.sidecar.secured import Files, as_serving, secured


async def test_it_ranks_and_says_what_serves(tmp_path: Path) -> None:
    async with secured(tmp_path) as made, AsyncClient(at(made), 20) as client:
        answer = await client.rank(REQUEST)
        assert [hit.id for hit in answer.results] == ["a", "b"]
        assert list((await client.model_status()).bundles) == []
        with pytest.raises(NotFound, match="No encoder is served"):
            await client.encode(queries=["x"])
        with pytest.raises(InvalidInput, match="twice"):
            await client.rank(pb.RankRequest(candidates=[pb.Candidate(id="a")] * 2))


async def test_many_calls_share_a_channel(tmp_path: Path) -> None:
    async with secured(tmp_path) as made, AsyncClient(at(made), 20) as client:
        requests = [
            pb.RankRequest(query="x", candidates=[pb.Candidate(id=str(i))]) for i in range(50)
        ]
        answers = await asyncio.gather(*map(client.rank, requests))
        assert [answer.results[0].id for answer in answers] == [str(i) for i in range(50)]


async def test_it_speaks_tls_and_sends_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    (tmp_path / "tokens").write_text(f"shop: {SECRET}\n")
    monkeypatch.setenv("NEURALRANK_CLIENT_CA", str(files.ca))
    monkeypatch.setenv("NEURALRANK_CLIENT_TOKEN", SECRET)
    async with secured(tmp_path, **files.settings(), tokens=str(tmp_path / "tokens")) as made:
        async with AsyncClient.of(Settings(sidecar=at(made)), 20) as client:
            assert len((await client.rank(REQUEST)).results) == 2
        async with AsyncClient(at(made), 20, Access(str(files.ca))) as client:
            with pytest.raises(Unauthenticated, match="none was sent"):
                await client.rank(REQUEST)
        async with AsyncClient(at(made), 2, Access(token=SECRET)) as client:
            with pytest.raises(Unavailable, match="If it has TLS, name its authority"):
                await client.rank(REQUEST)


async def test_it_spreads_its_calls_and_leaves_one_that_is_stopping(tmp_path: Path) -> None:
    async with (
        secured(tmp_path) as one,
        secured(tmp_path) as two,
        AsyncClient(at(one, two), 20) as client,
    ):
        await as_serving(one, two)
        for _ in range(1_000):
            await client.rank(REQUEST)
            if served(one) and served(two):
                break
        before = served(one), served(two)
        for _ in range(20):
            await client.rank(REQUEST)
        assert (served(one), served(two)) == (before[0] + 10, before[1] + 10)
        one._service.admission.close()
        for _ in range(20):
            await client.rank(REQUEST)
        assert served(two) == before[1] + 30
        assert count(one, "neuralrank_refused_requests_total", reason="stopping") > 0


async def test_what_is_too_much_is_not_tried_again(tmp_path: Path) -> None:
    async with (
        secured(tmp_path, caller_rate=0.01, caller_burst=1) as made,
        AsyncClient(at(made), 20) as client,
    ):
        await client.rank(REQUEST)
        with pytest.raises(Overloaded, match="asks too often"):
            await client.rank(REQUEST)
        assert count(made, "neuralrank_refused_requests_total", reason="caller_limit") == 1


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """The address of somebody who takes connections and says nothing."""
    # Held here: a task that waits for something nobody holds may be collected, in another test.
    ended = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        ended.set()
        server.close()


async def test_a_call_ends_in_its_time_and_with_its_task() -> None:
    async with silent() as address, AsyncClient(address, 60) as client:
        with pytest.raises(Unavailable, match="No connection to one that serves came about"):
            await client.rank(REQUEST, timeout=0.05)
        call = asyncio.create_task(client.rank(REQUEST))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("timeout", [0.01, 0.2])
async def test_a_wrong_address_is_not_taken_for_slowness(timeout: float) -> None:
    """The time is up while the call is still tried again."""
    unreachable = "127.0.0.1:1 can't be reached. .* NEURALRANK_SIDECAR"
    with Client("127.0.0.1:1", timeout) as client:
        for _ in range(2):
            with pytest.raises(Unavailable, match=unreachable):
                await asyncio.to_thread(client.rank, REQUEST)
    async with AsyncClient("127.0.0.1:1", timeout) as other:
        with pytest.raises(Unavailable, match=unreachable):
            await other.rank(REQUEST)


async def test_a_sidecar_that_is_reached_and_slow_is_said_to_be_slow(tmp_path: Path) -> None:
    async with secured(tmp_path) as made:

        async def endless(*_: object) -> None:
            await asyncio.Event().wait()

        with Client(at(made), 20) as client:
            await asyncio.to_thread(client.rank, REQUEST)
            async with AsyncClient(at(made), 20) as other:
                await other.rank(REQUEST)
                made._service._ranker.rank = endless  # type: ignore[method-assign, assignment]
                with pytest.raises(DeadlineExceeded, match="did not answer in time"):
                    await asyncio.to_thread(client.rank, REQUEST, timeout=0.05)
                with pytest.raises(DeadlineExceeded, match="did not answer in time"):
                    await other.rank(REQUEST, timeout=0.05)


async def test_calls_of_a_client_that_is_closed_fail_as_calls_do() -> None:
    async with silent() as address:
        client = AsyncClient(address, 60)
        call = asyncio.create_task(client.rank(REQUEST))
        await asyncio.sleep(0)
        await client.close()
        for left in (call, client.rank(REQUEST)):
            with pytest.raises(Unavailable, match="is closed"):
                await left
        other = Client(address, 60)
        waiting = asyncio.create_task(asyncio.to_thread(other.rank, REQUEST))
        await asyncio.to_thread(other.close)
        for left in (waiting, asyncio.to_thread(other.rank, REQUEST)):
            with pytest.raises(Unavailable, match="is closed"):
                await left


async def test_it_says_that_it_belongs_to_another_event_loop(tmp_path: Path) -> None:
    async with secured(tmp_path) as made, AsyncClient(at(made), 20) as client:
        await client.rank(REQUEST)
        with pytest.raises(InvalidInput, match="Make one for each loop"):
            await asyncio.to_thread(asyncio.run, client.rank(REQUEST))


async def test_it_is_made_without_an_event_loop_and_looks_at_its_files_at_once(
    tmp_path: Path,
) -> None:
    async with secured(tmp_path) as made:
        client = await asyncio.to_thread(AsyncClient, at(made), 20)
        assert len((await client.rank(REQUEST)).results) == 2
        await client.close()
    never_used = await asyncio.to_thread(AsyncClient, "127.0.0.1:1")
    await never_used.close()
    with pytest.raises(InvalidSettings, match="can't be read"):
        AsyncClient("x:1", access=Access(ca="/nowhere/ca.pem"))


def methods(kind: type) -> dict[str, Callable[..., Any]]:
    return {
        name: method
        for name, method in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    assert set(methods(Client)) == set(methods(AsyncClient))
    for name, method in methods(Client).items():
        assert inspect.signature(method) == inspect.signature(methods(AsyncClient)[name]), name


def test_what_the_package_exports_is_there_and_nothing_else() -> None:
    assert all(hasattr(neuralrank, name) for name in neuralrank.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Ranker'"):
        neuralrank.Ranker  # noqa: B018

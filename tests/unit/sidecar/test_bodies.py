"""Receiving bodies: what all of them may take together."""

import asyncio
import math
import time

import pytest

from neuralrank.errors import Overloaded
from sidecar.http.body import Message, Receive, Room, receive_body
from sidecar.http.problems import TooLarge
from tests.unit.sidecar.parts import Bench, WordJudge
from tests.unit.sidecar.web import web

KIB = 2**10


def pieces(*sizes: int, whole: bool = True) -> Receive:
    """A body of pieces of so many bytes each; not whole, it is waited for after them."""
    left = list(sizes)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        body = b"a" * left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or not whole}

    return receive


async def received(receive: Receive, room: Room, most: int = 2**20) -> bytes | None:
    now = time.monotonic()
    return await receive_body(receive, most=most, arrived=now, seconds=math.inf, room=room)


async def test_of_each_body_the_first_64_kib_are_received_in_any_case() -> None:
    room = Room(0)
    assert await received(pieces(32 * KIB, 32 * KIB), room) == b"a" * 64 * KIB
    with pytest.raises(Overloaded, match="allowed are 0 together; 65,536 of each don't count"):
        await received(pieces(32 * KIB, 32 * KIB, 1), room)


async def test_what_is_on_its_way_takes_room_until_it_is_whole_refused_or_given_up() -> None:
    room = Room(100 * KIB)
    waiting = asyncio.ensure_future(received(pieces(164 * KIB, whole=False), room))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="Bodies of 102,400 bytes are being received"):
        await received(pieces(65 * KIB), room)
    assert await received(pieces(64 * KIB), room)
    waiting.cancel()
    await asyncio.wait({waiting})
    for _ in range(3):
        assert await received(pieces(100 * KIB, 64 * KIB), room)
        with pytest.raises(TooLarge):
            await received(pieces(100 * KIB, 64 * KIB), room, most=150 * KIB)
        with pytest.raises(Overloaded):
            await received(pieces(100 * KIB, 65 * KIB), room)


async def test_who_finds_no_room_is_told_to_come_back() -> None:
    bench = Bench(judge=WordJudge())
    body = {"query": "red", "documents": ["x" * 50 * KIB] * 2}
    try:
        async with web(bench, http_max_body_bytes=128 * KIB) as client:
            app = client._transport.app  # type: ignore[attr-defined]
            app._room.take(512 * KIB)
            answer = await client.post("/v1/rerank", json=body)
            assert answer.status_code == 429
            assert "Bodies of 524,288 bytes are being received" in answer.json()["message"]
            app._room.give(512 * KIB)
            assert (await client.post("/v1/rerank", json=body)).status_code == 200
    finally:
        await bench.close()
    refused = bench.metrics.registry.get_sample_value(
        "neuralrank_refused_requests_total", {"reason": "bodies"}
    )
    assert refused == 1

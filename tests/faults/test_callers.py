"""What callers do to a sidecar: hang up, flood, stall, send poison. It costs themselves only."""

import asyncio
import json
import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx
import pytest

from bench.running import Running, free_port
from neuralrank.bundles.bundle import MODEL, TOKENIZER, write_bundle
from neuralrank.bundles.registry import Registry
from neuralrank.models.bert import write_bert
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from tests.faults.account import Account, ask, connect, request
from tests.faults.conftest import PRODUCTS, START
from tests.unit.conftest import CHARACTERS, CONFIG, tiny_tokenizer, tiny_weights

_FLOOD = 300
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# What no model may be given without the next line noticing: its vector is not a number.
_POISON = "9"


def texts(*words: str, **options: Any) -> pb.RankRequest:
    """A request that carries its own texts and needs no OpenSearch."""
    rows = [pb.Candidate(id=str(n), text=text) for n, text in enumerate(words)]
    return pb.RankRequest(query="red phone", candidates=rows, **options)


async def test_calls_that_are_cancelled_leave_nothing_behind(
    start: START, account: Account
) -> None:
    sidecar = start()
    await asyncio.to_thread(sidecar.ready)
    chance = random.Random(0)
    async with connect(sidecar.address) as channel:
        await ask(channel, [request()], account)
        before = sidecar.usage()
        stub = pb_grpc.RankingStub(channel)  # type: ignore[no-untyped-call]
        for _ in range(10):
            calls = [stub.Rank(request(user=f"u{n}"), timeout=10) for n in range(20)]
            await asyncio.sleep(chance.random() * 0.02)
            for call in calls:
                call.cancel()
                account.fault("cancelled call")
                with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await call
        # As many as may be in work: were one slot still taken, one would be refused.
        outcomes = await ask(channel, [request(user=f"v{n}") for n in range(16)], account)
        assert {outcome.status for outcome in outcomes} == {"OK"}
        after = sidecar.usage()
        assert after.files <= before.files + 40  # connections to OpenSearch, which are kept
        assert after.threads <= before.threads + 20


async def test_poisoned_requests_fail_alone(start: START, account: Account) -> None:
    sidecar = start()
    await asyncio.to_thread(sidecar.ready)
    nan = float("nan")
    poisoned = [
        pb.RankRequest(candidates=[pb.Candidate(id="x", retrieval_score=nan)]),
        pb.RankRequest(candidates=[pb.Candidate(id="x", vector=b"123")]),
        pb.RankRequest(candidates=[pb.Candidate(id="x", vector=struct.pack("<32f", *[nan] * 32))]),
        pb.RankRequest(candidates=[pb.Candidate(id="x"), pb.Candidate(id="x")]),
        pb.RankRequest(candidates=[pb.Candidate(id="")]),
        pb.RankRequest(query="x" * 3_000, candidates=[pb.Candidate(id="x")]),
        pb.RankRequest(candidates=[pb.Candidate(id="x", price=nan)]),
    ]
    async with connect(sidecar.address) as channel:
        good = [texts("red phone", f"blue kettle {n}") for n in range(len(poisoned))]
        mixed = [one for pair in zip(good, poisoned, strict=True) for one in pair]
        outcomes = await ask(channel, mixed, account)
    account.fault("poisoned request", len(poisoned))
    assert {outcome.status for outcome in outcomes[::2]} == {"OK"}
    assert all(outcome.ids == {"0", "1"} for outcome in outcomes[::2])
    refused = {outcome.status for outcome in outcomes[1::2]}
    assert refused == {"INVALID_ARGUMENT"}, [outcome.message for outcome in outcomes[1::2]]


async def test_a_text_that_breaks_the_model_costs_its_own_request_only(
    start: START, account: Account, tmp_path: Path, registry: str
) -> None:
    # A model that is well until it reads one character: what overflows in int8 or fp16 looks so.
    models = Registry(str(tmp_path / "models"))
    models.publish(Registry(registry).get("tiny-encoder"))
    folder = tmp_path / "brittle"
    folder.mkdir()
    weights = tiny_weights()
    words = weights["embeddings.word_embeddings.weight"]
    words[4 + CHARACTERS.index(_POISON)] = np.nan
    onnx.save(write_bert(weights, CONFIG, "score", "fp32"), str(folder / MODEL))
    tiny_tokenizer().save(str(folder / TOKENIZER))
    fields = {"name": "brittle", "kind": "cross_encoder", "max_tokens": 64, "precision": "fp32"}
    models.publish(write_bundle(folder, fields))
    sidecar = start(registry=models.url)
    await asyncio.to_thread(sidecar.ready)
    # However busy the machine is: what is not read for lack of time breaks nothing.
    patient = pb.RankOptions(deadline_ms=5_000)
    good = [texts("red phone", f"blue kettle{chr(97 + n)}", options=patient) for n in range(8)]
    bad = [texts("red phone", f"phone {_POISON}{chr(97 + n)}", options=patient) for n in range(4)]
    async with connect(sidecar.address) as channel:
        alone = await ask(channel, good, account)
        assert {"brittle"} == {b.split("@")[0] for o in alone for b in o.reply.bundles}
        # Other texts, so that no cached score hides what the batch does.
        good = [texts("red phone", f"blue kettle{chr(110 + n)}", options=patient) for n in range(8)]
        mixed = [*good[:4], *bad, *good[4:]]
        outcomes = await ask(channel, mixed, account)
    account.fault("text that breaks the model", len(bad))
    by_kind = {"good": outcomes[:4] + outcomes[8:], "bad": outcomes[4:8]}
    assert {outcome.status for outcome in outcomes} == {"OK"}
    for outcome in by_kind["good"]:
        assert outcome.degraded == set()
        assert all(np.isfinite(hit.score) for hit in outcome.reply.results)
    for outcome in by_kind["bad"]:
        assert outcome.ids == {"0", "1"}
        assert outcome.degraded == {"MODEL_UNAVAILABLE"}
        assert all(np.isfinite(hit.score) for hit in outcome.reply.results)


async def test_a_flood_of_connections_does_not_keep_others_out(
    start: START, account: Account
) -> None:
    sidecar = start()
    await asyncio.to_thread(sidecar.ready)
    host, port = "127.0.0.1", sidecar.port
    flood = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(_FLOOD)))
    chance = random.Random(0)
    try:
        for number, (_, writer) in enumerate(flood):
            # Silent, half a preface, HTTP/1, or noise.
            said = (b"", _PREFACE[:10], b"GET / HTTP/1.1\r\n\r\n", chance.randbytes(64))
            writer.write(said[number % len(said)])
        account.fault("connection of a flood", len(flood))
        async with connect(sidecar.address) as channel:
            outcomes = await ask(channel, [request(user=f"u{n}") for n in range(8)], account)
        assert {outcome.status for outcome in outcomes} == {"OK"}
    finally:
        for _, writer in flood:
            writer.close()
    assert sidecar.process.poll() is None


async def test_clients_that_never_read_hold_up_neither_others_nor_the_end(
    start: START, account: Account
) -> None:
    sidecar = start()
    await asyncio.to_thread(sidecar.ready)
    stalled = [await _stalled(sidecar) for _ in range(8)]
    account.fault("client that does not read", len(stalled))
    try:
        async with connect(sidecar.address) as channel:
            outcomes = await ask(channel, [request(user=f"u{n}") for n in range(8)], account)
        assert {outcome.status for outcome in outcomes} == {"OK"}
        assert await asyncio.to_thread(sidecar.stop, 12.0) == 0
    finally:
        for writer in stalled:
            writer.close()


async def test_more_requests_than_it_takes_are_refused_at_once(
    start: START, account: Account
) -> None:
    sidecar = start(max_in_flight=4)
    await asyncio.to_thread(sidecar.ready)
    async with connect(sidecar.address) as channel:
        outcomes = await ask(channel, [request(user=f"u{n}") for n in range(200)], account)
    account.fault("request beyond the bound", 196)
    statuses = {outcome.status for outcome in outcomes}
    assert statuses <= {"OK", "RESOURCE_EXHAUSTED"}
    answered = [outcome for outcome in outcomes if outcome.status == "OK"]
    assert len(answered) >= 4
    assert all(outcome.ids == set(PRODUCTS) for outcome in answered)


async def test_http_clients_that_stall_or_hang_up_lose_their_own_connection_only(
    start: START, account: Account
) -> None:
    port = free_port()
    sidecar = start(
        http_listen=f"127.0.0.1:{port}",
        max_connections=40,
        handshake_seconds=0.5,
        http_body_seconds=0.5,
    )
    await asyncio.to_thread(sidecar.ready)
    before = sidecar.usage()
    asked = {"query": "red phone", "texts": ["red phone", "blue kettle"]}
    body = json.dumps(asked).encode()
    head = b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    kinds = {
        "silent HTTP connection": b"",
        "slow HTTP head": head,
        "slow HTTP body": head + b"Content-Length: 1000\r\n\r\n{",
        "HTTP client that hangs up": whole,
    }
    opened = []
    for _ in range(15):
        for name, said in kinds.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            account.fault(name)
            if said == whole:
                writer.close()
            else:
                opened.append((reader, writer))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        # More than there may be; whether it is alive can be asked all the same.
        assert (await client.get("/healthz")).status_code == 200
        async with asyncio.timeout(20):
            for reader, writer in opened:
                with suppress(ConnectionResetError):
                    while await reader.read(4_096):
                        pass
                writer.close()
        answers = [await client.post("/rerank", json=asked) for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}
    async with connect(sidecar.address) as channel:
        outcomes = await ask(channel, [request(user=f"u{n}") for n in range(8)], account)
    assert {outcome.status for outcome in outcomes} == {"OK"}
    assert sidecar.usage().files <= before.files + 40  # connections to OpenSearch, which are kept


async def _stalled(sidecar: Running) -> asyncio.StreamWriter:
    """A connection that asks for a ranking and gives the answer no window to come through."""
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    no_window = struct.pack(">HI", 4, 0)  # SETTINGS_INITIAL_WINDOW_SIZE 0
    body = request().SerializeToString()
    headers = b"".join(
        _literal(name, value)
        for name, value in (
            (":method", "POST"), (":scheme", "http"), (":path", "/neuralrank.v1.Ranking/Rank"),
            (":authority", "stalled"), ("content-type", "application/grpc"), ("te", "trailers"),
        )
    )  # fmt: skip
    writer.write(
        _PREFACE
        + _frame(4, 0, 0, no_window)
        + _frame(1, 4, 1, headers)
        + _frame(0, 1, 1, struct.pack(">BI", 0, len(body)) + body)
    )
    await writer.drain()
    return writer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header that no table holds: RFC 7541, 6.2.2."""
    return b"\0" + b"".join(bytes([len(part)]) + part.encode() for part in (name, value))


@pytest.mark.long
async def test_everything_at_once(start: START, account: Account) -> None:
    sidecar = start()
    await asyncio.to_thread(sidecar.ready)
    chance = random.Random(1)
    stalled = [await _stalled(sidecar) for _ in range(4)]
    account.fault("client that does not read", len(stalled))
    async with connect(sidecar.address) as channel:
        stub = pb_grpc.RankingStub(channel)  # type: ignore[no-untyped-call]
        for _ in range(20):
            hung_up = [stub.Rank(request(user=f"h{n}"), timeout=10) for n in range(4)]
            asking = asyncio.create_task(
                ask(channel, [request(user=f"u{n}") for n in range(4)], account)
            )
            await asyncio.sleep(chance.random() * 0.01)
            for call in hung_up:
                call.cancel()
                account.fault("cancelled call")
            assert {outcome.status for outcome in await asking} == {"OK"}
    for writer in stalled:
        writer.close()

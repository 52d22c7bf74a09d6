"""HTTP on a real sidecar: real sockets, real models, others' clients."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cohere
import grpc
import httpx
import pytest
import trustme

from neuralrank.errors import Unsupported
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings

QUERY = "wireless mouse"
DOCUMENTS = ["red electric kettle", "silent wireless mouse with two buttons", "steel mouse trap"]
TOKEN = "0123456789abcdef"


@asynccontextmanager
async def sidecar(stack: Settings, **settings: Any) -> AsyncIterator[Sidecar]:
    fixed = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "drain_seconds": 0}
    made = Sidecar(SidecarSettings(**{**fixed, **settings}), stack)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture(scope="module")
async def running(stack: Settings) -> AsyncIterator[Sidecar]:
    async with sidecar(stack, http_deadline_ms=5_000) as made:
        await made.loaded()
        yield made


async def test_cohere_s_clients_work_unchanged(running: Sidecar) -> None:
    url = f"http://127.0.0.1:{running.http_port}"

    def ask() -> list[tuple[int, int]]:
        with httpx.Client() as http:
            first = cohere.Client(api_key="any", base_url=url, httpx_client=http).rerank(
                model="rerank-english-v3.0",
                query=QUERY,
                documents=DOCUMENTS,
                return_documents=True,
            )
            second = cohere.ClientV2(api_key="any", base_url=url, httpx_client=http).rerank(
                model="rerank-v3.5", query=QUERY, documents=DOCUMENTS
            )
        return [(answer.results[0].index, len(answer.results)) for answer in (first, second)]

    assert await asyncio.to_thread(ask) == [(1, 3), (1, 3)]


async def test_both_languages_are_ranked_by_what_serves_them(running: Sidecar) -> None:
    url = f"http://127.0.0.1:{running.http_port}"
    async with httpx.AsyncClient(base_url=url) as client:
        english = await client.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS})
        chinese = await client.post(
            "/v1/rerank", json={"query": "无线鼠标", "documents": ["红色电热水壶", "静音无线鼠标"]}
        )
        ready = await client.get("/readyz")
    # Whatever else the registry holds for English.
    assert not english.json()["model"].startswith("multilingual-e5-small@")
    assert chinese.json()["model"].startswith("neuralrank-small@")
    assert [row["index"] for row in chinese.json()["results"]] == [1, 0]
    assert ready.status_code == 200


async def test_a_thousand_long_documents_cost_no_page_of_others_a_part(stack: Settings) -> None:
    documents = [
        f"mouse {n} " + f"silent wireless device {n} with buttons " * 16 for n in range(1_000)
    ]
    rows = [pb.Candidate(id=str(n), text=f"mouse {n}") for n in range(20)]
    times = {"http_deadline_ms": 60_000, "max_deadline_ms": 60_000}
    async with sidecar(stack, **times, http_max_body_bytes=2**24) as made:
        await made.loaded()
        address = f"127.0.0.1:{made.port}"
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{made.http_port}", timeout=90) as client,
            grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel,
        ):
            body = {"query": QUERY, "documents": documents}
            many = asyncio.ensure_future(client.post("/v1/rerank", json=body))
            stub = pb_grpc.RankingStub(channel)
            asked, notes = 0, set()
            while not many.done() and asked < 200:
                request = pb.RankRequest(query=f"wireless mouse {asked}", candidates=rows)
                request.options.deadline_ms = 20_000
                answer = await stub.Rank(request, timeout=30)
                notes |= {pb.DegradedReason.Name(note.reason) for note in answer.degraded}
                asked += 1
            scored = await many
    assert scored.status_code == 200
    assert "x-neuralrank-degraded" not in scored.headers
    assert asked >= 3
    assert notes == set()


async def test_https_has_the_certificate_and_the_tokens_of_grpc(
    stack: Settings, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "tokens").write_text(f"shop: {TOKEN}\n")
    async with sidecar(
        stack,
        tls_certificate=str(tmp_path / "cert.pem"),
        tls_key=str(tmp_path / "key.pem"),
        tokens=str(tmp_path / "tokens"),
    ) as made:
        await made.loaded()
        url = f"https://127.0.0.1:{made.http_port}"
        body = {"query": QUERY, "texts": DOCUMENTS}
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        async with httpx.AsyncClient(base_url=url, verify=context) as client:
            refused = await client.post("/rerank", json=body)
            answered = await client.post(
                "/rerank", json=body, headers={"Authorization": f"Bearer {TOKEN}"}
            )
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{made.http_port}") as plain:
            with pytest.raises(httpx.TransportError):
                await plain.post("/rerank", json=body)
    assert (refused.status_code, answered.status_code) == (401, 200)
    assert answered.json()[0]["index"] == 1


async def test_a_port_that_is_taken_is_said(stack: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        made = Sidecar(SidecarSettings(listen="127.0.0.1:0", http_listen=address), stack)
        with pytest.raises(Unsupported, match="NEURALRANK_SIDECAR_HTTP_LISTEN"):
            await made.start()

"""One caller with a thousand long texts over HTTP, beside pages of others over gRPC, for real."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from neuralrank.text.tokens import Tokens
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Floats
from sidecar.http.server import HttpServer
from sidecar.inference.queue import Priority
from tests.unit.sidecar.parts import Bench, WordJudge, request, shop
from tests.unit.sidecar.test_service import serving
from tests.unit.sidecar.web import application

QUEUE_TOKENS = 16_384


class Held(WordJudge):
    """Its first run waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()

    def run(self, batch: Sequence[Tokens]) -> Floats:
        self.entered.set()
        self.go.wait(10)
        return super().run(batch)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(shop(), judge=Held(), queue_tokens=QUEUE_TOKENS)
    yield made
    made.judge.go.set()  # type: ignore[union-attr]
    await made.close()


@asynccontextmanager
async def listening(bench: Bench, **settings: Any) -> AsyncIterator[str]:
    """The URL of a real HTTP server."""
    server = HttpServer(application(bench, **settings), "127.0.0.1", 0, connections=5)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def test_a_rerank_of_a_thousand_documents_costs_others_no_part_of_their_pages(
    bench: Bench,
) -> None:
    judge: Any = bench.judge
    queue = bench.inference._workers._queue
    documents = [f"kettle {number} " + "x" * 150 for number in range(1_000)]
    async with (
        serving(bench) as stub,
        listening(bench) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
        asyncio.timeout(60),
    ):
        body = {"query": "red kettle", "documents": documents}
        many = asyncio.ensure_future(client.post("/v1/rerank", json=body))
        await asyncio.to_thread(judge.entered.wait, 10)
        while not queue.entries:
            await asyncio.sleep(0)
        before = queue.entries
        pages = [
            asyncio.ensure_future(stub.Rank(request(query=f"{word} computer")))
            for word in ("apple", "dell", "red", "blue")
        ]
        while queue.entries < before + len(pages) and not all(page.done() for page in pages):
            await asyncio.sleep(0)
        judge.go.set()
        answers = await asyncio.gather(*pages)
        scored = await many
    for answer in answers:
        assert [pb.DegradedReason.Name(note.reason) for note in answer.degraded] == []
        assert {stage.name: stage.candidates for stage in answer.stages}["rerank"] == 4
    assert scored.status_code == 200
    assert "x-neuralrank-degraded" not in scored.headers
    assert len(scored.json()["results"]) == 1_000
    assert set(documents) <= set(judge.texts)


@pytest.mark.parametrize(("secret", "callers"), [(True, {"rag", "shop"}), (False, None)])
async def test_the_share_is_that_of_the_token_and_without_one_that_of_the_request(
    bench: Bench, tmp_path: Path, secret: bool, callers: set[str] | None
) -> None:
    file = tmp_path / "tokens"
    file.write_text("shop: 0123456789abcdef\nrag: fedcba9876543210\n")
    tokens = str(file) if secret else ""
    judge: Any = bench.judge
    queue = bench.inference._workers._queue
    async with (
        serving(bench, tokens=tokens) as stub,
        listening(bench, tokens=tokens) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
        asyncio.timeout(60),
    ):
        first = asyncio.ensure_future(
            client.post(
                "/v1/rerank",
                json={"query": "red", "documents": ["kettle", "phone" * 20] * 20},
                headers={"authorization": "Bearer fedcba9876543210"},
            )
        )
        await asyncio.to_thread(judge.entered.wait, 10)
        asked = [
            first,
            *(
                asyncio.ensure_future(
                    stub.Rank(
                        pb.RankRequest(query=word, candidates=[pb.Candidate(id="a", text=word)]),
                        metadata=[("authorization", "Bearer 0123456789abcdef")],
                    )
                )
                for word in ("apple", "dell")
            ),
        ]
        others = 0
        while others < 2 and not all(each.done() for each in asked):
            found = queue._classes[Priority.PAIR]
            others = sum(len(caller.jobs) for caller in found.values()) - 1
            await asyncio.sleep(0)
        names = set(found)
        judge.go.set()
        await asyncio.gather(*asked)
    assert len(names) == (2 if secret else 3)
    assert names == callers or not secret

"""The sidecar ends in the middle of a stream of queries: no query fails, and it recovers.

The tests start a sidecar of their own and point the node at it, so that the stack's own sidecar,
which other tests use, is never touched.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opensearchpy import OpenSearch

from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import NO_PIPELINE, Page, ask
from neuralrank.settings import Settings
from neuralrank.stack.probe import sidecar_status
from opensearch_config import lexical_query
from tests.e2e.shop import INDEX, Shop, eventually, open_shop

ENDPOINT = "neural_rank.endpoint"


@dataclass
class OwnSidecar:
    """A sidecar process on a port of its own."""

    shop: Shop
    log: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = {"NEURALRANK_SIDECAR_LISTEN": self.address}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sidecar.main"],
                env=self.shop.environment | settings,
                stdout=log,
                stderr=log,
            )
        assert eventually(lambda: sidecar_status(self.address) == "serving", 60), (
            self.log.read_text(encoding="utf-8")
        )

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Stream:
    """Queries, one after another, from a few threads, until it is stopped."""

    send: Callable[[], Page]
    pages: list[tuple[float, Page]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    @contextmanager
    def running(self, threads: int = 3) -> Iterator[None]:
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                try:
                    page = self.send()
                    self.pages.append((time.monotonic(), page))
                except Exception as error:
                    self.failures.append(error)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            ended.set()
            for worker in workers:
                worker.join()

    def reranked_since(self, instant: float) -> set[bool]:
        return {page.reranked for at, page in self.pages if at > instant}


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    return open_shop(stack)


@pytest.fixture
def client(stack: Settings) -> Iterator[OpenSearch]:
    client = connect(stack, retries=0)
    yield client
    client.close()


@pytest.fixture
def own(shop: Shop, client: OpenSearch, tmp_path: Path) -> Iterator[OwnSidecar]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sidecar = OwnSidecar(shop, tmp_path / "sidecar.log", port)
    settings = client.cluster.get_settings(params={"flat_settings": "true"})
    before = settings["transient"].get(ENDPOINT)
    try:
        sidecar.start()
        client.cluster.put_settings(body={"transient": {ENDPOINT: sidecar.address}})
        yield sidecar
    finally:
        client.cluster.put_settings(body={"transient": {ENDPOINT: before}})
        sidecar.kill()
        # Later tests count on a plugin that has found the stack's own sidecar again.
        assert eventually(lambda: search(client).reranked, 30)


def search(client: OpenSearch) -> Page:
    return ask(client, INDEX, lexical_query("电脑"), {"user_id": "A"}, text="电脑")


def order(page: Page) -> list[str]:
    return [hit.id for hit in page.hits]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_no_query_fails_when_the_sidecar_ends_and_it_is_used_again_when_back(
    client: OpenSearch, own: OwnSidecar, how: int
) -> None:
    lexical = order(ask(client, INDEX, lexical_query("电脑"), pipeline=NO_PIPELINE))
    assert eventually(lambda: search(client).reranked)

    stream = Stream(lambda: search(client))
    with stream.running():
        assert eventually(lambda: len(stream.pages) > 20)
        own.signal(how)
        assert own.process is not None
        own.process.wait(30)
        # The plugin may still have answers under way; from then on none is re-ranked.
        assert eventually(lambda: not search(client).reranked)
        down = time.monotonic()
        seen = len(stream.pages)
        assert eventually(lambda: len(stream.pages) > seen + 20)
        page = search(client)
        assert stream.reranked_since(down) == {False}
        own.start()
        back = time.monotonic()
        assert eventually(lambda: True in stream.reranked_since(back), 30)

    assert stream.failures == []
    assert order(page) == lexical
    assert page.degraded[0]["reason"] == "sidecar_unavailable"


def test_a_sidecar_that_hangs_costs_no_more_than_the_timeout(
    client: OpenSearch, own: OwnSidecar
) -> None:
    lexical = order(ask(client, INDEX, lexical_query("电脑"), pipeline=NO_PIPELINE))
    assert eventually(lambda: search(client).reranked)
    settings = client.cluster.get_settings(
        params={"flat_settings": "true", "include_defaults": "true"}
    )
    timeout_ms = int(settings["defaults"]["neural_rank.timeout_ms"])
    own.signal(signal.SIGSTOP)
    try:
        pages = [search(client) for _ in range(12)]
    finally:
        own.signal(signal.SIGCONT)

    assert [order(page) for page in pages] == [lexical] * 12
    assert not any(page.reranked for page in pages)
    # One budget for all calls of a query, and some room for a busy machine.
    assert max(page.took_ms for page in pages) < timeout_ms + 1000
    # After a few failures the sidecar is not waited for any more.
    assert sorted(page.took_ms for page in pages)[0] < timeout_ms / 2
    assert eventually(lambda: search(client).reranked, 30)


def test_the_command_says_that_the_page_is_not_re_ranked_and_succeeds(
    shop: Shop, client: OpenSearch, own: OwnSidecar
) -> None:
    own.kill()
    assert eventually(lambda: not search(client).reranked)
    done = shop.run("search", INDEX, "电脑", "--user", "A")
    assert done.returncode == 0
    assert "sidecar_unavailable" in done.stderr
    assert "in the order of OpenSearch" in done.stdout

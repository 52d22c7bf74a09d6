"""Three real nodes and two real sidecars under a stream of queries: a sidecar and a node are
killed, and no query fails.

A query that is under way on a node when it is killed is lost with its connection, whatever plugin
that node has. The client, as any client of OpenSearch that knows several nodes, sends it to the
next one; nothing else is ever tried again here.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.opensearch.page import NO_PIPELINE, Page, ask
from neuralrank.settings import Settings
from neuralrank.stack.node import Node
from opensearch_config import lexical_query
from tests.cluster.nodes import RunningNode, free_port
from tests.cluster.sidecars import RunningSidecar
from tests.conftest import CACHE
from tests.e2e.shop import INDEX, Shop, eventually, open_shop

NAMES = ("one", "two", "three")
QUERIES = ("电脑", "wireless headphones", "手机", "running shoes")


@dataclass
class Stream:
    """Queries, one after another from each of a few threads, until it is stopped."""

    client: OpenSearch
    pages: list[tuple[float, Page]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    @contextmanager
    def running(self, threads: int = 3) -> Iterator[None]:
        ended = threading.Event()

        def work(number: int) -> None:
            while not ended.is_set():
                text = QUERIES[(number + len(self.pages)) % len(QUERIES)]
                try:
                    page = search(self.client, text)
                    self.pages.append((time.monotonic(), page))
                except Exception as error:
                    self.failures.append(error)
                # What is shown is that none fails, not how many two cores can do.
                ended.wait(0.05)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            ended.set()
            for worker in workers:
                worker.join()

    def more(self, count: int) -> bool:
        """Whether so many more are answered soon."""
        seen = len(self.pages)
        return eventually(lambda: len(self.pages) >= seen + count, 60)

    def since(self, instant: float) -> list[Page]:
        return [page for at, page in self.pages if at > instant]


@dataclass
class Cluster:
    nodes: list[RunningNode]
    sidecars: list[RunningSidecar]
    client: OpenSearch

    def plugin(self, what: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.transport.perform_request(
            "GET", f"/_plugins/_neural_rank/{what}"
        )
        return answer


def search(client: OpenSearch, text: str = QUERIES[0]) -> Page:
    return ask(client, INDEX, lexical_query(text), {"user_id": "A"}, text=text)


@pytest.fixture(scope="module")
def cluster(installed: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    logs: Path = tmp_path_factory.mktemp("sidecars")
    ports = [free_port(), free_port()]
    nodes = [RunningNode(installed, name) for name in NAMES]
    for node in nodes:
        node.settings |= {
            "discovery.seed_hosts": [one.transport for one in nodes],
            "cluster.initial_cluster_manager_nodes": list(NAMES),
            "neural_rank.endpoint": [f"127.0.0.1:{port}" for port in ports],
            "neural_rank.timeout_ms": 5_000,
        }
    urls = [node.url for node in nodes]
    settings = {"deadline_ms": "1000", "threads": "1"}
    # Each sidecar asks a node of its own; neither is the one that is killed.
    sidecars = [
        RunningSidecar(url, logs / f"{port}.log", settings=settings, port=port)
        for url, port in zip(urls, ports, strict=False)
    ]
    client = OpenSearch(urls, timeout=30, max_retries=len(urls))
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait()
        for sidecar in sidecars:
            sidecar.start()
        for sidecar in sidecars:
            sidecar.wait()
        home = installed.folder.parent
        models = str(CACHE / "models")
        stack = Settings(
            home=home, opensearch_url=urls[0], sidecar=sidecars[0].address, registry=models
        )
        done = Shop(stack).run("config", "apply", "--yes")
        assert done.returncode == 0, done.stderr
        open_shop(stack)
        client.indices.put_settings(
            index=f"{INDEX},ubi_*", body={"index": {"number_of_replicas": len(NAMES) - 1}}
        )
        client.cluster.health(params={"wait_for_status": "green"})
        yield Cluster(nodes, sidecars, client)
    finally:
        client.close()
        for sidecar in sidecars:
            sidecar.end()
        for node in nodes:
            node.stop()


@pytest.mark.long
def test_a_sidecar_and_a_node_are_killed_and_no_query_fails(cluster: Cluster) -> None:
    client, (_, _, third), (first, second) = cluster.client, cluster.nodes, cluster.sidecars
    assert eventually(lambda: cluster.plugin("health")["status"] == "green", 60)
    assert eventually(lambda: search(client).reranked)
    expected = {text: sorted(hit.id for hit in search(client, text).hits) for text in QUERIES}
    for text in QUERIES:
        plain = ask(client, INDEX, lexical_query(text), pipeline=NO_PIPELINE)
        assert plain.total > 0

    stream = Stream(client)
    with stream.running():
        assert stream.more(30)

        first.end()
        killed = time.monotonic()
        assert stream.more(60)
        health = cluster.plugin("health")
        assert health["status"] == "yellow"
        for node in health["nodes"].values():
            seen = node["sidecars"]
            assert not seen[first.address]["serving"]
            assert "refused" in seen[first.address]["reason"].lower()
            assert seen[second.address]["serving"]
        # The other one answers all: what was with the first is asked of it in the same query.
        without_first = stream.since(killed)
        assert all(page.reranked for page in without_first), [
            page.report for page in without_first if not page.reranked
        ]

        third.kill()
        assert stream.more(60)
        assert eventually(lambda: cluster.plugin("stats")["_nodes"]["total"] == 2, 60)
        without_node = time.monotonic()
        assert stream.more(60)
        assert all(page.reranked for page in stream.since(without_node))

        first.start()
        third.start()
        first.wait()
        third.wait()
        assert eventually(lambda: cluster.plugin("health")["status"] == "green", 90)
        assert stream.more(60)
        nodes = {node["name"] for node in cluster.plugin("stats")["nodes"].values()}
        assert nodes == set(NAMES)

    assert stream.failures == []
    for text in QUERIES:
        assert sorted(hit.id for hit in search(client, text).hits) == expected[text]
    stats = cluster.plugin("stats")
    of_nodes = [node["counters"]["reranked"] for node in stats["nodes"].values()]
    assert stats["total"]["reranked"] == sum(of_nodes)
    assert stats["total"]["reranked"] > 0
    print(f"{len(stream.pages)} queries, none failed; counters {stats['total']}")

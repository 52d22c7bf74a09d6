"""Cross-cluster searches of an index that ranks by default: another cluster may lack the plugin."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.stack.node import Node
from tests.cluster.nodes import RunningNode, install
from tests.cluster.sidecars import RunningSidecar
from tests.cluster.test_removal import WITHOUT
from tests.conftest import HomeMaker
from tests.e2e.shop import eventually

PIPELINE = "neural_rank"
QUERY: dict[str, Any] = {"query": {"match": {"title": "kettle"}}, "size": 12}
APART = {"ccs_minimize_roundtrips": "false"}


def found(client: OpenSearch, index: str, **params: Any) -> list[tuple[str, str, float]]:
    answer = client.search(index=index, body=QUERY, params=params)
    assert answer.get("_clusters", {}).get("skipped", 0) == 0
    hits = answer["hits"]["hits"]
    # Sorted: hits of the same score come in any order.
    return sorted((hit["_index"], hit["_id"], hit["_score"]) for hit in hits)


def fill(client: OpenSearch, index: str, more: str) -> None:
    body = {"settings": {"number_of_replicas": 0, "number_of_shards": 1}}
    client.indices.create(index=index, body=body)
    for number in range(4):
        kettle = {"title": f"kettle {more * number}"}
        client.index(index=index, id=f"{index}-{number}", body=kettle, params={"refresh": "true"})


def define(client: OpenSearch) -> None:
    recall = {"vector": False, "timeout_ms": 5_000, "text_fields": ["title"]}
    body = {
        "request_processors": [{"neural_recall": recall}],
        "response_processors": [{"neural_rank": {"bundle": "none"}}],
    }
    client.search_pipeline.put(id=PIPELINE, body=body)


@pytest.fixture(scope="module")
def ranking(
    installed: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningNode, RunningSidecar]]:
    """A cluster whose index ranks by default."""
    log: Path = tmp_path_factory.mktemp("sidecar") / "sidecar.log"
    node = RunningNode(installed, "ranking")
    sidecar = RunningSidecar(node.url, log, settings={"threads": "1"})
    node.settings |= {"cluster.name": "ranking", "neural_rank.endpoint": sidecar.address}
    try:
        node.start()
        sidecar.start()
        node.wait()
        sidecar.wait()
        with closing(OpenSearch(node.url, timeout=30)) as client:
            fill(client, "products", "red ")
            define(client)
            default = {"index.search.default_pipeline": PIPELINE}
            client.indices.put_settings(index="products", body=default)

            def ranks() -> bool:
                answer = client.search(index="products", body=QUERY)
                return bool(answer["ext"]["neural_rank"]["reranked"])

            assert eventually(ranks, 30)
        yield node, sidecar
    finally:
        sidecar.end()
        node.stop()


def asking(
    stack: ExitStack, installed: Node, name: str, ranking: RunningNode, settings: dict[str, Any]
) -> OpenSearch:
    """Another cluster, with an index of its own, that knows the ranking one as `shop`."""
    seeds = {"cluster.name": name, "cluster.remote.shop.seeds": [ranking.transport]}
    node = RunningNode(installed, name, seeds | settings)
    stack.callback(node.stop)
    node.start()
    node.wait()
    client = stack.enter_context(closing(OpenSearch(node.url, timeout=30)))
    fill(client, "mine", "blue ")
    return client


@pytest.mark.long
def test_a_cluster_without_the_plugin_gets_the_hits_as_they_are(
    ranking: tuple[RunningNode, RunningSidecar], make_home: HomeMaker
) -> None:
    bare = install(make_home())
    bare._plugin("remove", "neural-rank")
    bare._give_away()
    with ExitStack() as stack:
        client = asking(stack, bare, "bare", ranking[0], dict(WITHOUT))
        for index in ("shop:products", "mine,shop:products"):
            assert found(client, index) == found(client, index, **APART)


@pytest.mark.long
def test_the_cluster_that_merges_ranks(
    ranking: tuple[RunningNode, RunningSidecar], installed: Node
) -> None:
    node, sidecar = ranking
    with ExitStack() as stack:
        settings = {"neural_rank.endpoint": sidecar.address}
        client = asking(stack, installed, "merging", node, settings)
        plain = found(client, "mine,shop:products")
        assert plain == found(client, "mine,shop:products", **APART)
        define(client)

        def ranks() -> bool:
            answer = client.search(
                index="mine,shop:products", body=QUERY, params={"search_pipeline": PIPELINE}
            )
            shown = {hit["_id"] for hit in answer["hits"]["hits"]}
            assert shown == {one for _, one, _ in plain}
            return bool(answer["ext"]["neural_rank"]["reranked"])

        assert eventually(ranks, 30)
        counted = OpenSearch(node.url).transport.perform_request(
            "GET", "/_plugins/_neural_rank/stats"
        )
        assert counted["total"]["left_alone"]["cross_cluster"] > 0

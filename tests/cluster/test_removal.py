"""docs/plugin-removal.md as it is written: its commands, against a real node and a real sidecar."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from neuralrank.errors import Unavailable
from neuralrank.opensearch.packing import PACKED, VECTOR, pack
from neuralrank.opensearch.vectors import are_indexed_packed
from neuralrank.stack.artifacts import build_plugin
from neuralrank.stack.node import Node
from opensearch_config import product_index
from tests.cluster.nodes import RunningNode, free_port, install
from tests.cluster.sidecars import RunningSidecar
from tests.conftest import CACHE, CHECKOUT, HomeMaker
from tests.e2e.shop import eventually

INDEX = "products"
VECTORS = "with-vectors"
PIPELINE = "neural_rank"
TITLES = ("red phone", "blue phone", "phone case")
# opensearch.yml without the plugin's lines.
WITHOUT: Mapping[str, Any] = {"neural_rank.endpoint": None, "neural_rank.timeout_ms": None}


def commands(section: str) -> list[list[str]]:
    """The commands of a section of the page, each as a list of words."""
    page = (CHECKOUT / "docs" / "plugin-removal.md").read_text(encoding="utf-8")
    text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    assert lines
    return [shlex.split(line) for line in lines]


@dataclass
class Shop:
    """One node, its sidecar, and an index whose searches are re-ranked by default."""

    node: RunningNode
    client: OpenSearch

    def curl(self, section: str) -> None:
        """Sends what a section says to send."""
        for words in commands(section):
            if words[0] == "curl":
                method, url = words[words.index("-X") + 1 :][:2]
                body = words[words.index("-d") + 1] if "-d" in words else None
                path = url.removeprefix("localhost:9200")
                self.client.transport.perform_request(method, path, body=body)

    def run(self, section: str) -> None:
        """Runs what a section says to run on a node, which is stopped."""
        for words in commands(section):
            if words[0].startswith("bin/"):
                self.on_node(words)

    def on_node(self, words: list[str]) -> None:
        done = subprocess.run(
            words,
            cwd=self.node.installed.distribution,
            env=os.environ | self.node.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.node.give_away()

    def restart(self, settings: Mapping[str, Any] | None = None) -> None:
        self.node.settings |= settings or {}
        self.node.start()
        self.node.wait()

    def search(self, **ext: Any) -> dict[str, Any]:
        body = {"query": {"match": {"title": "phone"}}} | ({"ext": ext} if ext else {})
        return dict(self.client.search(index=INDEX, body=body))

    def reranks(self) -> bool:
        answer = self.search()
        assert len(answer["hits"]["hits"]) == len(TITLES)
        return bool(answer.get("ext", {}).get("neural_rank", {}).get("reranked"))


@pytest.fixture
def shop(make_home: HomeMaker, tmp_path: Path) -> Iterator[Shop]:
    # A distribution of its own: the plugin is taken out of it.
    installed: Node = install(make_home())
    port = free_port()
    settings = {"neural_rank.endpoint": f"127.0.0.1:{port}", "neural_rank.timeout_ms": 5_000}
    node = RunningNode(installed, "removal", settings)
    sidecar = RunningSidecar(node.url, tmp_path / "sidecar.log", port=port)
    client = OpenSearch(node.url, timeout=30)
    node.keep("neural_rank.token", "the-token-of-the-shop")
    try:
        node.start()
        sidecar.start()
        node.wait()
        for number, title in enumerate(TITLES):
            client.index(index=INDEX, id=str(number), body={"title": title})
        client.indices.refresh(index=INDEX)
        dynamic = {"persistent": {"neural_rank.breaker.open_ms": 1_000}}
        client.cluster.put_settings(body=dynamic)
        pipeline = {
            "request_processors": [{"neural_recall": {"vector": False}}],
            "response_processors": [{"neural_rank": {"text_fields": ["title"]}}],
        }
        client.search_pipeline.put(id=PIPELINE, body=pipeline)
        client.indices.put_settings(index=INDEX, body={"index.search.default_pipeline": PIPELINE})
        sidecar.wait()
        made = Shop(node, client)
        assert eventually(made.reranks, 30)
        yield made
    finally:
        client.close()
        sidecar.end()
        node.stop()


@pytest.mark.long
def test_the_plugin_is_exchanged_and_nothing_else_is_done(shop: Shop) -> None:
    made = build_plugin(CACHE / "downloads", shop.node.installed.jdk, print)
    shop.node.stop()
    for words in commands("Another version of the plugin"):
        shop.on_node([made.zip.as_uri() if word.startswith("file:") else word for word in words])
    shop.restart()
    assert eventually(shop.reranks, 60)


def packed(shop: Shop, name: str) -> None:
    """A document that holds its vector packed only."""
    body = {"title": name, PACKED: pack(np.array([1, 0, 0, 0], np.float32))}
    shop.client.index(index=VECTORS, id=name, body=body, params={"refresh": "true"})


def neighbours(shop: Shop) -> list[str]:
    query = {"knn": {VECTOR: {"vector": [1, 0, 0, 0], "k": 9}}}
    hits = shop.client.search(index=VECTORS, body={"query": query})["hits"]["hits"]
    return [hit["_id"] for hit in hits]


@pytest.mark.long
def test_removed_in_order_no_search_fails(shop: Shop) -> None:
    body = product_index("tiny@0123456789ab", 4)
    shop.client.indices.create(index=VECTORS, body=body)
    assert are_indexed_packed(shop.client, body)
    packed(shop, "before")
    shop.curl("Removing")
    assert not shop.reranks()
    shop.node.stop()
    shop.run("Removing")
    shop.restart(WITHOUT)
    assert not shop.reranks()
    settings = shop.client.cluster.get_settings(params={"include_defaults": "true"})
    assert "neural_rank" not in str(settings)
    # The index opens, and has what was indexed; what comes now is to bring its numbers.
    assert neighbours(shop) == ["before"]
    packed(shop, "after")
    assert neighbours(shop) == ["before"]
    assert not are_indexed_packed(shop.client, body)


@pytest.mark.long
def test_removed_with_everything_left_over(shop: Shop) -> None:
    node, client = shop.node, shop.client
    remove, keystore = (words for words in commands("Removing") if words[0].startswith("bin/"))
    node.stop()
    node.log.unlink()
    shop.on_node(remove)
    node.start()
    with pytest.raises(Unavailable, match="ended while starting"):
        node.wait()
    said = node.log.read_text(encoding="utf-8")
    assert "unknown setting [neural_rank.endpoint]" in said
    assert "unknown secure setting [neural_rank.token]" in said
    node.stop()

    shop.on_node(keystore)
    shop.restart(WITHOUT)
    with pytest.raises(RequestError, match=f"Pipeline {PIPELINE} is not defined"):
        shop.search()
    left = client.cluster.get_settings(params={"flat_settings": "true"})["persistent"]
    assert left == {"archived.neural_rank.breaker.open_ms": "1000"}

    shop.curl("If it is gone already")
    assert not shop.reranks()
    assert client.cluster.get_settings()["persistent"] == {}
    with pytest.raises(RequestError, match="neural_rank"):
        shop.search(neural_rank={"user_id": "A"})


@pytest.mark.long
def test_while_nodes_are_changed_shards_may_lie_on_one_without_the_plugin(
    shop: Shop, make_home: HomeMaker
) -> None:
    bare = RunningNode(install(make_home()), "bare", dict(WITHOUT))
    shop.node.stop()
    pair = {"discovery.seed_hosts": [shop.node.transport, bare.transport]}
    bare.settings |= pair
    (remove, _) = (words for words in commands("Removing") if words[0].startswith("bin/"))
    Shop(bare, shop.client).on_node(remove)
    try:
        shop.restart(pair)
        bare.start()
        bare.wait()
        there = {"index.routing.allocation.require._name": "bare", "index.number_of_replicas": 0}
        shop.client.indices.put_settings(index=INDEX, body=there)

        def moved() -> bool:
            (shard,) = shop.client.cat.shards(index=INDEX, params={"format": "json"})
            return bool((shard["node"], shard["state"]) == ("bare", "STARTED"))

        assert eventually(moved, 60)
        assert eventually(shop.reranks, 30)
        assert shop.search(neural_rank={"user_id": "A"})["ext"]["neural_rank"]["reranked"]
        with closing(OpenSearch(bare.url, timeout=30)) as other:
            with pytest.raises(RequestError, match=f"Pipeline {PIPELINE} is not defined"):
                other.search(index=INDEX, body={"query": {"match": {"title": "phone"}}})
            assert len(other.search(index=INDEX, search_pipeline="_none")["hits"]["hits"]) == 3
    finally:
        bare.stop()

"""A real node and a real sidecar with TLS, client certificates and tokens, as docs/security.md has
it: certificates in the node's config folder, the token in its keystore."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from opensearchpy import OpenSearch

from neuralrank.client.channel import Access
from neuralrank.errors import Unavailable
from neuralrank.stack.node import Node
from tests.cluster.nodes import RunningNode, free_port
from tests.cluster.sidecars import RunningSidecar
from tests.e2e.shop import eventually
from tests.unit.sidecar.secured import Files

TOKEN = "the-token-of-the-shop-1"
NEXT_TOKEN = "the-token-of-the-shop-2"
INDEX = "secured"
PIPELINE = {"response_processors": [{"neural_rank": {"text_fields": ["title"]}}]}


@dataclass
class Secured:
    """A node whose plugin reaches a sidecar only with the right certificates and token."""

    node: RunningNode
    sidecar: RunningSidecar
    client: OpenSearch
    files: Files
    tokens: Path

    def report(self) -> dict[str, Any]:
        found = self.client.search(
            index=INDEX,
            body={"query": {"match": {"title": "phone"}}},
            params={"search_pipeline": "rank"},
        )
        assert len(found["hits"]["hits"]) == 3
        report: dict[str, Any] = found["ext"]["neural_rank"]
        return report

    def reranks(self) -> bool:
        return bool(self.report()["reranked"])

    def reload(self) -> dict[str, Any]:
        answer = self.client.transport.perform_request("POST", "/_nodes/reload_secure_settings")
        (node,) = answer["nodes"].values()
        return dict(node)

    def health(self) -> dict[str, Any]:
        """What the node sees of the sidecar."""
        found = self.client.transport.perform_request("GET", "/_plugins/_neural_rank/health")
        (node,) = found["nodes"].values()
        seen = dict(node["sidecars"][self.sidecar.address])
        assert found["status"] == ("green" if seen["serving"] else "red")
        return seen

    def issue(self, authority: Files | None = None) -> None:
        """A new certificate for the node, in the place of the one that it has."""
        made, key = (authority or self.files).client("shop")
        folder = self.node.config / "sidecar"
        (folder / "node.crt").write_bytes(made.read_bytes())
        # Java reads PKCS#8, and trustme writes the older form.
        secret = serialization.load_pem_private_key(key.read_bytes(), password=None)
        (folder / "node.key").write_bytes(
            secret.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.node.give_away()


@pytest.fixture(scope="module")
def secured(installed: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    files = Files(folder)
    tokens = folder / "tokens"
    tokens.write_text(f"shop: {TOKEN}\n")
    port = free_port()
    node = RunningNode(
        installed,
        "secured",
        {
            "neural_rank.endpoint": f"127.0.0.1:{port}",
            "neural_rank.timeout_ms": 5_000,
            "neural_rank.tls.ca": "sidecar/ca.crt",
            "neural_rank.tls.certificate": "sidecar/node.crt",
            "neural_rank.tls.key": "sidecar/node.key",
            "resource.reload.interval.high": "1s",
        },
    )
    own, key = files.client("own")
    sidecar = RunningSidecar(
        node.url,
        folder / "sidecar.log",
        Access(str(files.ca), str(own), str(key)),
        {**files.settings(mutual=True), "tokens": str(tokens), "deadline_ms": "2000"},
        port,
    )
    client = OpenSearch(node.url, timeout=30)
    made = Secured(node, sidecar, client, files, tokens)
    (node.config / "sidecar").mkdir()
    (node.config / "sidecar" / "ca.crt").write_bytes(files.ca.read_bytes())
    made.issue()
    node.keep("neural_rank.token", TOKEN)
    try:
        node.start()
        sidecar.start()
        node.wait()
        sidecar.wait()
        client.transport.perform_request("PUT", "/_search/pipeline/rank", body=PIPELINE)
        for number, title in enumerate(("red phone", "blue phone", "phone case")):
            client.index(index=INDEX, id=str(number), body={"title": title})
        client.indices.refresh(index=INDEX)
        yield made
    finally:
        client.close()
        sidecar.end()
        node.stop()


def test_the_node_reaches_a_sidecar_that_wants_certificate_and_token(secured: Secured) -> None:
    assert eventually(secured.reranks, 30)
    health = secured.health()
    assert health["connection"] == "READY"
    assert any(model.startswith("multilingual-e5-small@") for model in health["models"])
    settings = secured.client.cluster.get_settings(
        params={"include_defaults": "true", "flat_settings": "true"}
    )
    assert TOKEN not in str(settings)
    assert TOKEN not in secured.node.log.read_text(encoding="utf-8")


def test_a_token_is_rotated_without_a_restart(secured: Secured) -> None:
    assert eventually(secured.reranks, 30)
    # Both are allowed, then the node gets the new one, then the old one goes.
    secured.tokens.write_text(f"shop: {TOKEN}\nshop: {NEXT_TOKEN}\n")
    secured.node.keep("neural_rank.token", NEXT_TOKEN)
    assert "reload_exception" not in secured.reload()
    secured.tokens.write_text(f"shop: {NEXT_TOKEN}\n")
    time.sleep(1.5)  # The sidecar looks at the file once a second.
    assert eventually(secured.reranks, 30)

    secured.node.keep("neural_rank.token", "a token with spaces")
    assert "printable ASCII" in str(secured.reload()["reload_exception"])
    assert secured.reranks(), "what can't be used leaves the one before"

    secured.node.keep("neural_rank.token", "not-one-of-those-allowed")
    secured.reload()
    assert eventually(lambda: not secured.reranks(), 30)
    (note,) = secured.report()["degraded"]
    assert note["reason"] == "sidecar_unavailable"
    assert eventually(lambda: "neural_rank.token" in secured.report()["degraded"][0]["detail"], 30)
    assert secured.health()["reason"].startswith("UNAUTHENTICATED: This token is not one of")
    secured.node.keep("neural_rank.token", NEXT_TOKEN)
    secured.reload()
    assert eventually(secured.reranks, 30)


def test_certificates_are_renewed_without_a_restart(secured: Secured, tmp_path: Path) -> None:
    assert eventually(secured.reranks, 30)
    secured.issue(Files(tmp_path))
    assert eventually(lambda: not secured.reranks(), 30), "another authority's certificate"
    assert not secured.health()["serving"]
    (secured.node.config / "sidecar" / "node.key").write_text("no key")
    secured.issue()
    assert eventually(secured.reranks, 30)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"neural_rank.tls.ca": "sidecar/none.crt"}, "can't be read"),
        ({"neural_rank.tls.ca": "/etc/ssl/certs"}, "outside of the config directory"),
        ({"neural_rank.token": "a-token-in-the-open"}, "is a secure setting"),
    ],
)
@pytest.mark.long
def test_a_node_does_not_start_with_what_can_not_be_used(
    installed: Node, settings: dict[str, str], words: str, request: pytest.FixtureRequest
) -> None:
    node = RunningNode(installed, f"bad-{request.node.callspec.indices['settings']}", settings)
    try:
        node.start()
        with pytest.raises(Unavailable, match="ended while starting"):
            node.wait()
        assert words in node.log.read_text(encoding="utf-8")
    finally:
        node.stop()

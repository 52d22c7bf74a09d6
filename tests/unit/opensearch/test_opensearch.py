import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralrank import errors
from neuralrank.opensearch.connection import connect, connect_async
from neuralrank.settings import Settings
from neuralrank.stack import OpenSearch
from tests.unit.answering import answering
from tests.unit.sidecar.secured import Files


def failure(kind: str, reason: str) -> dict[str, Any]:
    return {"error": {"type": kind, "reason": reason, "root_cause": [{"reason": reason}]}}


FLOOD = "index [shop] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]"


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (
            404,
            failure("index_not_found_exception", "no such index [shop]"),
            errors.NotFound,
            "shop",
        ),
        (404, {"_index": "shop", "_id": "7", "found": False}, errors.NotFound, "'7'"),
        (
            400,
            failure("illegal_argument_exception", "Failed to build synonyms"),
            errors.InvalidInput,
            "does not say which rule: look for one with two =>",
        ),
        (
            400,
            failure("parsing_exception", "unknown query [x]"),
            errors.InvalidInput,
            "unknown query",
        ),
        (401, "Unauthorized", errors.InvalidSettings, "NEURALRANK_OPENSEARCH_USER"),
        (403, failure("security_exception", "no permissions"), errors.InvalidSettings, "rights"),
        (
            403,
            failure("cluster_block_exception", "blocked by: [FORBIDDEN/8/index write (api)]"),
            errors.Unavailable,
            "index.blocks.write",
        ),
        (429, failure("cluster_block_exception", FLOOD), errors.Unsupported, "disk"),
        (
            403,
            failure("index_create_block_exception", "blocked by: [FORBIDDEN/10/create-index]"),
            errors.Unsupported,
            "disks of all nodes are nearly full",
        ),
        (429, failure("rejected_execution_exception", "queue full"), errors.Overloaded, "later"),
        (500, failure("null_pointer_exception", "oops"), errors.Unavailable, "oops"),
        (
            500,
            {"error": {"reason": "", "root_cause": [], "caused_by": {"reason": "missing shards"}}},
            errors.Unavailable,
            r"failed \(500\): missing shards",
        ),
    ],
)
def test_a_status_becomes_the_error_that_tells_what_to_do(
    status: int, body: Any, kind: type[errors.NeuralrankError], says: str
) -> None:
    with answering((status, body)) as server, closing(connect(server.settings)) as client:
        with pytest.raises(kind, match=says.replace("[", r"\[")) as caught:
            client.get(index="shop", id="7")
        assert type(caught.value) is kind


def test_a_gateway_error_is_tried_again() -> None:
    with (
        answering((503, {}), (200, {"version": {"number": "3.5.0"}})) as server,
        closing(connect(server.settings)) as client,
    ):
        assert client.info()["version"]["number"] == "3.5.0"
        assert len(server.asked) == 2


def test_numpy_vectors_are_sent_as_they_are() -> None:
    with answering((200, {})) as server, closing(connect(server.settings)) as client:
        client.index(index="shop", id="1", body={"v": np.array([0.5, 0.25], np.float32)})
        assert server.asked[0][2] == '{"v":[0.5,0.25]}'


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_half_an_emoji_costs_itself_alone() -> None:
    """As JavaScript writes a text that it has cut: OpenSearch gives it back as it came."""
    body = {"hits": [{"user_query": "\ud83d kettle 😀"}, {"user_query": "电脑"}]}
    with answering((200, body)) as server, closing(connect(server.settings)) as client:
        found = client.search(index="ubi_queries")
    assert [hit["user_query"] for hit in found["hits"]] == ["\ufffd kettle 😀", "电脑"]


def test_no_answer_says_the_address_and_the_command() -> None:
    settings = Settings(opensearch_url=unused_address())
    with (
        closing(connect(settings)) as client,
        pytest.raises(errors.Unavailable, match=rf"{settings.opensearch_url}.*neuralrank up"),
    ):
        client.info()


async def test_the_async_client_raises_the_same() -> None:
    settings = Settings(opensearch_url=unused_address())
    client = connect_async(settings)
    try:
        with pytest.raises(errors.Unavailable, match="neuralrank up"):
            await client.info()
    finally:
        await client.close()


async def test_the_async_client_answers() -> None:
    with answering((200, {"took": 1})) as server:
        client = connect_async(server.settings)
        try:
            assert await client.search(index="shop", body={}) == {"took": 1}
        finally:
            await client.close()


@pytest.mark.parametrize(
    "url", ["localhost:9200", "ftp://x", "http://", "http://x:port", "http://[::1"]
)
def test_a_wrong_address_is_a_setting_to_correct(url: str) -> None:
    with pytest.raises(errors.InvalidSettings, match="NEURALRANK_OPENSEARCH_URL"):
        connect(Settings(opensearch_url=url))


def test_a_password_in_the_address_is_used_and_not_shown() -> None:
    with answering((401, "no")) as server:
        settings = Settings(opensearch_url=server.url.replace("://", "://me:s%40cret@"))
        with (
            closing(connect(settings)) as client,
            pytest.raises(errors.InvalidSettings) as caught,
        ):
            client.info()
        assert settings.opensearch_url == server.url
    assert (settings.opensearch_user, settings.opensearch_password) == ("me", "s@cret")
    assert "s@cret" not in f"{caught.value} {settings!r}"


@pytest.mark.parametrize("url", ["me:secret@host:9200", "http://me:sec/ret@host:9200"])
def test_a_password_in_an_address_that_can_not_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(errors.InvalidSettings, match="NEURALRANK_OPENSEARCH_PASSWORD") as caught:
        connect(Settings(opensearch_url=url))
    assert "sec" not in str(caught.value)


def test_a_user_of_the_environment_has_the_password_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEURALRANK_OPENSEARCH_URL", "http://me:secret@host:9200")
    assert Settings().opensearch_password == "secret"
    monkeypatch.setenv("NEURALRANK_OPENSEARCH_USER", "admin")
    monkeypatch.setenv("NEURALRANK_OPENSEARCH_PASSWORD", "other")
    settings = Settings()
    assert (settings.opensearch_user, settings.opensearch_password) == ("admin", "other")
    assert settings.opensearch_url == "http://host:9200"


async def test_a_cluster_of_an_authority_of_ones_own_is_trusted_by_its_file(tmp_path: Path) -> None:
    files = Files(tmp_path)
    certificate = (files.certificate, files.key)
    with answering((200, {"status": "green"}), certificate=certificate) as server:
        trusting = Settings(opensearch_url=server.url, opensearch_ca=str(files.ca))
        with closing(connect(trusting)) as client:
            assert client.cluster.health()["status"] == "green"
        async with connect_async(trusting) as waiting:
            assert (await waiting.cluster.health())["status"] == "green"
        probe = OpenSearch(server.url, ca=str(files.ca))
        assert probe.get("/_cluster/health") == {"status": "green"}

        with (
            closing(connect(Settings(opensearch_url=server.url), retries=0)) as client,
            pytest.raises(errors.Unavailable, match="NEURALRANK_OPENSEARCH_CA"),
        ):
            client.cluster.health()
        async with connect_async(Settings(opensearch_url=server.url), retries=0) as waiting:
            with pytest.raises(errors.Unavailable, match=r"certificate.*NEURALRANK_OPENSEARCH_CA"):
                await waiting.cluster.health()
        with pytest.raises(errors.Unavailable):
            OpenSearch(server.url).get("/_cluster/health")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_named(tmp_path: Path, content: str | None) -> None:
    ca = tmp_path / "ca.pem"
    says = r"NEURALRANK_OPENSEARCH_CA is .*ca\.pem.*Name a PEM file"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(errors.InvalidSettings, match=says):
        connect(Settings(opensearch_url="https://127.0.0.1:1", opensearch_ca=str(ca)))
    with pytest.raises(errors.InvalidSettings, match=says):
        OpenSearch("https://127.0.0.1:1", ca=str(ca)).get("/")

"""The probes against a real HTTP server and a real gRPC server of the test's own."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from neuralrank.errors import InvalidSettings, Unavailable, Unsupported
from neuralrank.stack.ports import choose_port
from neuralrank.stack.probe import (
    OpenSearch,
    check_existing,
    opensearch_status,
    plugin_reaches,
    sidecar_status,
    sidecars_of,
)

GOOD = {
    "/": {"version": {"distribution": "opensearch", "number": "3.6.0"}},
    "/_cluster/health": {"status": "green"},
    "/_nodes/plugins": {
        "nodes": {
            "x": {"name": "n1", "plugins": [{"name": "opensearch-knn"}, {"name": "neural-rank"}]}
        }
    },
}


class Cluster:
    """Answers as an OpenSearch would whose answers a test chooses."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = dict(GOOD)
        self.authorization: list[str | None] = []
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.authorization.append(self.headers["Authorization"])
                answer = cluster.answers.get(self.path)
                self.send_response(404 if answer is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                """Test output stays clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    thread = threading.Thread(target=cluster.server.serve_forever, args=(0.01,))
    thread.start()
    yield cluster
    cluster.server.shutdown()
    thread.join()
    cluster.server.server_close()


def test_a_port_that_speaks_no_http_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            caller, _ = listening.accept()
            with caller:
                caller.recv(1000)
                caller.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert opensearch_status(OpenSearch(url)) == "down"
        thread.join()


def test_who_signs_in_may_stand_in_the_address_and_is_in_no_message(cluster: Cluster) -> None:
    signed = OpenSearch(cluster.url.replace("://", "://admin:p%40ss@"))
    assert (signed.url, signed.user, signed.password) == (cluster.url, "admin", "p@ss")
    check_existing(signed)
    assert cluster.authorization[0] == f"Basic {base64.b64encode(b'admin:p@ss').decode()}"
    with pytest.raises(Unavailable) as error:
        OpenSearch("http://admin:secret@host:none").get("/")
    assert "secret" not in str(error.value)


def test_a_cluster_with_everything_is_fine(cluster: Cluster) -> None:
    check_existing(OpenSearch(cluster.url))
    check_existing(OpenSearch(f"{cluster.url}/"))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"version": {"distribution": "opensearch", "number": "2.19.0"}}, "opensearch 2.19.0"),
        ({"version": {"number": "8.1.0"}}, "not OpenSearch 8.1.0"),
        ([], "not OpenSearch"),
    ],
)
def test_another_version_is_refused(cluster: Cluster, about: object, said: str) -> None:
    cluster.answers["/"] = about
    with pytest.raises(Unsupported) as error:
        check_existing(OpenSearch(cluster.url))
    assert said in str(error.value)
    assert "the plugin can be built for OpenSearch 3.3.2" in str(error.value)


def test_missing_plugins_are_listed_by_node_with_how_to_install(cluster: Cluster) -> None:
    cluster.answers["/_nodes/plugins"] = {
        "nodes": {
            "x": {"name": "n1", "plugins": [{"name": "opensearch-knn"}]},
            "y": {"name": "n2", "plugins": []},
        }
    }
    with pytest.raises(Unsupported) as error:
        check_existing(OpenSearch(cluster.url))
    message = str(error.value)
    assert "neural-rank on n1, opensearch-knn on n2, neural-rank on n2" in message
    assert "bin/opensearch-plugin install" in message
    # For the release that this cluster is.
    assert "opensearch-knn:3.6.0.0:zip" in message
    assert "neural-rank-3.6.0.0.zip" in message
    assert "-Dopensearch.version=3.6.0" in message


def test_a_red_cluster_is_refused(cluster: Cluster) -> None:
    cluster.answers["/_cluster/health"] = {"status": "red"}
    with pytest.raises(Unavailable, match="red"):
        check_existing(OpenSearch(cluster.url))


@pytest.mark.parametrize(
    ("settings", "addresses"),
    [
        ({"defaults": {"neural_rank.endpoint": "a:1"}}, ["a:1"]),
        ({"defaults": {"neural_rank.endpoint": ["a:1", "b:1"]}}, ["a:1", "b:1"]),
        (
            {
                "persistent": {"neural_rank.endpoint": "c:1,d:1"},
                "defaults": {"neural_rank.endpoint": "a:1"},
            },
            ["c:1", "d:1"],
        ),
        ({"persistent": {}, "defaults": {}}, []),
    ],
)
def test_the_sidecars_that_a_cluster_calls_are_its_settings(
    cluster: Cluster, settings: object, addresses: list[str]
) -> None:
    cluster.answers["/_cluster/settings?include_defaults=true&flat_settings=true"] = settings
    assert sidecars_of(OpenSearch(cluster.url)) == addresses


def test_user_and_password_are_sent(cluster: Cluster) -> None:
    OpenSearch(cluster.url, "admin", "secret").get("/")
    OpenSearch(cluster.url).get("/")
    assert cluster.authorization == ["Basic YWRtaW46c2VjcmV0", None]


@pytest.mark.parametrize("url", ["localhost:9200", "", "file:///etc/hosts"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="http://HOST:PORT"):
        check_existing(OpenSearch(url))


def test_nobody_there_is_down() -> None:
    port = choose_port(0, "nobody", "--none")
    assert opensearch_status(OpenSearch(f"http://127.0.0.1:{port}")) == "down"
    assert sidecar_status(f"127.0.0.1:{port}") == "down"
    with pytest.raises(Unavailable, match="does not answer as OpenSearch"):
        check_existing(OpenSearch(f"http://127.0.0.1:{port}"))


def test_an_answer_without_a_status_is_down(cluster: Cluster) -> None:
    cluster.answers["/_cluster/health"] = []
    assert opensearch_status(OpenSearch(cluster.url)) == "down"
    del cluster.answers["/_cluster/health"]
    assert opensearch_status(OpenSearch(cluster.url)) == "down"


@pytest.mark.parametrize(
    ("serving", "status"),
    [
        (health_pb2.HealthCheckResponse.SERVING, "serving"),
        (health_pb2.HealthCheckResponse.NOT_SERVING, "not_serving"),
    ],
)
def test_a_sidecar_is_asked_by_the_standard_health_service(
    serving: health_pb2.HealthCheckResponse.ServingStatus, status: str
) -> None:
    servicer = health.HealthServicer()
    servicer.set("", serving)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert sidecar_status(f"127.0.0.1:{port}") == status
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("endpoints", "reached"),
    [
        ([{"127.0.0.1:50051": "READY"}], True),
        ([{"127.0.0.1:50051": "TRANSIENT_FAILURE"}], False),
        ([{"127.0.0.1:50052": "READY"}], False),
        ([{"127.0.0.1:50051": "READY"}, {"127.0.0.1:50051": "CONNECTING"}], False),
        ([], False),
    ],
)
def test_the_plugin_says_whether_every_node_reaches_the_sidecar(
    cluster: Cluster, endpoints: list[dict[str, str]], reached: bool
) -> None:
    nodes = {f"node-{n}": {"name": "x", "endpoints": found} for n, found in enumerate(endpoints)}
    cluster.answers["/_plugins/_neural_rank/stats"] = {"nodes": nodes}
    assert plugin_reaches(OpenSearch(cluster.url), "127.0.0.1:50051") is reached


def test_a_node_that_does_not_answer_has_reached_nobody() -> None:
    assert not plugin_reaches(OpenSearch("http://127.0.0.1:1"), "127.0.0.1:50051")


def test_a_password_that_is_not_written_as_an_address_has_it_is_not_shown() -> None:
    with pytest.raises(InvalidSettings, match="has a / that is not written as %2F") as caught:
        OpenSearch("https://ann:se/cret@search:9200")
    assert "'search:9200'" in str(caught.value)
    assert "se/cret" not in str(caught.value)
    assert OpenSearch("https://ann:se%2Fcret@search:9200").password == "se/cret"

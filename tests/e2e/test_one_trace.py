"""One trace from the shop's search through OpenSearch and the plugin to the sidecar and back."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from neuralrank.stack.probe import sidecar_status
from tests.e2e.shop import INDEX, eventually, open_shop

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


class Collector(otlp_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def Export(self, request: Any, _context: Any) -> Any:
        self.spans += [
            span
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        return otlp.ExportTraceServiceResponse()


@contextmanager
def tracing_sidecar(environment: dict[str, str], log: Path, collector: str) -> Iterator[str]:
    """The address of a sidecar that sends its spans to the collector."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    own = {
        "NEURALRANK_SIDECAR_LISTEN": address,
        "NEURALRANK_SIDECAR_LOG_LEVEL": "debug",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar.main"],
            env=environment | own,
            stdout=lines,
            stderr=lines,
        )
    try:
        assert eventually(lambda: sidecar_status(address) == "serving", 60), log.read_text("utf-8")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_a_search_with_a_traceparent_is_one_trace(stack: Settings, tmp_path: Path) -> None:
    shop = open_shop(stack)
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = connect(stack)
    log = tmp_path / "sidecar.log"
    try:
        with tracing_sidecar(shop.environment, log, f"127.0.0.1:{port}") as address:
            point(client, [address])
            try:
                request = urllib.request.Request(
                    f"{stack.opensearch_url}/{INDEX}/_search?search_pipeline=neural_rank",
                    json.dumps({"query": {"match": {"title": "电脑"}}}).encode(),
                    {
                        "Content-Type": "application/json",
                        "traceparent": f"00-{TRACE}-{SPAN}-01",
                        "X-Opaque-Id": "checkout-42",
                    },
                )
                names: set[str] = set()

                def traced() -> bool:
                    urllib.request.urlopen(request, timeout=30).read()
                    mine = [span for span in collector.spans if span.trace_id.hex() == TRACE]
                    names.update(span.name for span in mine)
                    return {"Encode", "Rank", "score", "blend", "OpenSearch POST"} <= names

                assert eventually(traced, 30), names
            finally:
                point(client, [stack.sidecar])
    finally:
        server.stop(None).wait()
        client.close()
    calls = [span for span in collector.spans if span.name in ("Rank", "Encode")]
    mine = [span for span in calls if span.trace_id.hex() == TRACE]
    assert {span.parent_span_id.hex() for span in mine} == {SPAN}
    for span in mine:
        attributes = {row.key: row.value.string_value for row in span.attributes}
        assert attributes["neuralrank.request_id"] == "checkout-42"
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line[:1] == "{"]
    said = [line for line in lines if line["message"] == "request"]
    ids = {(line["request_id"], line.get("trace_id")) for line in said}
    assert ("checkout-42", TRACE) in ids


def point(client: Any, endpoints: list[str]) -> None:
    """Has the node call these sidecars."""
    client.cluster.put_settings(body={"persistent": {"neural_rank.endpoint": endpoints}})

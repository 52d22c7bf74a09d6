"""Traces, from the caller's metadata through a real sidecar to a collector and to OpenSearch."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings
from sidecar.telemetry import tracing
from sidecar.telemetry.calls import Calls
from sidecar.telemetry.tracing import Tracing, tracing_from

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
METADATA = (
    ("traceparent", f"00-{TRACE}-{SPAN}-01"),
    ("tracestate", "shop=1"),
    ("x-opaque-id", "r7"),
)
REQUEST = pb.RankRequest(
    query="x", index="shop", user=pb.User(id="u"), candidates=[pb.Candidate(id="a")]
)


class Collector(otlp_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.service = ""

    def Export(self, request: Any, _context: Any) -> Any:
        for group in request.resource_spans:
            for attribute in group.resource.attributes:
                if attribute.key == "service.name":
                    self.service = attribute.value.string_value
            for scope in group.scope_spans:
                self.spans += scope.spans
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
async def opensearch() -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """The address of a cluster that has nothing, and the headers of what it was asked."""
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        if "traceparent" in request.headers:
            asked.append({name.lower(): value for name, value in request.headers.items()})
        nothing: dict[str, Any] = {"hits": {"hits": []}}
        if request.path.endswith("_msearch"):
            return web.json_response({"responses": [nothing, nothing]})
        if request.path.endswith("_search"):
            return web.json_response(nothing)
        return web.json_response({"shop-1": {"mappings": {}}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}", asked
    await runner.cleanup()


async def ranked(folder: Path, opensearch_url: str) -> None:
    """One request to a whole sidecar, which is then stopped."""
    sidecar = Sidecar(
        SidecarSettings(listen="127.0.0.1:0", drain_seconds=5, deadline_ms=5_000),
        Settings(opensearch_url=opensearch_url, registry=str(folder)),
    )
    await sidecar.start()
    try:
        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{sidecar.port}", options) as channel:
            stub = pb_grpc.RankingStub(channel)
            answer = await stub.Rank(REQUEST, timeout=30, metadata=METADATA)
            assert [hit.id for hit in answer.results] == ["a"]
    finally:
        await sidecar.stop()


async def test_a_trace_goes_from_the_caller_through_every_stage_to_opensearch(
    tmp_path: Path,
    opensearch: tuple[str, list[dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, asked = opensearch
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")
    try:
        await ranked(tmp_path, url)
    finally:
        await asyncio.to_thread(server.stop(None).wait)
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    rank = spans["Rank"]
    assert collector.service == "neuralrank-sidecar"
    assert rank.parent_span_id.hex() == SPAN
    assert rank.kind == rank.SPAN_KIND_SERVER
    attributes = {row.key: row.value.string_value for row in rank.attributes}
    assert attributes["neuralrank.request_id"] == "r7"
    assert attributes["rpc.response.status_code"] == "OK"
    stages = ("read", "profile", "features", "filter", "score", "blend")
    for stage in stages:
        assert spans[stage].parent_span_id == rank.span_id, stage
    # Each call to OpenSearch names the span of ours that made it, and is inside its stage.
    made = {span.span_id.hex(): span for span in collector.spans if "OpenSearch" in span.name}
    assert len(asked) == 3  # the index, the items, the events
    parents = set()
    for headers in asked:
        version, trace_id, parent, flags = headers["traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", TRACE, "01")
        assert headers["tracestate"] == "shop=1"
        assert headers["x-opaque-id"] == "r7"
        assert made[parent].kind == rank.SPAN_KIND_CLIENT
        parents.add(made[parent].parent_span_id)
    assert parents == {rank.span_id, spans["features"].span_id, spans["profile"].span_id}


@pytest.mark.parametrize(
    ("status", "failed"),
    [("OK", False), ("INVALID_ARGUMENT", False), ("UNAVAILABLE", True), ("INTERNAL", True)],
)
def test_a_span_of_what_is_the_sidecars_fault_is_an_error(status: str, failed: bool) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    exported = tracing._Exported(provider.get_tracer("test"), provider.shutdown)
    with Calls(exported, slow_seconds=0.0).open("Rank", ()) as call:
        call.status = status
    (span,) = kept.get_finished_spans()
    assert span.status.is_ok is not failed


async def test_without_an_exporter_the_callers_trace_is_passed_on_as_it_came(
    tmp_path: Path, opensearch: tuple[str, list[dict[str, str]]]
) -> None:
    url, asked = opensearch
    await ranked(tmp_path, url)
    assert [headers["traceparent"] for headers in asked] == [METADATA[0][1]] * 3
    assert [headers["tracestate"] for headers in asked] == ["shop=1"] * 3


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "a"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_it_is_off_unless_asked_for(environment: dict[str, str]) -> None:
    assert type(tracing_from(environment)) is Tracing


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; allowed are otlp"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json'; allowed are grpc",
        ),
    ],
)
def test_what_can_not_be_used_is_said(environment: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        tracing_from(environment)


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Unsupported, match=r"pip install .\.\[otel\]"):
        tracing_from({"OTEL_TRACES_EXPORTER": "otlp"})


def test_a_collector_that_is_down_holds_up_the_end_no_longer_than_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "_CLOSE_SECONDS", 0.01)
    answered, sent = threading.Event(), threading.Event()

    def send() -> None:
        answered.wait(10)
        sent.set()

    tracing._Exported(None, send).close()
    assert not sent.is_set()
    assert "did not take the last spans in time" in caplog.text
    answered.set()
    monkeypatch.setattr(tracing, "_CLOSE_SECONDS", 10)
    sent.clear()
    tracing._Exported(None, send).close()
    assert sent.is_set()

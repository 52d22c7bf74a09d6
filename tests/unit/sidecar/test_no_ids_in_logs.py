"""Ids of users and items, and secrets, are in no log line above DEBUG and in no span of a trace,
whatever happens."""

import asyncio
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings
from sidecar.telemetry.logs import JsonLines
from sidecar.telemetry.tracing import _Exported
from tests.unit.answering import answering

MARKER = "marker4711"


@contextmanager
def logged(level: int) -> Iterator[io.StringIO]:
    """What the product's own handler writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root, library = logging.getLogger(), logging.getLogger("opensearch")
    before = root.level, library.level
    root.addHandler(handler)
    root.setLevel(level)
    library.setLevel(logging.ERROR)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        library.setLevel(before[1])


def requests() -> list[pb.RankRequest]:
    """Such that are answered and such that are refused; each names the marker wherever it can."""
    user = pb.User(id=f"user-{MARKER}")
    candidates = [pb.Candidate(id=f"item-{MARKER}-{n}", text=f"text {MARKER}") for n in range(3)]
    good = pb.RankRequest(
        query=f"query {MARKER}", user=user, index=f"index-{MARKER}", candidates=candidates
    )
    similar = pb.RankRequest(user=user, similar_to=f"item-{MARKER}", candidates=candidates)
    twice = pb.RankRequest(query="x", user=user, candidates=[candidates[0], candidates[0]])
    unknown = pb.RankRequest(query="x", user=user, candidates=candidates)
    unknown.options.bundle = f"bundle-{MARKER}"
    return [good, similar, twice, unknown]


async def use(folder: Path, url: str) -> set[str]:
    """All kinds of requests to a sidecar in front of an OpenSearch; the statuses they got."""
    (folder / "registry").mkdir(exist_ok=True)
    (folder / "tokens").write_text(f"shop: secret-{MARKER}-0123456789\n")
    made = Sidecar(
        SidecarSettings(
            listen="127.0.0.1:0",
            drain_seconds=0,
            tokens=str(folder / "tokens"),
            user_ttl_seconds=0,
            # On a busy machine too OpenSearch's answer is waited for.
            deadline_ms=5_000,
        ),
        Settings(opensearch_url=url, registry=str(folder / "registry")),
    )
    await made.start()
    seen = set()
    token = (("authorization", f"Bearer secret-{MARKER}-0123456789"),)
    wrong = (("authorization", f"Bearer other-{MARKER}"),)
    rank = made._service._ranker.rank
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{made.port}", options) as channel:
        stub = pb_grpc.RankingStub(channel)
        encode = pb.EncodeRequest(inputs=[pb.EncodeInput(user=pb.User(id=f"user-{MARKER}"))])
        calls = [stub.Rank(request, metadata=token) for request in requests()]
        calls += [stub.Encode(encode, metadata=token), stub.Encode(encode, metadata=wrong)]
        for call in calls:
            try:
                await call
                seen.add("OK")
            except grpc.RpcError as error:
                seen.add(error.code().name)

        async def broken(query: object, *_: object) -> None:
            try:
                raise KeyError(str(query))
            except KeyError as error:
                raise ValueError(f"no {MARKER}") from error

        made._service._ranker.rank = broken  # type: ignore[method-assign, assignment]
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(requests()[0], metadata=token)
        seen.add(caught.value.code().name)

    async def lost() -> None:
        raise ValueError(MARKER)

    # A task that nobody waits for: asyncio reports it.
    task = asyncio.ensure_future(lost())
    await asyncio.wait({task})
    asyncio.get_running_loop().call_exception_handler(
        {
            "message": "Task exception was never retrieved",
            "exception": task.exception(),
            "future": task,
        }
    )
    made._service._ranker.rank = rank  # type: ignore[method-assign]
    await made.stop()
    return seen


REASON = f"no [user_id: user-{MARKER}] in [item-{MARKER}]"
ERROR = {"type": "x", "reason": REASON, "root_cause": [{"type": "x", "reason": REASON}]}


@pytest.mark.parametrize(
    "answer",
    [
        (503, {"error": ERROR, "status": 503}),
        (400, {"error": ERROR, "status": 400}),
        (404, {"error": ERROR, "status": 404}),
        (429, {"error": ERROR, "status": 429}),
        (200, f"not what was asked for: {MARKER}"),
    ],
    ids=["503", "400", "404", "429", "nonsense"],
)
async def test_no_id_is_logged_above_debug(tmp_path: Path, answer: tuple[int, object]) -> None:
    with answering(answer) as opensearch, logged(logging.INFO) as log:
        seen = await use(tmp_path, opensearch.url)
    written = log.getvalue()
    assert seen >= {"INVALID_ARGUMENT", "UNAUTHENTICATED", "INTERNAL"}
    # An index that is not there is the caller's mistake; all else costs no answer.
    assert ("OK" in seen) is (answer[0] != 404)
    # It was about all of them: the failures are there, with where they happened.
    assert "request failed" in written
    assert "test_no_ids_in_logs.py" in written
    assert "KeyError" in written
    assert "Task exception was never retrieved" in written
    assert MARKER not in written


@pytest.mark.parametrize("status", [503, 400, 404, 429])
async def test_no_id_is_in_a_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    tracing = _Exported(provider.get_tracer("test"), lambda: None)
    monkeypatch.setattr("sidecar.server.tracing_from", lambda _: tracing)
    with answering((status, {"error": ERROR, "status": status})) as opensearch:
        await use(tmp_path, opensearch.url)
    with pytest.raises(ValueError, match=MARKER), tracing.span("stage"):
        raise ValueError(MARKER)
    spans = exported.get_finished_spans()
    failed = {span.name for span in spans if span.status.status_code is StatusCode.ERROR}
    # It was about all kinds: of a request, of a stage, of a call to OpenSearch.
    assert failed >= {"Rank", "stage"}
    assert any(name.startswith("OpenSearch") for name in failed)
    for span in spans:
        said = span.to_json()
        # The path of a call names the index, and the token is nowhere.
        assert MARKER not in said.replace(f"index-{MARKER}", ""), said
        assert not span.events


async def test_at_debug_errors_speak(tmp_path: Path) -> None:
    with answering((503, {"error": ERROR})) as opensearch, logged(logging.DEBUG) as log:
        await use(tmp_path, opensearch.url)
    assert f"no {MARKER}" in log.getvalue()

"""OpenTelemetry, where the environment asks for it by the standard OTEL_… variables.

Without them nothing of it is imported: it takes a fifth of a second of the start and 7 MiB. Then
spans are nothing, and the caller's trace is passed on as it came.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol

from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.extras import install

__all__ = ["Tracing", "tracing_from"]

_log = logging.getLogger(__name__)

# What makes the sidecar trace, where OTEL_SDK_DISABLED does not forbid it.
_SWITCHES: Final = (
    "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)  # fmt: skip
_SERVICE: Final = "neuralrank-sidecar"
# The last spans may take this long to leave when the sidecar stops; what sends them has an end of
# its own, after this or not: with a collector that is down it took 20 s.
_FLUSH_MS: Final = 2_000
_CLOSE_SECONDS: Final = 3.0
# By the conventions for RPC, the statuses that are a server's fault.
_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class _Call(Protocol):
    """What of `sidecar.telemetry.calls.Call` is used here."""

    method: str
    request_id: str
    traceparent: str
    tracestate: str
    trace_id: str
    status: str


class Tracing:
    """Spans that are nothing."""

    def span(self, name: str) -> AbstractContextManager[Any]:
        """A stage of the current request."""
        del name
        return nullcontext()

    def server_span(self, call: _Call) -> AbstractContextManager[Any]:
        """The request, as a child of its caller's span; gives `call` the trace that it is in."""
        del call
        return nullcontext()

    def client_span(
        self, name: str, path: str, headers: dict[str, str]
    ) -> AbstractContextManager[Any]:
        """A call of ours; puts the span into its headers."""
        del name, path, headers
        return nullcontext()

    def close(self) -> None:
        """Sends what is left. Takes three seconds at most."""


class _Exported(Tracing):
    """Spans of OpenTelemetry."""

    def __init__(self, tracer: Any, close: Callable[[], None]) -> None:
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, Status, StatusCode

        self._tracer = tracer
        self._close = close
        self._extract, self._inject = propagate.extract, propagate.inject
        self._server, self._client = SpanKind.SERVER, SpanKind.CLIENT
        self._failed = Status(StatusCode.ERROR)

    @contextmanager
    def _begin(self, name: str, **given: Any) -> Iterator[Any]:
        """A span that ends with the block. Of an error it has the type alone: its words may quote
        ids of users and items."""
        with self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False, **given
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(self._failed)
                raise

    def span(self, name: str) -> AbstractContextManager[Any]:
        return self._begin(name)

    @contextmanager
    def server_span(self, call: _Call) -> Iterator[None]:
        came = {"traceparent": call.traceparent, "tracestate": call.tracestate}
        with self._begin(
            call.method,
            context=self._extract(came),
            kind=self._server,
            attributes={"rpc.method": call.method, "neuralrank.request_id": call.request_id},
        ) as span:
            call.trace_id = format(span.get_span_context().trace_id, "032x")
            try:
                yield
            finally:
                # The message's own, which is known once it is decoded.
                span.set_attribute("neuralrank.request_id", call.request_id)
                span.set_attribute("rpc.response.status_code", call.status)
                if call.status in _FAULTS:
                    span.set_status(self._failed)

    @contextmanager
    def client_span(self, name: str, path: str, headers: dict[str, str]) -> Iterator[None]:
        with self._begin(
            name,
            kind=self._client,
            attributes={"db.system.name": "opensearch", "url.path": path},
        ):
            self._inject(headers)
            yield

    def close(self) -> None:
        # The process's end waits for no daemon.
        closing = threading.Thread(target=self._close, name="last spans", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            _log.warning("the collector did not take the last spans in time; they are lost")


def tracing_from(environment: Mapping[str, str]) -> Tracing:
    """As OTEL_… ask: off without any of OTEL_TRACES_EXPORTER (otlp, console, none),
    OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. The SDK itself reads the
    others: sampler, resource, headers, certificates, batch sizes, propagators.

    Raises:
        InvalidSettings: an exporter or protocol that is not known.
        Unsupported: the packages are not installed.
    """
    asked = any(environment.get(name) for name in _SWITCHES)
    exporter = environment.get("OTEL_TRACES_EXPORTER", "") or "otlp"
    if not asked or exporter == "none" or environment.get("OTEL_SDK_DISABLED", "") == "true":
        return Tracing()
    if exporter not in ("otlp", "console"):
        raise InvalidSettings(
            f"OTEL_TRACES_EXPORTER is {exporter!r}; allowed are otlp, console and none."
        )
    protocol = (
        environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "grpc"
    )
    if protocol not in ("grpc", "http/protobuf"):
        raise InvalidSettings(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; allowed are grpc and http/protobuf."
        )
    try:
        return _exported(exporter, protocol)
    except ImportError as error:
        raise Unsupported(
            f"OTEL_… variables ask for traces, but OpenTelemetry is not installed ({error}). "
            f"Install it ({install('otel')}), or set OTEL_SDK_DISABLED=true."
        ) from error


def _exported(exporter: str, protocol: str) -> Tracing:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SimpleSpanProcessor,
    )

    processor: SpanProcessor
    if exporter == "console":
        processor = SimpleSpanProcessor(ConsoleSpanExporter())
    elif protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        processor = BatchSpanProcessor(OTLPSpanExporter())
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter as HttpSpanExporter,
        )

        processor = BatchSpanProcessor(HttpSpanExporter())
    named = OTELResourceDetector().detect().attributes.get("service.name")
    resource = Resource.create({} if named else {"service.name": _SERVICE})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)

    def close() -> None:
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()

    _log.info("traces are exported", extra={"exporter": exporter, "protocol": protocol})
    return _Exported(provider.get_tracer("neuralrank.sidecar"), close)

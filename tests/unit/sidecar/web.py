"""The HTTP application on a bench, asked without a network."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from sidecar.access.admission import Admission
from sidecar.http.app import Parts, build
from sidecar.http.texts import TextRanker
from sidecar.settings import SidecarSettings
from sidecar.telemetry.calls import Calls
from sidecar.telemetry.tracing import Tracing
from tests.unit.sidecar.parts import Bench

URL = "http://sidecar.test"


def application(bench: Bench, *, ready: bool = True, **settings: Any) -> Any:
    """The ASGI application with everything of the bench behind it."""
    made = SidecarSettings(**settings)
    admission = Admission(made, bench.metrics, time.monotonic)
    texts = TextRanker(bench.ranker, bench.models, bench.inference, bench.metrics)
    calls = Calls(Tracing(), slow_seconds=0.0)
    return build(Parts(texts, bench.models, bench.metrics, admission, calls, made, lambda: ready))


@asynccontextmanager
async def web(bench: Bench, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(bench, **settings))
    async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=20) as client:
        yield client

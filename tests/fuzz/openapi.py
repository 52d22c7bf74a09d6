"""schemathesis against the OpenAPI document of a live server: what the document allows and what it
does not, over real HTTP."""

import asyncio
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from sidecar.http.server import HttpServer
from tests.unit.sidecar.parts import Bench, WordJudge
from tests.unit.sidecar.web import application

__all__ = ["live", "probe"]

TOKEN: Final = "0123456789abcdef"


@contextmanager
def live() -> Iterator[str]:
    """The URL of a server on a thread of its own, small models behind it, `TOKEN` needed."""
    tokens = Path(tempfile.mkdtemp(prefix="neuralrank-fuzz-")) / "tokens"
    tokens.write_text(f"fuzz: {TOKEN}\n")
    bench = Bench(judge=WordJudge())
    started, loop = threading.Event(), asyncio.new_event_loop()
    server: list[HttpServer] = []

    async def start() -> None:
        server.append(
            HttpServer(application(bench, tokens=str(tokens)), "127.0.0.1", 0, connections=100)
        )
        await server[0].start()
        started.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(30)
    try:
        yield f"http://127.0.0.1:{server[0].port}"
    finally:
        asyncio.run_coroutine_threadsafe(server[0].stop(), loop).result(30)
        asyncio.run_coroutine_threadsafe(bench.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
        shutil.rmtree(tokens.parent)


def probe(url: str, seconds: float, examples: int = 50) -> int:
    """Sends requests of every route until the time is over; how many they were.

    Raises:
        Exception: schemathesis', for an answer that the document does not allow.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    until = time.monotonic() + seconds
    count = 0
    for number in itertools.count():
        for found in schema.get_all_operations():
            # Each route once, whatever time that takes.
            if number and time.monotonic() > until:
                return count
            count += _probe(found.ok(), number, examples)
    raise AssertionError("count never ends")


def _probe(operation: Any, number: int, examples: int) -> int:
    count = 0

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def once(case: schemathesis.Case) -> None:
        nonlocal count
        count += 1
        # Whether an object can be read depends on another field, which no schema says; and 503 and
        # 504 are answers that the document names, while a defect is 500.
        answer = case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"},
            excluded_checks=[positive_data_acceptance, not_a_server_error],
        )
        assert answer.status_code != 500

    once()
    return count

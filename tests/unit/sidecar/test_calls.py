"""The ids of a request: where they come from, where they go, and what the logs say with them."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sidecar.telemetry.calls import Calls, current, opensearch_call
from sidecar.telemetry.logs import JsonLines, configure_logs
from sidecar.telemetry.tracing import Tracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def calls(slow_seconds: float = 0.0) -> Calls:
    return Calls(Tracing(), slow_seconds=slow_seconds)


@pytest.mark.parametrize(
    ("given", "headers", "expected"),
    [
        ("mine", {"x-request-id": "header"}, "mine"),
        ("", {"x-opaque-id": "opaque", "x-request-id": "header"}, "header"),
        ("", {"x-opaque-id": "opaque"}, "opaque"),
        ("a\nb c\u202ed电", {}, "abcd"),
        ("x" * 500, {}, "x" * 128),
    ],
)
def test_the_request_id_is_the_callers(given: str, headers: dict[str, str], expected: str) -> None:
    with calls().open("Rank", headers.items(), given) as call:
        assert call.request_id == expected


@pytest.mark.parametrize(
    ("given", "expected"), [("mine", "mine"), ("", "header"), ("a\nb", "ab"), ("电", "header")]
)
def test_the_message_may_name_the_call_once_it_is_decoded(given: str, expected: str) -> None:
    with calls().open("Rank", [("x-request-id", "header")]) as call:
        call.named(given)
        assert call.request_id == expected


def test_without_one_it_is_made_up_and_no_two_are_the_same() -> None:
    opened = calls()
    made = set()
    for _ in range(100):
        with opened.open("Rank", ()) as call:
            made.add(call.request_id)
    assert len(made) == 100
    assert all(len(name) == 16 for name in made)


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [
        (PARENT, TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-later", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        (PARENT + "\n", ""),
        ("nonsense", ""),
        (b"\xff", ""),
    ],
)
def test_a_trace_is_continued_or_passed_over(header: Any, trace_id: str) -> None:
    with calls().open("Rank", [("traceparent", header), ("tracestate", "a=1")]) as call:
        assert call.trace_id == trace_id
        with opensearch_call("POST", "/_search") as sent:
            assert sent.get("traceparent", "") == (header if trace_id else "")
            assert ("tracestate" in sent) == bool(trace_id)
            assert sent["X-Opaque-Id"] == call.request_id


async def test_a_call_is_seen_by_its_own_tasks_only() -> None:
    opened = calls()
    started = asyncio.Event()

    async def inner() -> str:
        await asyncio.sleep(0)
        call = current()
        return call.request_id if call else ""

    async def request(name: str) -> str:
        with opened.open("Rank", (), name):
            task = asyncio.create_task(inner())
            started.set()
            return await task

    assert await asyncio.gather(*(request(f"r{n}") for n in range(20))) == [
        f"r{n}" for n in range(20)
    ]
    assert current() is None
    with opensearch_call("GET", "/") as headers:
        assert headers == {}


@contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """The lines of sidecar.calls, as they would be written."""
    lines: list[dict[str, Any]] = []

    class Capture(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    handler, log = Capture(), logging.getLogger("sidecar.telemetry.calls")
    handler.setFormatter(JsonLines())
    log.addHandler(handler)
    level = log.level
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def test_a_slow_request_is_logged_with_its_stages_and_not_every_one() -> None:
    opened = calls(slow_seconds=1e-9)
    with captured() as lines:
        for _ in range(3):
            with opened.open("Rank", [("traceparent", PARENT)], "r1") as call:
                call.stages["score"] = 1.25
                call.status = "CANCELLED"
        opened._seldom._silent_until = 0.0
        with opened.open("Encode", (), "r2"):
            pass
    first, second = lines
    assert first["message"] == "slow request"
    assert first["level"] == "WARNING"
    assert (first["method"], first["request_id"], first["trace_id"]) == ("Rank", "r1", TRACE)
    assert (first["status"], first["stages"]) == ("CANCELLED", {"score": 1.2})
    assert first["milliseconds"] >= 0
    assert second["request_id"] == "r2"
    assert "trace_id" not in second
    assert second["slow_before_unsaid"] == 2


def test_a_request_is_logged_at_debug_and_not_above() -> None:
    with captured() as lines:
        for level in (logging.INFO, logging.DEBUG):
            logging.getLogger("sidecar.telemetry.calls").setLevel(level)
            with calls().open("Rank", (), logging.getLevelName(level)):
                pass
    assert [(line["request_id"], line["level"]) for line in lines] == [("DEBUG", "DEBUG")]


def test_one_entry_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning")
    log = logging.getLogger("anywhere")
    with calls().open("Rank", (), "r1"):
        log.warning("two\nlines %s", "电", extra={"bundle": "a\r\nb", "n": {"x": object()}})
        log.info("not said")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["message"] == "two\nlines 电"
    assert (first["request_id"], first["bundle"]) == ("r1", "a\r\nb")
    assert "request_id" not in second
    assert second["traceback"].endswith("ValueError")
    assert "test_calls.py" in second["traceback"]

"""Requests are refused while the event loop is never idle, and not for a burst."""

import asyncio
import time

import pytest

from neuralrank.errors import Overloaded
from sidecar.access.admission import Admission
from sidecar.access.busy import Busy
from sidecar.settings import SidecarSettings
from sidecar.telemetry.metrics import Metrics


def admission(percent: int, metrics: Metrics | None = None, **settings: int) -> Admission:
    made = SidecarSettings(max_busy_percent=percent, **settings)
    return Admission(made, metrics or Metrics(), lambda: 0.0)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_burst_does_not_make_it_busy_and_saturation_does() -> None:
    busy = Busy(lambda: 0.0)
    assert busy.share == 0.0
    for _ in range(100):
        busy.note(working=0.001, idle=0.009)
    assert busy.share == pytest.approx(0.1, abs=0.02)
    busy.note(working=0.02, idle=0.0)
    assert busy.share < 0.6
    for _ in range(20):
        busy.note(working=0.01, idle=0.0)
    assert busy.share > 0.95
    busy.note(working=0.0, idle=0.05)
    assert busy.share < 0.5


def test_a_machine_that_stood_still_is_not_busy() -> None:
    made = admission(85)
    for _ in range(10):
        made.busy.note(working=0.006, idle=0.019)
    with made.admitted("caught in the middle"):
        made.busy.note(working=0.2, idle=0.0)
        # Those who came meanwhile, one after the other.
        for _ in range(8):
            with made.admitted("came meanwhile"):
                made.busy.note(working=0.003, idle=0.0)


def test_busy_it_refuses_and_idle_it_admits() -> None:
    made = admission(85)
    with made.admitted("a"):
        made.busy.note(working=1.0, idle=0.0)
        with pytest.raises(Overloaded, match="at work for 100% of its time, allowed are 85%"):
            made.admitted("b").__enter__()
        made.busy.note(working=0.0, idle=0.1)
        with made.admitted("b"):
            pass


def test_why_a_request_was_refused_and_how_busy_it_is_are_seen_from_outside() -> None:
    metrics = Metrics()
    made = admission(85, metrics, max_in_flight=2)
    with made.admitted("a"):
        made.busy.note(working=1.0, idle=0.0)
        assert value(metrics, "neuralrank_busy_ratio") == 1.0
        with pytest.raises(Overloaded):
            made.admitted("b").__enter__()
        made.busy.note(working=0.0, idle=1.0)
        assert value(metrics, "neuralrank_busy_ratio") < 0.01
        assert value(metrics, "neuralrank_busy_seconds_total") == 1.0
        with made.admitted("b"), pytest.raises(Overloaded):
            made.admitted("c").__enter__()
    for reason in ("busy", "in_flight"):
        name = "neuralrank_refused_requests_total"
        assert value(metrics, name, reason=reason) == 1, reason


def test_work_is_counted_whole_however_short_it_is() -> None:
    said: list[float] = []
    busy = Busy(lambda: 0.0, said.append)
    for _ in range(100):
        busy.note(working=0.002, idle=0.003)
    assert sum(said) == pytest.approx(0.2, abs=0.05)
    assert len(said) <= 5


def test_the_only_request_is_never_refused_for_what_others_did() -> None:
    made = admission(85)
    made.busy.note(working=1.0, idle=0.0)
    with made.admitted("a"):
        pass


def test_100_never_refuses_for_it() -> None:
    made = admission(100)
    with made.admitted("a"):
        made.busy.note(working=1.0, idle=0.0)
        with made.admitted("b"):
            pass


def test_it_sees_a_real_loop_work_and_wait() -> None:
    busy = Busy(time.monotonic)

    async def run() -> tuple[float, float]:
        busy.watch(asyncio.get_running_loop())
        busy.watch(asyncio.get_running_loop())  # again: nothing
        await asyncio.sleep(0.1)
        waited = busy.share
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            await asyncio.sleep(0)
        worked = busy.share
        busy.close()
        busy.close()
        return waited, worked

    waited, worked = asyncio.run(run())
    assert waited < 0.5 < worked

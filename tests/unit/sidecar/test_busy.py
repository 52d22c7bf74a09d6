"""Requests are refused while the event loop is never idle, and not for a burst."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import DeadlineExceeded, Overloaded
from sidecar.access.admission import Admission
from sidecar.access.busy import Busy
from sidecar.deadline import Deadline
from sidecar.settings import SidecarSettings
from sidecar.telemetry.calls import Calls
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.tracing import Tracing


def admission(
    percent: int,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    **settings: int,
) -> Admission:
    made = SidecarSettings(max_busy_percent=percent, **settings)
    return Admission(made, metrics or Metrics(), clock)


def asks(made: Admission, caller: str, within: float = math.inf) -> AbstractContextManager[None]:
    return made.admitted(caller, Deadline(within, lambda: 0.0))


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


@pytest.mark.parametrize("idle", [0.1, 1.0, 60.0])
def test_however_long_it_was_idle_work_is_seen_as_soon(idle: float) -> None:
    busy = Busy(lambda: 0.0)
    busy.note(working=0.0, idle=idle)
    for _ in range(20):
        busy.note(working=0.005, idle=0.0)
    assert busy.share == pytest.approx(0.86, abs=0.03)  # 100 ms of work: 1 − e⁻²


def test_a_machine_that_stood_still_is_not_busy() -> None:
    made = admission(85)
    for _ in range(10):
        made.busy.note(working=0.006, idle=0.019)
    with asks(made, "caught in the middle"):
        made.busy.note(working=0.2, idle=0.0)
        # Those who came meanwhile, one after the other.
        for _ in range(8):
            with asks(made, "came meanwhile"):
                made.busy.note(working=0.003, idle=0.0)


def test_busy_it_refuses_and_idle_it_admits() -> None:
    made = admission(85)
    with asks(made, "a"):
        made.busy.note(working=1.0, idle=0.0)
        with pytest.raises(Overloaded, match="at work for 100% of its time, allowed are 85%"):
            asks(made, "b").__enter__()
        made.busy.note(working=0.0, idle=0.1)
        with asks(made, "b"):
            pass


@given(st.lists(st.floats(1e-6, 0.05), min_size=1, max_size=60))
def test_of_a_hundred_percent_nobody_is_refused(pieces: list[float]) -> None:
    made = admission(100)
    with asks(made, "a"):
        for piece in pieces:
            made.busy.note(working=piece, idle=0.0)
            assert made.busy.share <= 1.0
            with asks(made, "b"):
                pass


def test_why_a_request_was_refused_and_how_busy_it_is_are_seen_from_outside() -> None:
    metrics = Metrics()
    made = admission(85, metrics, max_in_flight=2)
    with asks(made, "a"):
        made.busy.note(working=1.0, idle=0.0)
        assert value(metrics, "neuralrank_busy_ratio") == 1.0
        with pytest.raises(Overloaded):
            asks(made, "b").__enter__()
        made.busy.note(working=0.0, idle=1.0)
        assert value(metrics, "neuralrank_busy_ratio") < 0.01
        assert value(metrics, "neuralrank_busy_seconds_total") == 1.0
        with asks(made, "b"), pytest.raises(Overloaded):
            asks(made, "c").__enter__()
    for reason in ("busy", "in_flight"):
        name = "neuralrank_refused_requests_total"
        assert value(metrics, name, reason=reason) == 1, reason


def ended(made: Admission, count: int, seconds: float) -> None:
    """So many requests, one after the other, each with so much work."""
    for _ in range(count):
        with asks(made, "calm"):
            made.busy.note(working=seconds, idle=0.02)


@contextmanager
def burst(made: Admission, count: int, within: float = 0.05) -> Iterator[ExitStack]:
    """So many requests at once, all let in, and held."""
    with ExitStack() as held:
        for _ in range(count):
            held.enter_context(asks(made, "burst", within))
        yield held


def test_a_burst_is_let_in_as_far_as_its_deadline_goes() -> None:
    metrics = Metrics()
    made = admission(85, metrics)
    ended(made, 100, 0.004)
    # 50 ms hold twelve requests of 4 ms, before the loop is seen to be busy with them.
    with burst(made, 13) as held:
        with pytest.raises(Overloaded, match=r"13 requests.*take 52 ms.*are 50 ms"):
            asks(made, "burst", 0.05).__enter__()
        held.enter_context(asks(made, "patient", 0.5))
        held.enter_context(asks(made, "without a deadline"))
    assert value(metrics, "neuralrank_refused_requests_total", reason="late") == 1
    with asks(made, "when it is over", 0.05):
        pass


def test_what_the_loop_does_while_there_is_no_request_is_not_charged_to_one() -> None:
    made = admission(85)
    ended(made, 100, 0.004)
    for _ in range(1_000):  # a night of polls and scrapes
        made.busy.note(working=0.01, idle=1.0)
    with burst(made, 13):
        pass


def test_one_dear_request_has_no_others_refused() -> None:
    made = admission(85)
    ended(made, 100, 0.002)
    with asks(made, "a thousand texts"):
        for _ in range(100):
            made.busy.note(working=0.02, idle=0.02)
    with burst(made, 17):
        pass


def test_a_wrong_idea_of_what_requests_take_is_given_up() -> None:
    made = admission(85)
    ended(made, 200, 0.02)  # at first all were dear; now they take 2 ms, ten at a time
    refused = 0
    for _ in range(100):
        with ExitStack() as held:
            for _ in range(10):
                try:
                    held.enter_context(asks(made, "a", 0.05))
                except Overloaded:
                    refused += 1
                else:
                    made.busy.note(working=0.002, idle=0.002)
    with burst(made, 10):
        pass
    assert 0 < refused < 200


def test_who_is_refused_once_its_deadline_is_known_counts_as_one_that_was_before() -> None:
    metrics = Metrics()
    made = admission(85, metrics, caller_rate=60, caller_burst=2)
    ended(made, 2, 0.02)
    taken = made._effort.seconds = 0.02
    with asks(made, "a"), made.admitted("b", Deadline.never()) as place:
        place.hold_to(0.02)
        # Those that came after it take nothing of its time.
        with asks(made, "c"), asks(made, "d"):
            place.hold_to(0.02)
    made._effort.seconds = taken
    with asks(made, "a"), made.admitted("e", Deadline.never()) as place:
        made.busy.note(working=0.01, idle=0.0)
        with pytest.raises(Overloaded, match=r"1 requests.*take 20 ms.*are 10 ms"):
            place.hold_to(0.01)
    assert (place.refused, made.in_flight) == (True, 0)
    # What the loop did for it is learned of no request.
    assert made._effort.seconds == pytest.approx(taken * 0.99)
    assert value(metrics, "neuralrank_refused_requests_total", reason="late") == 1
    # And it cost its caller nothing of its rate.
    made.busy.note(working=0.0, idle=1.0)
    for _ in range(2):
        with asks(made, "e"):
            pass


def test_what_is_in_work_is_shown_for_as_long_as_it_is() -> None:
    metrics = Metrics()
    made = admission(85, metrics)
    shown = []
    with asks(made, "a"):
        with suppress(ValueError), asks(made, "b"):
            shown.append(value(metrics, "neuralrank_in_flight_requests"))
            raise ValueError("defect")
        shown.append(value(metrics, "neuralrank_in_flight_requests"))
    assert [*shown, value(metrics, "neuralrank_in_flight_requests")] == [2, 1, 0]


def test_who_has_shown_nothing_is_in_the_queue_by_itself() -> None:
    made = admission(85)
    calls = Calls(Tracing(), slow_seconds=0.0)
    for subject, shares_with in (("shop", "shop"), ("", "")):
        with calls.open("Rank", ()) as call:
            assert made.caller("", subject, "10.0.0.7") == (subject or "10.0.0.7")
            # An address may be that of many, whom one share would be too little for.
            assert call.caller == shares_with


def test_nothing_is_refused_as_late_before_anything_has_ended() -> None:
    made = admission(85)
    with burst(made, 64, 0.001):
        pass


def test_what_has_expired_is_no_refusal_and_costs_its_caller_nothing() -> None:
    metrics = Metrics()
    made = admission(85, metrics, caller_rate=1, caller_burst=1)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded, match="had passed when the request arrived"):
            asks(made, "a", 0.0).__enter__()
    with asks(made, "a"):
        pass
    assert value(metrics, "neuralrank_refused_requests_total", reason="late") == 0


def test_what_refusing_costs_does_not_make_requests_dearer() -> None:
    made = admission(85)
    ended(made, 100, 0.004)
    for _ in range(50):
        with asks(made, "a"):
            for _ in range(10):
                made.busy.note(working=0.02, idle=0.0)
            with pytest.raises(Overloaded, match="at work for"):
                asks(made, "b").__enter__()
            made.busy.note(working=0.0, idle=1.0)
    with burst(made, 13), pytest.raises(Overloaded):
        asks(made, "burst", 0.05).__enter__()


def test_work_is_counted_whole_however_short_it_is() -> None:
    said: list[float] = []
    busy = Busy(lambda: 0.0, said.append)
    for _ in range(100):
        busy.note(working=0.002, idle=0.003)
    assert sum(said) == pytest.approx(0.2, abs=0.05)
    assert len(said) <= 5


def test_the_only_request_is_not_refused_for_what_others_did() -> None:
    made = admission(85)
    made.busy.note(working=1.0, idle=0.0)
    with asks(made, "a"):
        pass
    made.busy.note(working=0.0, idle=0.002)
    with asks(made, "a"):
        pass


def test_where_the_loop_is_never_idle_one_after_the_other_is_too_much() -> None:
    # Each is done before the next is seen, and the others wait in gRPC.
    now = [7.0]
    made = admission(85, clock=lambda: now[0])
    made.busy.note(working=1.0, idle=0.0)
    with asks(made, "a"):
        pass
    with pytest.raises(Overloaded, match="at work for 100%"), asks(made, "b"):
        pass
    # Refusals alone may be all that it works at.
    now[0] += 0.03
    with asks(made, "c"):
        pass


def test_100_never_refuses_for_it() -> None:
    made = admission(100)
    made.busy.note(working=1.0, idle=0.0)
    with asks(made, "a"):
        made.busy.note(working=1.0, idle=0.0)
        with asks(made, "b"):
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

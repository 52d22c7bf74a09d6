"""A caller's own limits, on a clock that tests move."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import RateExceeded
from sidecar.access.addresses import canonical
from sidecar.access.limits import CallerLimits
from tests.unit.sidecar.parts import Clock


def ask(limits: CallerLimits, caller: str = "shop") -> bool:
    try:
        with limits.admitted(caller):
            return True
    except RateExceeded:
        return False


def test_the_burst_then_the_rate() -> None:
    clock = Clock()
    limits = CallerLimits(rate=10, burst=3, concurrency=0, clock=clock)
    assert [ask(limits) for _ in range(4)] == [True, True, True, False]
    with pytest.raises(RateExceeded, match=r"allowed are 10 requests a second, and 3 at") as caught:
        limits.admitted("shop").__enter__()
    assert caught.value.retry_after == pytest.approx(0.1)
    clock.now += 0.099
    assert not ask(limits)
    clock.now += 0.002
    assert ask(limits)
    clock.now += 60
    assert [ask(limits) for _ in range(4)] == [True, True, True, False]


def test_one_caller_does_not_use_up_anothers() -> None:
    limits = CallerLimits(rate=1, burst=0, concurrency=0, clock=Clock())
    assert [ask(limits, "a"), ask(limits, "a"), ask(limits, "b")] == [True, False, True]


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        ("10.0.0.7", ["10.0.0.7", "::ffff:10.0.0.7", "%5B::ffff:10.0.0.7%5D"]),
        ("2001:db8::1", ["2001:db8::1", "%5B2001:db8::1%5D", "[2001:DB8:0::1]"]),
        ("fe80::1%eth0", ["fe80::1%eth0", "%5Bfe80::1%25eth0%5D"]),
        ("unix:/tmp/%5B", ["unix:/tmp/%5B"]),
        ("", [""]),
    ],
)
def test_a_machine_has_one_name_over_grpc_and_http(machine: str, names: list[str]) -> None:
    assert {canonical(name) for name in names} == {machine}


def test_less_than_one_a_second() -> None:
    clock = Clock()
    limits = CallerLimits(rate=0.5, burst=0, concurrency=0, clock=clock)
    assert [ask(limits), ask(limits)] == [True, False]
    clock.now += 2.01
    assert [ask(limits), ask(limits)] == [True, False]


def test_so_many_at_once_and_again_when_one_ends() -> None:
    limits = CallerLimits(rate=0, burst=0, concurrency=2, clock=Clock())
    with limits.admitted("shop"):
        with limits.admitted("shop"):
            with pytest.raises(RateExceeded, match="allowed are 2 at once") as caught:
                limits.admitted("shop").__enter__()
            assert caught.value.retry_after is None
            assert ask(limits, "cms")
        assert ask(limits)
    assert ask(limits)


def test_a_request_that_fails_gives_its_place_back() -> None:
    limits = CallerLimits(rate=0, burst=0, concurrency=1, clock=Clock())
    with pytest.raises(ZeroDivisionError), limits.admitted("shop"):
        raise ZeroDivisionError
    assert ask(limits)


def test_who_has_too_many_in_work_spends_nothing_of_the_rate() -> None:
    limits = CallerLimits(rate=1, burst=2, concurrency=1, clock=Clock())
    with limits.admitted("shop"):
        assert [ask(limits) for _ in range(5)] == [False] * 5
    assert [ask(limits), ask(limits)] == [True, False]


def test_what_is_given_back_is_there_the_next_time_and_once() -> None:
    clock = Clock()
    limits = CallerLimits(rate=1, burst=1, concurrency=0, clock=clock)
    assert ask(limits)
    limits.give_back("shop")
    assert [ask(limits, "cms"), ask(limits), ask(limits)] == [True, True, False]
    limits.give_back("shop")
    limits.give_back("shop")
    assert [ask(limits) for _ in range(3)] == [True, True, False]
    without = CallerLimits(rate=0, burst=0, concurrency=0, clock=clock)
    without.give_back("shop")
    assert not without._given_back


def test_without_limits_everything_is_let_in() -> None:
    limits = CallerLimits(rate=0, burst=0, concurrency=0, clock=Clock())
    with ExitStack() as held:
        for _ in range(1_000):
            held.enter_context(limits.admitted("shop"))


@given(
    rate=st.integers(1, 200),
    burst=st.integers(1, 50),
    pauses=st.lists(st.integers(0, 2_000), max_size=100),
)
def test_never_more_than_the_burst_and_the_rate(rate: int, burst: int, pauses: list[int]) -> None:
    clock = Clock()
    limits = CallerLimits(rate=rate, burst=burst, concurrency=0, clock=clock)
    begin, let_in = clock.now, 0
    for pause in pauses:
        clock.now += pause / 1_000
        let_in += ask(limits)
        # A millisecond of the clock's grain.
        assert let_in <= burst + rate * (clock.now - begin + 0.001)

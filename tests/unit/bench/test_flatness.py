"""The soak's verdict can fail: each thing that must not happen is found."""

from collections import Counter
from typing import Any

import pytest

from bench.capacity import holds
from bench.flatness import Sample, judge
from bench.load import Tally


def samples(count: int = 30, **by_minute: Any) -> list[Sample]:
    """`by_minute`: a field as a function of the minute."""
    steady = {
        "rss_mb": 400.0, "files": 20, "threads": 17, "p50_ms": 50.0, "p99_ms": 120.0,
        "answered": 600, "refused": 0, "other_cpu": 0.0,
    }  # fmt: skip
    return [
        Sample(minute, **(steady | {name: f(minute) for name, f in by_minute.items()}))
        for minute in range(1, count + 1)
    ]


def tally(**changed: Any) -> Tally:
    return Tally(**({"sent": 1_000, "statuses": Counter(OK=1_000)} | changed))


def test_steady_with_noise_is_flat() -> None:
    noisy = samples(p99_ms=lambda m: 120 + 15 * (m % 3), rss_mb=lambda m: 400 + m % 2)
    assert judge(noisy, tally()).flat


def test_one_bad_minute_is_not_a_trend() -> None:
    assert judge(samples(p99_ms=lambda m: 900.0 if m == 20 else 120.0), tally()).flat


def test_caches_may_fill_at_the_beginning() -> None:
    assert judge(samples(rss_mb=lambda m: 400 + 20 * min(m, 7)), tally()).flat


@pytest.mark.parametrize(
    ("name", "growth"), [("rss_mb", 2.0), ("files", 1.0), ("threads", 0.5), ("p99_ms", 3.0)]
)
def test_what_grows_is_named(name: str, growth: float) -> None:
    verdict = judge(samples(**{name: lambda m: 100 + growth * m}), tally())
    assert [problem.split()[0] for problem in verdict.problems] == [name]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sent": 1_001}, "never answered"),
        # What is never answered ends by the caller's own timeout.
        ({"statuses": Counter(OK=999, DEADLINE_EXCEEDED=1)}, "1 of 1000 requests were never"),
        ({"wrong": 1}, "lacked a candidate"),
        ({"statuses": Counter(OK=999, INTERNAL=1)}, "INTERNAL"),
        ({"statuses": Counter(OK=900, RESOURCE_EXHAUSTED=100)}, "only 900"),
    ],
)
def test_requests_that_went_wrong_are_found(changed: dict[str, Any], said: str) -> None:
    (problem,) = judge(samples(), tally(**changed)).problems
    assert said in problem


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_are_no_verdict_of_flat(count: int) -> None:
    (problem,) = judge(samples(count), tally()).problems
    assert "too few samples" in problem


def test_a_rate_is_held_by_time_and_by_answers() -> None:
    assert holds(tally(ms=[50.0] * 1_000), 60)
    assert not holds(tally(ms=[50.0] * 980 + [90.0] * 20), 60)
    refusing = Counter(OK=980, RESOURCE_EXHAUSTED=20)
    assert not holds(tally(ms=[50.0] * 980, statuses=refusing), 60)
    assert not holds(tally(sent=0, statuses=Counter()), 60)

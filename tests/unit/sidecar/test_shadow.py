"""A shadow scores beside the bundle in service, when nobody waits, and says how both agree."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau

from neuralrank.agreement import kendall_tau, top_overlap
from sidecar.models.serving import Agreement, Loaded, Serving, State, Status
from sidecar.models.shadow import Shadow
from sidecar.telemetry.metrics import Metrics
from tests.unit.sidecar.parts import Bench, Clock, WordJudge, request

SERVED, CANDIDATE = "judge@000000000002", "judge@000000000003"


def models(candidate: WordJudge, percent: float = 100.0) -> Serving:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def loaded(judge: WordJudge) -> Loaded:
        name, _, digits = judge.ref.partition("@")
        status = Status(name, digits, "cross_encoder", (), State.SERVING)
        return Loaded(status, now, cross_encoder=judge)

    return Serving(
        {SERVED: loaded(WordJudge()), CANDIDATE: loaded(candidate)},
        current={"judge": SERVED},
        shadows={"judge": (CANDIDATE, percent)},
    )


class Load:
    """Whether a request is in work."""

    def __init__(self) -> None:
        self.busy = False

    def __call__(self) -> bool:
        return self.busy


@pytest.fixture
def load() -> Load:
    return Load()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shadow(load: Load, clock: Clock) -> Iterator[Shadow]:
    made = Shadow(Metrics(), load, limit=2, clock=clock)
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    """The work is in another thread; it has ten seconds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def offer(shadow: Shadow, serving: Serving, query: str = "red phone") -> None:
    texts = ["red phone", "blue phone", "kettle"]
    scores = np.array([1.0, 0.5, 0.0], np.float32)
    shadow.offer(serving, WordJudge(), "en", query, texts, scores)


@pytest.mark.parametrize(("language", "compared"), [(None, True), ("", False), ("zh", False)])
def test_a_candidate_scores_what_it_can_read(
    shadow: Shadow, language: str | None, compared: bool
) -> None:
    candidate = WordJudge(ref=CANDIDATE)
    scores = np.zeros(2, np.float32)
    serving = models(candidate)
    shadow.offer(serving, WordJudge(), language, "12345", ["red phone", "kettle"], scores)
    offer(shadow, serving)
    until(lambda: agreement(shadow).requests == 1 + compared)


def agreement(shadow: Shadow) -> Agreement:
    return shadow.agreement(CANDIDATE) or Agreement()


def test_the_same_order_agrees_and_a_drift_is_seen(shadow: Shadow) -> None:
    # Scores 4, 0 and -4 become 1, 0.5 and 0: just what was served.
    offer(shadow, models(WordJudge(ref=CANDIDATE)))
    until(lambda: agreement(shadow).requests == 1)
    assert agreement(shadow) == Agreement(1, 0, 0, 1.0, 1.0, 0.0)
    # Of another query the candidate knows only one word.
    offer(shadow, models(WordJudge(ref=CANDIDATE)), "kettle")
    until(lambda: agreement(shadow).requests == 2)
    mean = agreement(shadow)
    assert -1 < mean.kendall_tau < 1
    assert mean.score_drift == pytest.approx((0.0 + (0 + 0 + 0.5 - 1.5) / 3) / 2)


def test_nothing_runs_while_a_request_is_in_work_and_what_waits_too_long_is_dropped(
    shadow: Shadow, load: Load, clock: Clock
) -> None:
    load.busy = True
    candidate = WordJudge(ref=CANDIDATE)
    offer(shadow, models(candidate))
    time.sleep(0.02)
    assert candidate.calls == []
    clock.now += 6
    until(lambda: agreement(shadow).dropped == 1)
    assert candidate.calls == []
    load.busy = False
    offer(shadow, models(candidate))
    until(lambda: agreement(shadow).requests == 1)


def test_what_waits_is_bounded(shadow: Shadow, load: Load) -> None:
    load.busy = True
    for _ in range(10):
        offer(shadow, models(WordJudge(ref=CANDIDATE)))
    # Two wait, and one may be held by the thread that waits for the load to pass.
    assert 7 <= agreement(shadow).dropped <= 8


def test_what_is_dropped_while_another_is_counted_is_counted_too(
    shadow: Shadow, load: Load
) -> None:
    read, offered = threading.Event(), threading.Event()

    class Sums(dict[str, Agreement]):
        """Between the reading and the writing of the shadow's own thread there is time."""

        def get(self, ref: str, default: Any = None) -> Any:
            found = super().get(ref, default)
            if threading.current_thread().name == "shadow":
                read.set()
                offered.wait(0.1)
            return found

    shadow._sums = Sums()
    serving = models(WordJudge(ref=CANDIDATE))
    offer(shadow, serving)
    assert read.wait(10)
    load.busy = True
    for _ in range(5):
        offer(shadow, serving)
    offered.set()
    until(lambda: agreement(shadow).requests == 1)
    labels = {"bundle": CANDIDATE, "outcome": "dropped"}
    counted = shadow._metrics.registry.get_sample_value("neuralrank_shadow_requests_total", labels)
    assert agreement(shadow).dropped == counted
    assert counted in (2, 3)


def test_a_candidate_that_fails_costs_nobody_anything(shadow: Shadow) -> None:
    offer(shadow, models(WordJudge(ref=CANDIDATE, error=RuntimeError("broken"))))
    until(lambda: agreement(shadow).failed == 1)
    offer(shadow, models(WordJudge(ref=CANDIDATE)))
    until(lambda: agreement(shadow).requests == 1)


def test_a_candidate_that_always_fails_does_not_fill_the_log(
    shadow: Shadow, caplog: pytest.LogCaptureFixture
) -> None:
    for done in range(1, 11):
        offer(shadow, models(WordJudge(ref=CANDIDATE, error=RuntimeError("broken"))))
        until(lambda count=done: agreement(shadow).failed == count)  # type: ignore[misc]
    assert len([line for line in caplog.messages if "a shadow failed" in line]) == 1


@pytest.mark.parametrize(
    "serving",
    [
        models(WordJudge(ref=CANDIDATE, languages=("zh",))),
        models(WordJudge(ref=CANDIDATE), percent=0.0),
        Serving(),
    ],
    ids=["another language", "no share", "no shadow"],
)
def test_what_is_not_to_be_compared_is_not_even_queued(shadow: Shadow, serving: Serving) -> None:
    offer(shadow, serving)
    assert shadow.agreement(CANDIDATE) is None
    assert shadow._thread is None


async def test_a_rank_offers_what_was_read_and_its_answer_is_the_served_bundles() -> None:
    bench = Bench(judge=WordJudge())
    shadow = Shadow(bench.metrics, lambda: False)
    bench.ranker._shadow = shadow
    before = await bench.rank(request(query="apple computer"))
    bench.models.serving = Serving(
        {**bench.models.serving.loaded, **models(WordJudge(ref=CANDIDATE)).loaded},
        current={"judge": SERVED, "words": "words@000000000001"},
        shadows={"judge": (CANDIDATE, 100.0)},
    )
    try:
        answer = await bench.rank(request(query="apple computer"))
        until(lambda: agreement(shadow).requests == 1)
    finally:
        shadow.close()
        await bench.close()
    assert [hit.id for hit in answer.results] == [hit.id for hit in before.results]
    assert SERVED in answer.bundles
    assert CANDIDATE not in answer.bundles
    assert agreement(shadow).kendall_tau == pytest.approx(1.0)


def test_what_is_asked_for_by_its_hash_and_does_not_serve_is_not_compared() -> None:
    serving = models(WordJudge(ref=CANDIDATE))
    assert serving.shadow_of(SERVED) is not None
    promoted = replace(serving, current={"judge": "judge@00000000000f"})
    assert promoted.shadow_of(SERVED) is None


def test_a_shadow_is_compared_with_what_serves_and_not_with_a_canary() -> None:
    serving = replace(models(WordJudge(ref=CANDIDATE)), canaries={"judge": (CANDIDATE, 100.0)})
    assert serving.arm("ann").cross_encoder("judge")[0].ref == CANDIDATE
    assert serving.arm("ann").shadow_of(CANDIDATE) is None
    assert serving.arm("").shadow_of(SERVED) is not None


@pytest.fixture
async def canary() -> AsyncIterator[Bench]:
    """A candidate answers half of the users."""
    made = Bench(judge=WordJudge())
    made.models.serving = Serving(
        {**made.models.serving.loaded, **models(WordJudge(ref=CANDIDATE)).loaded},
        current={"judge": SERVED, "words": "words@000000000001"},
        canaries={"judge": (CANDIDATE, 50.0)},
    )
    yield made
    await made.close()


async def test_a_canarys_answers_name_it_and_are_counted_by_arm(canary: Bench) -> None:
    arms = []
    for number in range(40):
        answer = await canary.rank(request(query="apple computer", user=f"user-{number}"))
        arms.append(CANDIDATE in answer.bundles)
        assert (SERVED in answer.bundles) is not arms[-1]
    for arm, ref, count in (("canary", CANDIDATE, sum(arms)), ("serving", SERVED, 40 - sum(arms))):
        labels = {"bundle": ref, "arm": arm}
        found = canary.metrics.registry.get_sample_value("neuralrank_arm_requests_total", labels)
        assert found == count > 5


async def test_a_user_stays_in_an_arm_of_a_canary_whatever_the_request_is_called(
    canary: Bench,
) -> None:
    for user in ("ann", "ben", "cem", "dot", "eve"):
        answers = [
            await canary.rank(request(query="apple computer", user=user, request_id=str(number)))
            for number in range(8)
        ]
        assert len({CANDIDATE in answer.bundles for answer in answers}) == 1


@given(
    arrays(np.float32, 12, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    arrays(np.float32, 12, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
)
def test_tau_is_that_of_scipy(first: np.ndarray, second: np.ndarray) -> None:
    ours = kendall_tau(first, second)
    theirs = kendalltau(first, second, variant="b").statistic
    if np.isnan(theirs):
        assert ours in (0.0, 1.0)
    else:
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_overlap_counts_the_best() -> None:
    first = np.array([4, 3, 2, 1], np.float32)
    assert top_overlap(first, np.array([1, 2, 3, 4], np.float32), 2) == 0.0
    assert top_overlap(first, np.array([3, 4, 1, 2], np.float32), 2) == 1.0
    assert top_overlap(first, np.array([4, 1, 2, 3], np.float32), 3) == pytest.approx(2 / 3)

"""What the queue guarantees, under any sequence of arrivals, cancellations and time passing."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from neuralrank.errors import Overloaded
from sidecar.inference.queue import PATIENCE, Batch, Job, Priority, Queue
from tests.unit.sidecar.parts import Clock

BUDGET = 64
WINDOW = 4 * BUDGET
RATE = 0.01
LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=30)


def queue(
    clock: Clock | None = None,
    *,
    rate: float = 0.0,
    budget: int = BUDGET,
    most: int = 1_000_000,
) -> Queue:
    return Queue(
        clock or Clock(),
        lambda _, tokens: rate * tokens,
        batch_tokens=budget,
        max_tokens=most,
    )


def job(*lengths: int, caller: str = "a", deadline: float = 1e9, **fields: object) -> Job:
    given = {"model": "m", "priority": Priority.PAIR, **fields}
    return Job(caller=caller, deadline=deadline, lengths=lengths, **given)  # type: ignore[arg-type]


def drain(made: Queue) -> list[Batch]:
    batches = []
    while (batch := made.take()) is not None:
        batches.append(batch)
    return batches


def padded(batch: Batch) -> int:
    """Tokens that the model computes, padding included."""
    return len(batch.entries) * max(job.lengths[place] for job, place in batch.entries)


class AnyTraffic(RuleBasedStateMachine):
    """Jobs come, are cancelled, expire and run, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue = queue(self.clock, rate=RATE)
        self.jobs: list[Job] = []
        self.cancelled: set[int] = set()
        self.run: Counter[tuple[int, int]] = Counter()

    @rule(
        lengths=LENGTHS,
        caller=st.sampled_from("abc"),
        model=st.sampled_from("mn"),
        priority=st.sampled_from(Priority),
        left=st.floats(0.0, 20.0),
    )
    def arrive(
        self, lengths: list[int], caller: str, model: str, priority: Priority, left: float
    ) -> None:
        made = Job(model, priority, caller, self.clock.now + left, lengths)
        self.queue.add(made)
        self.jobs.append(made)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.jobs) - 1))
        self.queue.cancel(self.jobs[place])
        self.cancelled.add(place)

    @rule(seconds=st.floats(0.0, 5.0))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(least=st.sampled_from(Priority))
    def take(self, least: Priority) -> None:
        batch = self.queue.take(least)
        if batch is None:
            assert not any(
                each.waiting and each.deadline > self.clock.now and each.priority <= least
                for each in self.jobs
            )
            return
        assert batch.priority <= least
        lengths = [each.lengths[place] for each, place in batch.entries]
        assert lengths == sorted(lengths)
        assert padded(batch) <= BUDGET or len(batch.entries) == 1
        # The time that it takes is there, for one entry at least: the one that it was made for.
        assert any(
            each.deadline - self.clock.now >= RATE * each.lengths[place]
            for each, place in batch.entries
        )
        for each, place in batch.entries:
            number = self.jobs.index(each)
            assert each.model == batch.model
            assert each.priority is batch.priority
            assert each.deadline > self.clock.now
            assert number not in self.cancelled
            self.run[number, place] += 1
            assert self.run[number, place] == 1

    @invariant()
    def what_is_counted_is_what_waits(self) -> None:
        waiting = [each.lengths[place] for each in self.jobs for place in each.waiting]
        assert (self.queue.entries, self.queue.tokens) == (len(waiting), sum(waiting))

    @invariant()
    def what_is_counted_of_callers_is_what_waits(self) -> None:
        # Ahead of one who is new and has more than all of them is all that each of them has.
        ahead = self.queue.ahead(max(Priority), "nobody", 1_000_000)
        assert ahead == self.queue.tokens


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=60, stateful_step_count=25)


@given(st.lists(st.tuples(st.sampled_from("abcd"), LENGTHS), min_size=1, max_size=6))
def test_nothing_is_lost_and_nothing_runs_twice(arrivals: list[tuple[str, list[int]]]) -> None:
    made = queue()
    jobs = [job(*lengths, caller=caller) for caller, lengths in arrivals]
    for each in jobs:
        made.add(each)
    ran = [(id(each), place) for batch in drain(made) for each, place in batch.entries]
    assert sorted(ran) == sorted((id(each), p) for each in jobs for p in range(len(each.lengths)))
    assert (made.entries, made.tokens) == (0, 0)


@given(st.lists(st.lists(st.integers(1, 60), min_size=30, max_size=60), min_size=2, max_size=5))
def test_callers_that_wait_are_served_alike(lengths: list[list[int]]) -> None:
    made = queue()
    jobs = [job(*each, caller=str(n)) for n, each in enumerate(lengths)]
    for each in jobs:
        made.add(each)
    served = [0] * len(jobs)
    while all(each.waiting for each in jobs):
        batch = made.take()
        assert batch is not None
        for each, place in batch.entries:
            served[jobs.index(each)] += each.lengths[place]
        assert max(served) - min(served) <= WINDOW + 60


@given(
    st.lists(st.lists(st.integers(1, 60), min_size=30, max_size=60), min_size=2, max_size=4),
    st.lists(st.integers(1, 60), min_size=100, max_size=150),
)
def test_a_caller_with_many_requests_has_one_share_and_they_are_served_alike(
    many: list[list[int]], one: list[int]
) -> None:
    made = queue()
    jobs = [job(*each, caller="many") for each in many]
    other = job(*one, caller="one")
    for each in (*jobs, other):
        made.add(each)
    served: Counter[int] = Counter()
    while all(each.waiting for each in (*jobs, other)):
        batch = made.take()
        assert batch is not None
        for each, place in batch.entries:
            served[id(each)] += each.lengths[place]
        counts = [served[id(each)] for each in jobs]
        assert max(counts) - min(counts) <= WINDOW + 60
        assert abs(sum(counts) - served[id(other)]) <= WINDOW + 60


@pytest.mark.parametrize("other", ["large", "small"], ids=["same caller", "another caller"])
def test_one_with_a_thousand_candidates_does_not_starve_another(other: str) -> None:
    made = queue()
    made.add(job(*[10] * 1_000, caller="large"))
    for _ in range(50):
        made.take()
    small = job(*[10] * 5, caller=other)
    made.add(small)
    made.take()
    made.take()
    assert not small.waiting


def test_one_that_comes_later_gets_its_share_from_then_on_and_no_more() -> None:
    made = queue()
    first = job(*[10] * 1_000, caller="first")
    made.add(first)
    for _ in range(50):
        made.take()
    second = job(*[10] * 1_000, caller="second")
    made.add(second)
    served: Counter[str] = Counter()
    for _ in range(16):
        batch = made.take()
        assert batch is not None
        served.update(str(each.caller) for each, _ in batch.entries)
    assert abs(served["first"] - served["second"]) <= WINDOW // 10


def test_two_with_much_to_do_share_each_batch() -> None:
    made = queue()
    for caller in "ab":
        made.add(job(*[10] * 100, caller=caller))
    batch = made.take()
    assert batch is not None
    assert [each.caller for each, _ in batch.entries].count("a") == 3
    assert len(batch.entries) == 6


@given(LENGTHS)
def test_a_request_runs_in_its_order_but_for_the_window(lengths: list[int]) -> None:
    made = queue()
    made.add(job(*lengths))
    last = -1
    for batch in drain(made):
        places = [place for _, place in batch.entries]
        # What an entry overtakes are at most a window's tokens of its own request.
        overtaken = sum(lengths[min(places) : max(places)])
        assert overtaken <= WINDOW + 100
        last = max(last, *places)
    assert last == len(lengths) - 1


@given(LENGTHS, LENGTHS)
def test_like_lengths_of_different_requests_share_a_batch(one: list[int], two: list[int]) -> None:
    made = queue()
    made.add(job(*one, caller="a"))
    made.add(job(*two, caller="b"))
    computed = sum(padded(batch) for batch in drain(made))
    assert computed <= 1.25 * sum(one + two)


def test_queries_go_first_but_what_waits_is_passed_over_a_few_times_only() -> None:
    made = queue()
    made.add(job(50, priority=Priority.PAIR))
    made.add(job(50, priority=Priority.PASSAGE))
    order = []
    for _ in range(2 * PATIENCE + 3):
        made.add(job(50, priority=Priority.QUERY))
        batch = made.take()
        assert batch is not None
        order.append(batch.priority)
    assert order[:PATIENCE] == [Priority.QUERY] * PATIENCE
    assert order.count(Priority.PAIR) == order.count(Priority.PASSAGE) == 1


def test_a_lane_for_queries_takes_nothing_else() -> None:
    made = queue()
    made.add(job(50, priority=Priority.PAIR))
    assert made.take(Priority.QUERY) is None
    made.add(job(50, priority=Priority.QUERY))
    batch = made.take(Priority.QUERY)
    assert batch is not None
    assert batch.priority is Priority.QUERY


def test_an_expired_job_is_dropped_and_said() -> None:
    clock = Clock()
    made = queue(clock)
    late = job(10, 20, deadline=clock.now + 1.0)
    made.add(late)
    clock.now += 1.0
    assert made.take() is None
    assert made.pop_dropped() == [late]
    assert made.pop_dropped() == []


def test_what_can_not_be_in_time_is_not_begun_but_what_can_is() -> None:
    clock = Clock()
    made = queue(clock, rate=0.1)
    made.add(job(90, 20, 95, deadline=clock.now + 4.0))
    assert [padded(batch) for batch in drain(made)] == [20]
    assert made.pop_dropped()


def test_a_batch_takes_half_of_the_time_that_is_left() -> None:
    clock = Clock()
    made = queue(clock, rate=0.1)
    made.add(job(*[8] * 8, deadline=clock.now + 3.5))
    batch = made.take()
    assert batch is not None
    assert padded(batch) == 16


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 4))
def test_idle_workers_share_what_waits(lengths: list[int], workers: int) -> None:
    made = queue(budget=10_000)
    made.add(job(*lengths))
    for idle in range(workers, 1, -1):
        waiting = made.tokens
        if (batch := made.take(idle=idle)) is not None:
            # No more than its part, save for one entry that can't be shared.
            assert padded(batch) <= max(-(-waiting // idle), max(lengths))


def test_two_idle_workers_get_half_each() -> None:
    made = queue(budget=10_000)
    made.add(job(*[20] * 10))
    batches = [made.take(idle=2), made.take(idle=1)]
    assert [batch and len(batch.entries) for batch in batches] == [5, 5]
    assert made.take() is None


def test_more_than_may_wait_is_refused_and_expired_ones_make_room() -> None:
    clock = Clock()
    made = queue(clock, most=100)
    made.add(job(150, deadline=clock.now + 1.0))
    with pytest.raises(Overloaded, match="150 tokens wait for a model, 60 more"):
        made.add(job(60))
    clock.now += 2.0
    made.add(job(60))
    assert made.tokens == 60


class FullHouse(RuleBasedStateMachine):
    """Far more comes than may wait, each in pieces as `room` has it."""

    MOST = 200

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue(most=self.MOST)
        self.jobs: list[Job] = []

    def waiting(self, priority: Priority) -> list[int]:
        """Tokens of each job of the class and of more urgent ones."""
        found = [each for each in self.jobs if each.waiting and each.priority <= priority]
        return [sum(each.lengths[place] for place in each.waiting) for each in found]

    @rule(
        lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30),
        caller=st.sampled_from("abcd"),
        priority=st.sampled_from(Priority),
    )
    def bring(self, lengths: list[int], caller: str, priority: Priority) -> None:
        before = self.waiting(priority)
        made = job(*lengths, caller=caller, priority=priority)
        try:
            self.queue.add(made)
        except Overloaded:
            assert sum(lengths) > self.MOST // (len(before) + 1)
            assert sum(before) + sum(lengths) > self.MOST
        else:
            self.jobs.append(made)

    @rule(length=st.integers(1, 60), caller=st.sampled_from("abcd"))
    def bring_by_bits(self, length: int, caller: str) -> None:
        count = self.queue.room(Priority.PAIR) // length
        if count:
            made = job(*[length] * count, caller=caller)
            self.queue.add(made)  # never refused
            self.jobs.append(made)

    @rule(least=st.sampled_from(Priority))
    def take(self, least: Priority) -> None:
        self.queue.take(least)

    @invariant()
    def a_query_finds_room_whatever_else_waits(self) -> None:
        queries = self.waiting(Priority.QUERY)
        if sum(queries) <= self.MOST // 2:
            assert self.queue.room(Priority.QUERY) >= self.MOST // 4

    @invariant()
    def a_small_job_finds_room(self) -> None:
        assert self.queue.room(Priority.PAIR) >= self.MOST // (len(self.jobs) + 4)

    @invariant()
    def what_waits_is_bounded(self) -> None:
        harmonic = sum(1 / n for n in range(1, len(self.jobs) + 2))
        assert self.queue.tokens <= len(Priority) * (30 * 60 + self.MOST * harmonic)


TestFullHouse = FullHouse.TestCase
TestFullHouse.settings = settings(max_examples=60, stateful_step_count=25)


def test_a_query_is_not_refused_for_pairs_nor_a_small_request_for_a_large_one() -> None:
    made = queue(most=1_000)
    made.add(job(*[100] * 10, caller="rag"))
    made.add(job(8, priority=Priority.QUERY, caller="shop"))
    made.add(job(*[40] * 5, caller="shop"))
    assert made.tokens == 1_208


def test_what_is_ahead_of_a_job_is_what_its_share_leaves() -> None:
    made = queue()
    made.add(job(5, priority=Priority.QUERY, caller="q"))
    made.add(job(*[10] * 100, caller="large"))
    made.add(job(10, caller="small"))
    assert made.ahead(Priority.PAIR, "new", 20) == 5 + 20 + 10
    assert made.ahead(Priority.QUERY, "new", 5) == 5
    # Its own caller's: as much of each of its jobs, and of the others as much as of both.
    assert made.ahead(Priority.PAIR, "large", 20) == 5 + 20 + 10
    assert made.ahead(Priority.PAIR, "small", 20) == 5 + 10 + 30
    drain(made)
    assert made.ahead(Priority.PAIR, "new", 20) == 0


def test_what_a_caller_has_cancelled_is_not_ahead_of_others_and_takes_no_room() -> None:
    made = queue(most=1_000)
    made.add(job(10, caller="shop"))  # waits all the time, so that the caller stays known
    for _ in range(20):
        gone = job(*[10] * 20, caller="shop")
        made.add(gone)
        made.cancel(gone)
    assert made.ahead(Priority.PAIR, "other", 100) == 10
    made.add(job(*[90] * 10, caller="other"))
    assert made.tokens == 910

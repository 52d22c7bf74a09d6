"""The queue with threads, and the caches before it: everyone is answered, nothing runs twice."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from neuralrank.errors import DeadlineExceeded, Overloaded, Unavailable
from neuralrank.text.tokens import Ids, Tokens
from sidecar.deadline import Deadline
from sidecar.domain import Floats
from sidecar.inference.cost import Cost
from sidecar.inference.inference import Inference
from sidecar.telemetry.metrics import Metrics
from tests.unit.sidecar.parts import (
    Clock,
    WordEncoder,
    WordJudge,
    read_back,
    spelled,
    vector,
)

# Counted from the import: tests of a real node may run in between, for minutes.
SOON = Deadline.after(3_600.0)


def inference(metrics: Metrics | None = None, **settings: int) -> Inference:
    sizes = {"query_cache_bytes": 0, "token_cache_bytes": 0, "score_cache_bytes": 0}
    numbers = {"workers": 1, "batch_tokens": 1_000, "queue_tokens": 10_000, **sizes, **settings}
    return Inference(metrics or Metrics(), **numbers)  # type: ignore[arg-type]


class Held(WordEncoder):
    """Runs wait until they are let go; what contains "poison" raises, "nan" gives NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()
        self.batches: list[list[str]] = []

    def run(self, batch: Sequence[Tokens]) -> Floats:
        self.entered.set()
        self.go.wait(10)
        texts = [read_back(tokens.ids) for tokens in batch]
        self.batches.append(texts)
        if any("poison" in text for text in texts):
            raise ZeroDivisionError("poison")
        rows = super().run(batch)
        rows[[place for place, text in enumerate(texts) if "nan" in text]] = np.nan
        return rows

    async def begun(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.entered.wait, 10)


@pytest.fixture
def model() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()


async def queued(made: Inference, entries: int) -> None:
    """Waits until so many entries are in the queue."""
    async with asyncio.timeout(10):
        while made._workers._queue.entries < entries:
            await asyncio.sleep(0.001)


async def test_requests_share_a_batch(model: Held) -> None:
    made = inference()
    first = asyncio.ensure_future(made.encode_queries(model, ["hold"], SOON))
    await model.begun()
    texts = ["red phone", "blue kettle", "apple", "dell"]
    others = [asyncio.ensure_future(made.encode_queries(model, [text], SOON)) for text in texts]
    await queued(made, len(texts))
    model.go.set()
    found = await asyncio.gather(*others)
    await first
    made.close()
    for text, rows in zip(texts, found, strict=True):
        assert rows[0] == pytest.approx(vector(text))
    together = {frozenset(batch) for batch in model.batches}
    assert together == {
        frozenset({"hold"}), frozenset({"apple", "dell"}), frozenset({"blue kettle", "red phone"})
    }  # fmt: skip


@pytest.mark.parametrize(("bad", "error"), [("poison", ZeroDivisionError), ("nan", Unavailable)])
async def test_only_the_request_at_fault_fails(
    model: Held, bad: str, error: type[Exception]
) -> None:
    made = inference()
    first = asyncio.ensure_future(made.encode_queries(model, ["hold"], SOON))
    await model.begun()
    texts = ["red", "blue", bad, "dell", "apple"]
    others = [asyncio.ensure_future(made.encode_queries(model, [text], SOON)) for text in texts]
    await queued(made, len(texts))
    model.go.set()
    found = await asyncio.gather(*others, return_exceptions=True)
    await first
    made.close()
    for text, rows in zip(texts, found, strict=True):
        if text == bad:
            assert isinstance(rows, error)
        else:
            assert isinstance(rows, np.ndarray)
            assert rows[0] == pytest.approx(vector(text))


async def test_a_cancelled_and_an_expired_request_cost_nothing(model: Held) -> None:
    made = inference()
    first = asyncio.ensure_future(made.encode_queries(model, ["hold"], SOON))
    await model.begun()
    gone = asyncio.ensure_future(made.encode_queries(model, ["gone"], SOON))
    await queued(made, 1)
    late = made.encode_queries(model, ["late"], Deadline.after(0.02))
    with pytest.raises(DeadlineExceeded, match="used up"):
        await late
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    model.go.set()
    await first
    await made.encode_queries(model, ["after"], SOON)
    made.close()
    assert model.batches == [["hold"], ["after"]]


async def test_the_wait_of_what_never_began_counts_too(model: Held) -> None:
    metrics = Metrics()
    made = inference(metrics)
    first = asyncio.ensure_future(made.encode_queries(model, ["hold"], SOON))
    await model.begun()
    gone = asyncio.ensure_future(made.encode_queries(model, ["gone"], SOON))
    await queued(made, 1)
    with pytest.raises(DeadlineExceeded):
        await made.encode_queries(model, ["late"], Deadline.after(0.2))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    model.go.set()
    await first
    made.close()

    def waits(what: str) -> float:
        return metrics.registry.get_sample_value(f"neuralrank_queue_seconds_{what}") or 0.0

    # Each once: what ran, what was late, and what was given up after that.
    assert waits("count") == 3
    assert waits("sum") > 0.2


async def test_models_run_at_a_lower_priority_where_threads_have_one() -> None:
    found: list[int] = []

    class Looking(WordEncoder):
        def run(self, batch: Sequence[Tokens]) -> Floats:
            found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return super().run(batch)

    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    for nice in (0, 3):
        made = inference(nice=nice)
        await made.encode_queries(Looking(), ["red"], SOON)
        made.close()
    lower = min(19, usual + 3) if sys.platform == "linux" else usual
    assert found == [usual, lower]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == usual


async def test_a_request_that_has_expired_on_arrival_is_not_tokenised() -> None:
    made = inference()
    model = WordEncoder()
    model.tokenise_queries = lambda _: pytest.fail("tokenised")  # type: ignore[method-assign]
    with pytest.raises(DeadlineExceeded):
        await made.encode_queries(model, ["late"], Deadline.after(0.0))
    made.close()


class Reader(WordEncoder):
    """Tokenises passages when it is let go; notes what it was given, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.read: list[list[str]] = []

    def tokenise_queries(self, texts: Sequence[str]) -> list[Tokens]:
        self.read.append(list(texts))
        return [spelled(text[:4]) for text in texts]

    def tokenise_passages(self, texts: Sequence[str]) -> list[Tokens]:
        self.go.wait(10)
        return self.tokenise_queries(texts)


async def test_long_texts_are_tokenised_bit_by_bit_and_a_query_waits_for_two_of_them() -> None:
    made = inference()
    reader = Reader()
    texts = [f"{n} " + "x" * 10_000 for n in range(20)]
    calls = [asyncio.ensure_future(made.encode_passages(reader, texts, SOON)) for _ in range(3)]
    await asyncio.sleep(0)
    query = asyncio.ensure_future(made.encode_queries(reader, ["red"], SOON))
    await asyncio.sleep(0)
    reader.go.set()
    await asyncio.gather(query, *calls)
    made.close()
    # Of each call the first piece was there before.
    assert reader.read.index(["red"]) <= 4
    assert all(sum(map(len, piece)) < 2 * 16_384 for piece in reader.read)
    assert sorted(text for piece in reader.read for text in piece) == sorted([*texts * 3, "red"])


async def test_who_has_gone_has_no_more_tokenised() -> None:
    made = inference()
    reader = Reader()
    texts = [f"{n} " + "x" * 10_000 for n in range(20)]
    gone = asyncio.ensure_future(made.encode_passages(reader, texts, SOON))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    reader.go.set()
    await made.encode_queries(reader, ["red"], SOON)
    made.close()
    assert [len(piece) for piece in reader.read if piece != ["red"]] in ([], [1])


async def test_a_query_passes_a_batch_of_pairs(model: Held) -> None:
    made = inference(workers=2)
    slow = asyncio.ensure_future(made.encode_passages(model, ["hold"], SOON))
    await model.begun()
    await made.encode_queries(WordEncoder(), ["red"], SOON)
    assert not slow.done()
    model.go.set()
    await slow
    made.close()


async def test_more_than_may_wait_is_refused(model: Held) -> None:
    made = inference(queue_tokens=10)
    first = asyncio.ensure_future(made.encode_queries(model, ["hold"], SOON))
    await model.begun()
    second = asyncio.ensure_future(made.encode_queries(model, ["12345678"], SOON))
    await queued(made, 1)
    with pytest.raises(Overloaded, match="8 tokens wait"):
        await made.encode_queries(model, ["123456"], SOON)
    model.go.set()
    await asyncio.gather(first, second)
    made.close()


async def test_many_texts_wait_a_few_at_a_time(model: Held) -> None:
    made = inference(queue_tokens=400, batch_tokens=50)
    texts = [f"text {number:05d}" for number in range(100)]
    asked = asyncio.ensure_future(made.encode_passages(model, texts, SOON))
    await model.begun()
    async with asyncio.timeout(10):
        while not made._workers._queue.entries:
            await asyncio.sleep(0)
    assert made._workers._queue.tokens <= 100  # a quarter
    model.go.set()
    rows = await asked
    made.close()
    assert rows.shape == (100, 8)
    assert sorted(text for batch in model.batches for text in batch) == texts


async def test_of_queries_that_wait_a_few_at_a_time_each_keeps_its_own_vector() -> None:
    made = inference(queue_tokens=120, query_cache_bytes=9_999)
    encoder = WordEncoder()
    queries = ["apple computer", "dell phone", "red kettle", "blue kettle", "huawei phone"]
    for _ in range(2):
        rows = await made.encode_queries(encoder, queries, SOON)
        assert rows == pytest.approx(np.stack([vector(query) for query in queries]))
    made.close()
    assert 1 < len(encoder.calls) <= len(queries)  # the second time none
    assert sorted(text for batch in encoder.calls for text in batch) == sorted(queries)


async def test_whoever_waits_at_the_end_is_told(model: Held) -> None:
    made = inference()
    first = asyncio.ensure_future(made.encode_queries(model, ["hold"], SOON))
    await model.begun()
    second = asyncio.ensure_future(made.encode_queries(model, ["red"], SOON))
    await queued(made, 1)
    made.close()
    for waiting in (first, second):
        with pytest.raises(DeadlineExceeded):
            await waiting
    with pytest.raises(RuntimeError):
        await made.encode_queries(model, ["blue"], SOON)


async def scores(made: Inference, judge: WordJudge, query: str, texts: list[str]) -> Floats:
    known = made.known_scores(judge, query, texts)
    missing = [text for text, logit in zip(texts, known, strict=True) if np.isnan(logit)]
    if missing:
        pairs = await made.pairs(judge, query, missing, SOON)
        found, errors = await made.score(judge, Cost(), query, missing, pairs, SOON)
        assert not errors
        known[np.isnan(known)] = found
    return known


async def test_what_was_computed_is_kept_by_bundle_and_dropped_with_it() -> None:
    metrics = Metrics()
    made = inference(
        metrics, query_cache_bytes=9_999, token_cache_bytes=9_999, score_cache_bytes=9_999
    )
    judge, encoder = WordJudge(), WordEncoder()

    async def ask() -> None:
        assert (await scores(made, judge, "red", ["red", "blue"])).tolist() == [0.0, -4.0]
        await made.encode_queries(encoder, ["red"], SOON)

    await ask()
    await ask()
    assert (len(judge.texts), encoder.calls) == (2, [["red"]])
    old = judge.ref
    judge.ref = "judge@00000000000b"
    await ask()
    assert len(judge.texts) == 4
    for ref in (old, judge.ref, encoder.ref):
        await made.forget(ref)
    sizes = [
        metrics.registry.get_sample_value("neuralrank_cache_bytes", {"cache": name})
        for name in ("query", "score")
    ]
    assert sizes == [0.0, 0.0]
    await ask()
    assert (len(judge.texts), len(encoder.calls)) == (6, 2)
    made.close()


async def test_a_model_with_the_same_vocabulary_finds_the_tokens_of_the_one_before() -> None:
    made = inference(token_cache_bytes=9_999)
    tokenised: list[str] = []

    class Counting(WordJudge):
        def tokenise(self, texts: Sequence[str]) -> list[Ids]:
            tokenised.extend(texts)
            return super().tokenise(texts)

    old, new = Counting(), Counting(ref="judge@00000000000b")
    await made.pairs(old, "red", ["red car"], SOON)
    await made.forget(old.ref)
    pairs = await made.pairs(new, "red", ["red car"], SOON)
    assert tokenised == ["red", "red car", "red"]
    other = Counting(ref="judge@00000000000c", vocabulary="others")
    assert read_back((await made.pairs(other, "red", ["red car"], SOON))[0].ids) == read_back(
        pairs[0].ids
    )
    assert tokenised == ["red", "red car", "red", "red", "red car"]
    made.close()


async def test_caches_stay_within_their_bytes() -> None:
    metrics = Metrics()
    made = inference(
        metrics, query_cache_bytes=2_000, token_cache_bytes=2_000, score_cache_bytes=2_000
    )
    for number in range(30):
        await scores(made, WordJudge(), str(number), ["red", f"blue {number}"])
        await made.encode_queries(WordEncoder(), [str(number)], SOON)
    for name in ("query", "token", "score"):
        size = metrics.registry.get_sample_value("neuralrank_cache_bytes", {"cache": name})
        assert 1_000 < (size or 0.0) <= 2_000
    made.close()


async def test_a_result_that_nobody_waits_for_any_more_is_kept_for_the_next(model: Held) -> None:
    made = inference(query_cache_bytes=9_999)
    asked = asyncio.ensure_future(made.encode_queries(model, ["red"], SOON))
    await model.begun()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    model.go.set()
    while not made._queries.bytes:
        await asyncio.sleep(0.001)
    await made.encode_queries(model, ["red"], SOON)
    assert model.batches == [["red"]]
    made.close()


def test_a_cost_follows_what_is_measured() -> None:
    cost = Cost()
    assert cost.estimate(100) == 0.0
    cost.observe(84, 1.0)
    assert cost.estimate(84) == pytest.approx(1.0)
    assert cost.estimate(184) == pytest.approx(2.0)
    cost.observe(84, 2.0)
    assert cost.estimate(84) == pytest.approx(1.2)


def test_an_estimate_of_a_busy_moment_fades_to_the_lowest() -> None:
    clock = Clock()
    cost = Cost(clock)
    cost.observe(84, 1.0)
    for _ in range(40):
        cost.observe(84, 10.0)
    busy = cost.estimate(84)
    assert busy > 9.0
    clock.now += 1.0
    assert cost.estimate(84) == busy
    clock.now += 1.0
    assert cost.estimate(84) == pytest.approx((busy + 1.0) / 2)
    clock.now += 28.0
    assert cost.estimate(84) == pytest.approx(1.0)


def test_a_model_that_was_only_measured_while_the_machine_was_busy_is_tried_again() -> None:
    clock = Clock()
    cost = Cost(clock)
    cost.observe(84, 8.0)
    # Nobody has so long, so that no run ever says how long it takes now.
    waited = 0.0
    while cost.estimate(84) > 0.05 and waited < 1_000.0:
        clock.now += 10.0
        waited += 10.0
    assert 30.0 < waited < 300.0
    cost.observe(84, 0.01)
    assert cost.estimate(84) == pytest.approx(0.01)


def test_a_slow_first_run_after_a_quiet_time_is_no_new_lowest() -> None:
    clock = Clock()
    cost = Cost(clock)
    cost.observe(84, 0.01)
    clock.now += 31.0
    cost.observe(84, 0.2)
    assert cost.estimate(84) == pytest.approx(0.2)
    clock.now += 8.0
    assert cost.estimate(84) == pytest.approx(0.01, abs=0.002)


def test_a_model_that_is_slow_still_is_known_to_be_after_one_try() -> None:
    clock = Clock()
    cost = Cost(clock)
    cost.observe(84, 8.0)
    clock.now += 300.0
    assert cost.estimate(84) < 0.05
    cost.observe(84, 8.0)
    assert cost.estimate(84) == pytest.approx(8.0)

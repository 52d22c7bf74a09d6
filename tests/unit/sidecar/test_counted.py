"""Reads from OpenSearch are counted by how they end, which says whether it answers."""

import asyncio
from pathlib import Path

import pytest

from neuralrank.errors import InvalidSettings, NotFound, Overloaded, Unavailable
from sidecar.deadline import Deadline
from sidecar.domain import Interaction, Item, Profile
from sidecar.features.counted import CountedFeatures
from sidecar.telemetry.metrics import Metrics
from tests.unit.sidecar.parts import Bench, Catalogue, Clock, WordJudge, request, shop
from tests.unit.sidecar.secured import secured
from tests.unit.sidecar.test_service import serving


def reads(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["read"], sample.labels["outcome"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "neuralrank_opensearch_reads_total"
    }


async def test_what_is_read_is_counted_and_given_on() -> None:
    metrics, catalogue = Metrics(), shop()
    counted = CountedFeatures(catalogue, metrics, wait=0.25)
    index = await counted.index("shop", 5.0)
    assert [item.id for item in await counted.items(index, ["A"], 5.0)] == ["A"]
    assert await counted.events("u", 5.0) == Profile()
    # That there is none is an answer.
    with pytest.raises(NotFound):
        await counted.index("attic", 5.0)
    assert reads(metrics) == {
        ("index", "done"): 2, ("items", "done"): 1, ("events", "done"): 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [Unavailable("down"), InvalidSettings("401"), Overloaded("429"), RuntimeError("a bug")],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_is_no_answer_has_failed(error: Exception) -> None:
    metrics, catalogue = Metrics(), Catalogue(error=error)
    with pytest.raises(type(error)):
        await CountedFeatures(catalogue, metrics, wait=0.25).events("u", 5.0)
    assert reads(metrics) == {("events", "failed"): 1}


async def test_an_answer_that_no_request_waits_for_is_late_and_one_given_up_is_none() -> None:
    metrics, catalogue, clock = Metrics(), shop(), Clock()
    gate = asyncio.Event()

    async def slow(*_: object) -> list[Item]:
        await gate.wait()
        return []

    catalogue.items = slow  # type: ignore[method-assign]
    counted = CountedFeatures(catalogue, metrics, wait=0.25, clock=clock)
    index = await counted.index("shop", 5.0)
    late = asyncio.create_task(counted.items(index, ["A"], 5.0))
    gone = asyncio.create_task(counted.items(index, ["B"], 5.0))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    clock.now += 0.3
    gate.set()
    await late
    assert reads(metrics) == {("index", "done"): 1, ("items", "late"): 1}


async def test_a_sidecar_counts_its_reads(tmp_path: Path) -> None:
    waits = {"opensearch_timeout_ms": 30_000, "opensearch_read_ms": 30_000}
    async with secured(tmp_path, **waits) as made:  # there is no OpenSearch
        with pytest.raises(Unavailable):
            await made._items.index("shop", Deadline.after(60.0))
        with pytest.raises(Unavailable):
            await made._users.profile("u", Deadline.after(60.0))
        assert reads(made.metrics) == {("index", "failed"): 1, ("events", "failed"): 1}


async def test_an_index_without_vectors_is_no_silence_of_opensearch_and_no_partial_answer() -> None:
    bench = Bench(judge=WordJudge())
    metrics = bench.metrics
    counted = CountedFeatures(bench.catalogue, metrics, wait=5.0, clock=bench.clock)
    bench.items._features = bench.users._features = counted
    bench.catalogue.users["u"] = Profile(interactions=(Interaction("A", "click", 1),))

    def value(name: str, **labels: str) -> float:
        return metrics.registry.get_sample_value(name, labels) or 0.0

    partial, degraded = "neuralrank_partial_answers_total", "neuralrank_degraded_answers_total"
    try:
        async with serving(bench) as stub:
            bench.catalogue.encoder = ""
            await stub.Rank(request(query="apple", user="u"))
            await stub.Rank(request("B", similar_to="A"))
            # The answers say it, and nobody is to be woken.
            assert value(degraded, reason="features_unavailable") == 2
            assert {outcome for _, outcome in reads(metrics)} == {"done"}
            assert value(partial) == 0
            # Where there are vectors, and none of what the user touched, it could be otherwise.
            bench.clock.now += 60.0
            bench.catalogue.encoder = "words@000000000001"
            bench.catalogue.users["u"] = Profile(interactions=(Interaction("gone", "click", 1),))
            await stub.Rank(request(query="apple", user="u"))
            assert value(partial) == 1
            bench.clock.now += 60.0
            bench.catalogue.error = Unavailable("down")
            await stub.Rank(request(query="apple", user="u"))
            assert value(partial) == 2
            assert reads(metrics)["index", "failed"] == 1
            assert reads(metrics)["events", "failed"] == 1
    finally:
        await bench.close()

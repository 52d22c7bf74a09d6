"""Whatever OpenSearch does, a request is answered in time, with all its candidates."""

import asyncio
import time

import pytest

from bench.faulty import FAULTS, FaultProxy
from bench.scripted import Shop
from tests.faults.account import DEADLINE_MS, Account, ask, connect, request
from tests.faults.conftest import PRODUCTS, START

# The others take the same ways through the code; `make test-faults` runs them all.
_QUICK = {"hang", "down", "429", "wrong_shape", "truncated"}
_MANY = 12


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if name in _QUICK else pytest.mark.long) for name in FAULTS],
)
async def test_each_fault_costs_quality_and_not_the_answer(
    start: START, opensearch: FaultProxy, account: Account, fault: str
) -> None:
    sidecar = start()
    await asyncio.to_thread(sidecar.ready)
    async with connect(sidecar.address) as channel:
        (before,) = await ask(channel, [request()], account)
        assert (before.status, before.degraded) == ("OK", set())
        await opensearch.set(fault, seconds=2.0)
        outcomes = await ask(channel, [request(user=f"u{n}") for n in range(_MANY)], account)
        # Seen by the sidecar, or the test would show nothing.
        assert opensearch.injected[fault] > 0
        account.fault(fault, opensearch.injected[fault])
        for outcome in outcomes:
            assert outcome.status == "OK", outcome.message
            assert outcome.ids == set(PRODUCTS)
            assert "FEATURES_UNAVAILABLE" in outcome.degraded
        await opensearch.set("none")
        await _recovers(channel, account)


@pytest.mark.long
async def test_faults_that_come_and_go_under_load(
    start: START, opensearch: FaultProxy, account: Account
) -> None:
    sidecar = start()
    await asyncio.to_thread(sidecar.ready)

    async def disturb() -> None:
        for fault in FAULTS:
            await opensearch.set(fault, seconds=0.3)
            await asyncio.sleep(0.3)
            await opensearch.set("none")
            await asyncio.sleep(0.1)

    async with connect(sidecar.address) as channel:
        disturbing = asyncio.create_task(disturb())
        number = 0
        while not disturbing.done():
            asked = [request(user=f"u{number + n}") for n in range(4)]
            number += len(asked)
            for outcome in await ask(channel, asked, account):
                assert outcome.status == "OK", outcome.message
                assert outcome.ids == set(PRODUCTS)
        await disturbing
        for name, times in opensearch.injected.items():
            account.fault(name, times)
        assert len(opensearch.injected) > len(FAULTS) / 2
        await _recovers(channel, account)


async def test_an_outage_at_the_start_does_not_keep_it_from_serving(
    start: START, opensearch: FaultProxy, account: Account, shop: Shop
) -> None:
    await opensearch.set("down")
    account.fault("down at the start")
    sidecar = start()
    assert await asyncio.to_thread(sidecar.ready, 30.0)
    async with connect(sidecar.address) as channel:
        (during,) = await ask(channel, [request()], account)
        assert during.status == "OK"
        assert "FEATURES_UNAVAILABLE" in during.degraded
        await opensearch.set("none")
        await _recovers(channel, account)
    assert shop.asked


async def _recovers(channel: object, account: Account) -> None:
    """As soon as OpenSearch is well again, so is ranking."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        (after,) = await ask(channel, [request()], account)  # type: ignore[arg-type]
        if after.status == "OK" and not after.degraded:
            return
        await asyncio.sleep(DEADLINE_MS / 10_000)
    pytest.fail(f"still degraded: {after.degraded}")

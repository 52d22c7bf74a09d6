"""While too many requests are in work others wait for their turn, the newest first."""

import asyncio
import time
from contextlib import ExitStack

import pytest

from neuralrank.errors import DeadlineExceeded, Overloaded, RateExceeded, Unavailable
from sidecar.access.admission import Admission
from sidecar.access.turns import Turns
from sidecar.deadline import Deadline
from sidecar.settings import SidecarSettings
from sidecar.sizes import LARGE_BYTES
from sidecar.telemetry.metrics import Metrics


def begun(turns: Turns, count: int, seconds: float = 60.0) -> list[asyncio.Task[bool]]:
    return [asyncio.ensure_future(turns.wait(seconds)) for _ in range(count)]


async def test_the_newest_is_next() -> None:
    turns = Turns(3)
    turns.next()  # nobody waits
    first, second, third = begun(turns, 3)
    await asyncio.sleep(0)
    assert len(turns) == 3
    turns.next()
    assert await third
    turns.next()
    assert await second
    assert (len(turns), first.done()) == (1, False)
    turns.all()
    assert not await first
    assert not len(turns)


async def test_one_too_many_is_the_oldest() -> None:
    turns = Turns(2)
    first, second, third = begun(turns, 3)
    assert not await first
    assert (second.done(), third.done()) == (False, False)
    turns.all()
    assert not any(await asyncio.gather(second, third))


async def test_who_has_waited_long_enough_and_who_goes_away_wait_no_more() -> None:
    turns = Turns(9)
    assert not await turns.wait(0.001)
    (gone,) = begun(turns, 1)
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not len(turns)


class Shop:
    """A sidecar's door, and who went through it."""

    def __init__(self, **settings: int) -> None:
        self.metrics = Metrics()
        self.admission = Admission(SidecarSettings(**settings), self.metrics, time.monotonic)
        self.served: list[str] = []
        self.refused: list[str] = []

    def ask(self, name: str, seconds: float = 60.0, size: int = 100) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._ask(name, Deadline.after(seconds), size))

    async def _ask(self, name: str, deadline: Deadline, size: int) -> None:
        await self.admission.turn(deadline, size)
        try:
            with self.admission.admitted(name, deadline):
                self.served.append(name)
        except (Overloaded, RateExceeded, Unavailable):
            self.refused.append(name)

    @property
    def waiting(self) -> float | None:
        return self.metrics.registry.get_sample_value("neuralrank_waiting_requests")


async def steps(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_finds_room_does_not_wait() -> None:
    shop = Shop(max_in_flight=2)
    with shop.admission.admitted("in work", Deadline.never()):
        await asyncio.wait_for(shop.ask("a"), 10)
    assert (shop.served, shop.waiting) == (["a"], 0)


async def test_what_is_large_is_not_kept_waiting() -> None:
    shop = Shop(max_in_flight=1, deadline_ms=60_000, max_deadline_ms=60_000)
    with shop.admission.admitted("in work", Deadline.never()):
        await asyncio.wait_for(shop.ask("large", size=LARGE_BYTES + 1), 10)
    await asyncio.wait_for(shop.ask("large, and there is room", size=LARGE_BYTES + 1), 10)
    assert (shop.refused, shop.served) == (["large"], ["large, and there is room"])


async def test_when_one_is_done_all_that_wait_come_in_one_after_the_other() -> None:
    shop = Shop(max_in_flight=3, deadline_ms=60_000, max_deadline_ms=60_000)
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(shop.admission.admitted("in work", Deadline.never()))
        tasks = [shop.ask(name) for name in "abc"]
        await steps()
        assert (shop.served, shop.waiting) == ([], 3)
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert (shop.served, shop.refused, shop.waiting) == (["c", "b", "a"], [], 0)


async def test_the_turn_of_one_that_is_over_its_own_limit_is_the_next_ones() -> None:
    shop = Shop(max_in_flight=2, caller_concurrency=1, deadline_ms=60_000, max_deadline_ms=60_000)
    one = shop.admission.admitted("greedy", Deadline.never())
    with one:
        with shop.admission.admitted("in work", Deadline.never()):
            tasks = [shop.ask("modest"), shop.ask("greedy")]
            await steps()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert (shop.served, shop.refused) == (["modest"], ["greedy"])


@pytest.mark.parametrize("gone", ["cancelled", "late"])
async def test_the_turn_of_one_that_is_gone_is_the_next_ones(gone: str) -> None:
    shop = Shop(max_in_flight=2, deadline_ms=60_000, max_deadline_ms=60_000)
    late = 0.0
    with shop.admission.admitted("in work", Deadline.never()):
        with shop.admission.admitted("in work too", Deadline.never()):
            other = shop.ask("a")
            deadline = Deadline.after(60.0, lambda: time.monotonic() + late)
            newest = asyncio.ensure_future(shop._ask("b", deadline, 100))
            await steps()
        # Its turn was given to it, and it has not taken it yet.
        if gone == "cancelled":
            newest.cancel()
        late = 61.0
        with pytest.raises(asyncio.CancelledError if gone == "cancelled" else DeadlineExceeded):
            await newest
        await asyncio.wait_for(other, 10)
    assert (shop.served, shop.waiting) == (["a"], 0)


async def test_a_place_that_another_took_is_waited_for_again() -> None:
    shop = Shop(max_in_flight=1, deadline_ms=60_000, max_deadline_ms=60_000)
    with ExitStack() as held:
        first = held.enter_context(ExitStack())
        first.enter_context(shop.admission.admitted("in work", Deadline.never()))
        task = shop.ask("a")
        await steps()
        first.close()
        held.enter_context(shop.admission.admitted("came just now", Deadline.never()))
        await steps()
        assert (shop.served, shop.refused, shop.waiting) == ([], [], 1)
    await asyncio.wait_for(task, 10)
    assert shop.served == ["a"]


async def test_who_waits_while_the_loop_is_busy_comes_in_when_it_is_not() -> None:
    shop = Shop(max_busy_percent=85, deadline_ms=60_000, max_deadline_ms=60_000)
    busy = shop.admission.busy
    with shop.admission.admitted("in work", Deadline.never()):
        with shop.admission.admitted("in work too", Deadline.never()):
            busy.note(working=1.0, idle=0.0)
            task = shop.ask("a")
            await steps()
        # One is done, but the loop has no time for others.
        await steps()
        assert shop.served == []
        busy.note(working=0.0, idle=1.0)
        with shop.admission.admitted("came just now", Deadline.never()):
            pass
        await asyncio.wait_for(task, 10)
        assert shop.served == ["a"]


async def test_a_quarter_of_its_time_is_waited_for_at_most_and_then_it_is_refused() -> None:
    # Enough that a busy machine does not use up the other three quarters.
    shop = Shop(max_in_flight=1, deadline_ms=400)
    with shop.admission.admitted("in work", Deadline.never()):
        start = time.monotonic()
        await asyncio.wait_for(shop.ask("hurried", 0.2), 10)
        assert time.monotonic() - start >= 0.05
        # Whose deadline is far off, or not known yet, waits as others do: 400 ms are usual.
        await asyncio.wait_for(shop.ask("patient", 3_600.0), 10)
    assert shop.refused == ["hurried", "patient"]


async def test_a_sidecar_that_stops_keeps_nobody_waiting() -> None:
    shop = Shop(max_in_flight=2, deadline_ms=60_000, max_deadline_ms=60_000)
    one, two = (shop.admission.admitted("in work", Deadline.never()) for _ in range(2))
    with one, two:
        tasks = [shop.ask("a"), shop.ask("b")]
        await steps()
        shop.admission.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert shop.refused == ["a", "b"]
        await asyncio.wait_for(shop.ask("c"), 10)
    assert (shop.served, shop.refused) == ([], ["a", "b", "c"])

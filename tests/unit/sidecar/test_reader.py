"""Large requests are read in a thread, one after the other, and small ones where they are."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import pytest

from neuralrank.errors import NeuralrankError, Overloaded, Unavailable
from sidecar.rpc.reader import Reader


def refused(error: NeuralrankError) -> NoReturn:
    raise error


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    made = Reader(max_in_flight=12)  # three of them large
    yield made
    made.close()


class Steps:
    """Notes each step and where it ran; some wait until they are let go."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.threads: list[str] = []
        self.entered = threading.Event()
        self.go = threading.Event()

    def step(self, name: str, *, held: bool = False) -> Callable[[], str]:
        def run() -> str:
            self.threads.append(threading.current_thread().name)
            if held:
                self.entered.set()
                self.go.wait(10)
            self.done.append(name)
            return name

        return run

    async def request(self, reader: Reader, name: str, *, held: bool = False) -> None:
        async with reader.turn(refused) as turn:
            await turn.run(self.step(f"{name} decoded", held=held), large=True)
            await turn.run(self.step(f"{name} read"), large=False)


async def entered(steps: Steps) -> None:
    await asyncio.to_thread(steps.entered.wait, 10)


async def waiting(reader: Reader, count: int) -> None:
    while reader._large < count:
        await asyncio.sleep(0)


async def test_small_steps_stay_where_they_are_until_one_is_large(reader: Reader) -> None:
    steps = Steps()
    here = threading.current_thread().name
    async with reader.turn(refused) as turn:
        assert await turn.run(steps.step("a"), large=False) == "a"
        assert await turn.run(steps.step("b"), large=True) == "b"
        assert await turn.run(steps.step("c"), large=False) == "c"
    assert steps.threads == [here, "read_0", "read_0"]


async def test_one_is_read_to_its_end_before_the_next_is_begun(reader: Reader) -> None:
    steps = Steps()
    first = asyncio.ensure_future(steps.request(reader, "1", held=True))
    await entered(steps)
    second = asyncio.ensure_future(steps.request(reader, "2"))
    await waiting(reader, 2)
    # What is small waits for none of them.
    async with reader.turn(refused) as turn:
        await turn.run(steps.step("small"), large=False)
    steps.go.set()
    await asyncio.gather(first, second)
    assert steps.done == ["small", "1 decoded", "1 read", "2 decoded", "2 read"]


async def test_one_too_many_is_refused_and_again_let_in_later(reader: Reader) -> None:
    steps = Steps()
    first = asyncio.ensure_future(steps.request(reader, "1", held=True))
    await entered(steps)
    others = [asyncio.ensure_future(steps.request(reader, name)) for name in "23"]
    await waiting(reader, 3)
    with pytest.raises(Overloaded, match="3 large requests are being read, allowed are 3"):
        await steps.request(reader, "4")
    steps.go.set()
    await asyncio.gather(first, *others)
    await steps.request(reader, "5")
    assert [name for name in steps.done if "read" in name] == [
        "1 read",
        "2 read",
        "3 read",
        "5 read",
    ]


async def test_who_goes_away_takes_what_has_not_begun_along(reader: Reader) -> None:
    steps = Steps()
    first = asyncio.ensure_future(steps.request(reader, "1", held=True))
    await entered(steps)
    gone = asyncio.ensure_future(steps.request(reader, "gone"))
    await waiting(reader, 2)
    last = asyncio.ensure_future(steps.request(reader, "2"))
    await waiting(reader, 3)
    for task in (gone, first):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    # The step of the first has begun: until it ends the thread is nobody else's.
    assert (steps.done, reader._large) == ([], 2)
    steps.go.set()
    await last
    assert steps.done == ["1 decoded", "2 decoded", "2 read"]
    assert reader._large == 0


async def test_what_fails_gives_the_thread_back(reader: Reader) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            async with reader.turn(refused) as turn:
                await turn.run(broken, large=True)
    await Steps().request(reader, "next")


async def test_a_sidecar_that_stops_begins_no_more(reader: Reader) -> None:
    steps = Steps()
    first = asyncio.ensure_future(steps.request(reader, "1", held=True))
    await entered(steps)
    second = asyncio.ensure_future(steps.request(reader, "2"))
    await waiting(reader, 2)
    reader.close()
    reader.close()
    steps.go.set()
    for task in (first, second):
        with pytest.raises(Unavailable, match="is stopping"):
            await task
    assert steps.done == ["1 decoded"]

"""Keeping workers: pauses between starts, their settings, the port, and what they write."""

import asyncio
import os
import socket
import sys
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest

from neuralrank.errors import Unsupported
from sidecar import main
from sidecar.processes.restarts import Restarts
from sidecar.processes.supervisor import Supervisor, reserve, worker_environment
from sidecar.settings import SidecarSettings, load_sidecar_settings

# Does as a worker does, then writes a megabyte and waits for SIGTERM.
WORKER = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.write(0, b"warm\\n")
assert os.read(0, 64) == b"go\\n"
sys.stdout.write("span " * 200_000)
sys.stdout.flush()
print("written", file=sys.stderr, flush=True)
signal.pause()
"""


def supervisor() -> Supervisor:
    settings = SidecarSettings(listen="127.0.0.1:0", processes=2, drain_seconds=0)
    return Supervisor(
        settings,
        [sys.executable, "-c", WORKER],
        {},
        restarts=partial(Restarts, first=0.01),
    )


async def test_workers_that_write_to_standard_output_are_not_held_up(
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = supervisor()
    running = asyncio.create_task(made.run())
    written = 0
    async with asyncio.timeout(20):
        while written < 2:
            await asyncio.sleep(0.01)
            err = capfd.readouterr().err
            written += err.count("written")
    made.stop()
    assert await running == 0


async def test_a_worker_that_can_not_be_started_is_tried_again_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, failed = asyncio.create_subprocess_exec, 0

    async def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal failed
        if failed < 2:
            failed += 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await start(*arguments, **named)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing)
    made = supervisor()
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        await made._all_warm.wait()
    made.stop()
    assert await running == 0
    ends = [vars(record)["ended"] for record in caplog.records if "started again" in record.message]
    assert ends == ["not started: Resource temporarily unavailable"] * 2


DYING = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


class Partly(Supervisor):
    """Of whose workers some die at every start, as where memory is out."""

    def __init__(self, dying: frozenset[int]) -> None:
        settings = SidecarSettings(listen="127.0.0.1:0", processes=3, drain_seconds=0)
        super().__init__(settings, (), {}, restarts=partial(Restarts, first=0.01, longest=0.01))
        self._dying = dying

    async def _start(self, number: int, address: str) -> Any:
        script = DYING if number in self._dying else WORKER
        self._command = (sys.executable, "-c", script)
        return await super()._start(number, address)


async def test_one_that_dies_at_every_start_keeps_the_others_shut_for_three_starts_only(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made = Partly(frozenset({1}))
    running = asyncio.create_task(made.run())
    written = 0
    async with asyncio.timeout(20):
        while written < 2:
            await asyncio.sleep(0.01)
            written += capfd.readouterr().err.count("written")
    made.stop()
    assert await running == 0
    (said,) = (vars(record) for record in caplog.records if "without it" in record.message)
    assert (said["levelname"], said["worker"], said["ended"]) == ("ERROR", 1, "SIGKILL")


async def test_where_all_die_none_is_let_in() -> None:
    made = Partly(frozenset({0, 1, 2}))
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        while len(made._given_up) < 3:
            await asyncio.sleep(0.01)
    assert not made._all_warm.is_set()
    made.stop()
    assert await running == 0


def test_a_worker_that_ends_again_and_again_waits_longer_up_to_a_bound() -> None:
    restarts = Restarts(first=0.5, longest=4)
    assert [restarts.pause(lived=1) for _ in range(6)] == [0.5, 1, 2, 4, 4, 4]


def test_one_that_lived_begins_anew() -> None:
    restarts = Restarts(first=0.5, forgotten_after=60)
    assert [restarts.pause(lived) for lived in (1, 1, 61, 1)] == [0.5, 1, 0.5, 1]


def test_workers_find_what_the_parent_was_given_and_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEURALRANK_SIDECAR_PROCESSES", "2")
    monkeypatch.setenv("NEURALRANK_SIDECAR_DEADLINE_MS", "300")
    settings = load_sidecar_settings(registry="/models", insecure=True)
    found = worker_environment(settings, {**os.environ, "HOME": "/home"})
    assert "NEURALRANK_SIDECAR_PROCESSES" not in found
    assert found["NEURALRANK_SIDECAR_DEADLINE_MS"] == "300"
    assert found["HOME"] == "/home"
    cores = len(os.sched_getaffinity(0))
    assert found["NEURALRANK_SIDECAR_THREADS"] == str(max(1, cores // 2))
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NEURALRANK_SIDECAR_PROCESSES")
    assert load_sidecar_settings() == settings.model_copy(
        update={"processes": 1, "threads": max(1, cores // 2)}
    )


def test_threads_that_were_given_stay() -> None:
    assert worker_environment(SidecarSettings(threads=3, processes=2), {})[
        "NEURALRANK_SIDECAR_THREADS"
    ] == "3"  # fmt: skip


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_on_which_anybody_listens_is_not_shared(shared: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(Unsupported, match="the port is in use"):
            reserve(f"127.0.0.1:{other.getsockname()[1]}")


def taken_behind_a_free_one(stack: ExitStack) -> int:
    """A port that something listens on, where nothing does on the one before it."""
    while True:
        other = stack.enter_context(socket.socket())
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = int(other.getsockname()[1])
        with socket.socket() as before, suppress(OSError):
            before.bind(("127.0.0.1", port - 1))
            return port


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_port_for_http_that_is_taken_is_said_before_anything_starts(worker: int) -> None:
    with ExitStack() as stack:
        port = taken_behind_a_free_one(stack)
        settings = SidecarSettings(
            listen="127.0.0.1:0", http_listen=f"127.0.0.1:{port - worker}", processes=2
        )
        with pytest.raises(Unsupported, match=rf"127.0.0.1:{port} can't|on 127.0.0.1:{port}:"):
            await Supervisor(settings, ["/nowhere"], {}).run()


def test_a_held_port_is_free_for_our_workers() -> None:
    with reserve("127.0.0.1:0") as held, socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(held.getsockname())
        worker.listen()
        with socket.create_connection(held.getsockname(), timeout=5):
            pass


def test_an_address_with_a_password_reaches_workers_and_no_list_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[list[str], dict[str, str]]] = []

    class Recorded:
        def __init__(self, _: object, command: list[str], environment: dict[str, str]) -> None:
            given.append((command, environment))

        def stop(self) -> None: ...

        async def run(self) -> int:
            return 0

    monkeypatch.setattr(main, "Supervisor", Recorded)
    with pytest.raises(SystemExit):
        main.serve(listen="127.0.0.1:0", processes=2, opensearch_url="http://me:secret@search")
    ((command, environment),) = given
    assert environment["NEURALRANK_OPENSEARCH_URL"] == "http://me:secret@search"
    assert not any("secret" in part for part in command)

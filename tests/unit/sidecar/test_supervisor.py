"""What is pure about keeping workers: pauses between starts, their settings, the port."""

import os
import socket

import pytest

from neuralrank.errors import Unsupported
from sidecar.processes.supervisor import Restarts, reserve, worker_environment
from sidecar.settings import SidecarSettings, load_sidecar_settings


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


def test_a_held_port_is_free_for_our_workers() -> None:
    with reserve("127.0.0.1:0") as held, socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(held.getsockname())
        worker.listen()
        with socket.create_connection(held.getsockname(), timeout=5):
            pass

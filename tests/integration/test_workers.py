"""Several worker processes on one port: real processes, real models, no OpenSearch."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc
import psutil
import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.client import Client
from neuralrank.errors import NeuralrankError
from neuralrank.stack.probe import sidecar_status
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from tests.unit.conftest import tiny_bundle

CANDIDATES = [pb.Candidate(id=str(n), text=f"red kettle number {n}") for n in range(60)]


def request() -> pb.RankRequest:
    made = pb.RankRequest(query="kettle", candidates=CANDIDATES)
    made.options.deadline_ms = 2_000
    return made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "registry").mkdir()
    made = Registry(str(folder / "registry"))
    for kind in ("encoder", "cross_encoder"):
        made.publish(tiny_bundle(folder / kind, kind))
    return made.url


def free_port(count: int = 1) -> int:
    """The first of some free ports in a row."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        if all(is_free(port + n) for n in range(count)):
            return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@dataclass
class Workers:
    """A parent with its workers."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    @property
    def pids(self) -> set[int]:
        children = psutil.Process(self.process.pid).children()
        return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}

    def end(self, victim: int, number: signal.Signals) -> None:
        """Ends a worker, and waits until its successor serves."""
        listening = self.log.read_text().count('"listening"')
        os.kill(victim, number)
        self.wait(lambda: victim not in self.pids and len(self.pids) == 2)
        self.wait(lambda: self.log.read_text().count('"listening"') > listening)

    def wait(self, what: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s:\n{self.log.read_text()}")
            time.sleep(0.05)


@contextmanager
def workers(
    folder: Path,
    registry: str,
    stdout: IO[bytes] | None = None,
    variables: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[Workers]:
    port = free_port()
    log = folder / "log"
    environment = {
        "NEURALRANK_OPENSEARCH_URL": "http://127.0.0.1:1",
        "NEURALRANK_SIDECAR_LISTEN": f"127.0.0.1:{port}",
        "NEURALRANK_SIDECAR_REGISTRY": registry,
        "NEURALRANK_SIDECAR_DRAIN_SECONDS": "5",
        **{f"NEURALRANK_SIDECAR_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar.main", "--processes", "2"],
            env=os.environ | environment | dict(variables or {}),
            stdout=stdout,
            stderr=output,
        )
    made = Workers(process, f"127.0.0.1:{port}", log)
    try:
        yield made
    finally:
        process.kill()
        process.wait()


@dataclass
class Load:
    """Requests, one after another from several threads, each with a connection of its own."""

    address: str
    retry: bool
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def running(self, threads: int = 6) -> Iterator[None]:
        ended = threading.Event()
        pool = [threading.Thread(target=self._work, args=(ended,)) for _ in range(threads)]
        for thread in pool:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in pool:
                thread.join()

    def _work(self, ended: threading.Event) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with (
            Client(self.address, timeout=10.0) as client,
            grpc.insecure_channel(self.address, options) as plain,
        ):
            stub = pb_grpc.RankingStub(plain)
            while not ended.is_set():
                try:
                    answer = client.rank(request()) if self.retry else stub.Rank(request())
                    assert len(answer.results) == len(CANDIDATES)
                    self.answered += 1
                except NeuralrankError as error:
                    self.failures.append(str(error))
                except grpc.RpcError as error:
                    self.failures.append(error.code().name)


@pytest.mark.parametrize(
    ("number", "retry", "worst"),
    [
        (signal.SIGKILL, True, set()),
        (signal.SIGTERM, True, set()),
        # Without retries a caller is told, at worst, to ask again.
        (signal.SIGKILL, False, {"UNAVAILABLE"}),
    ],
    ids=["killed", "told", "killed-plain"],
)
def test_a_worker_that_ends_costs_no_answer_and_is_started_again(
    tmp_path: Path, registry: str, number: signal.Signals, retry: bool, worst: set[str]
) -> None:
    with workers(tmp_path, registry) as running:
        running.wait(lambda: sidecar_status(running.address) == "serving")
        before = running.pids
        assert len(before) == 2
        load = Load(running.address, retry)
        with load.running():
            running.wait(lambda: load.answered > 50)
            for victim in sorted(before):
                running.end(victim, number)
                seen = load.answered
                while load.answered < seen + 50:
                    time.sleep(0.01)
        assert set(load.failures) <= worst
        assert not running.pids & before
        log = running.log.read_text()
        assert log.count("a worker ended; it is started again") == 2
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0


def test_told_to_end_they_answer_what_they_have(tmp_path: Path, registry: str) -> None:
    with workers(tmp_path, registry) as running:
        running.wait(lambda: sidecar_status(running.address) == "serving")
        load = Load(running.address, retry=False)
        with load.running():
            running.wait(lambda: load.answered > 50)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(30) == 0
        # CANCELLED: what arrived when the last one had closed its door. Our client asks again.
        assert set(load.failures) <= {"UNAVAILABLE", "CANCELLED"}
        assert running.log.read_text().count('"stopped"') == 2


def test_no_port_is_open_before_all_are_warm(tmp_path: Path, registry: str) -> None:
    with workers(tmp_path, registry) as running:
        running.wait(lambda: len(running.pids) == 2)
        held, other = sorted(running.pids)
        # One is held back while it starts: the other, warm or not, waits for it.
        os.kill(held, signal.SIGSTOP)
        try:
            served = '"bundle serving"'
            running.wait(lambda: running.log.read_text().count(served) >= 2)
            assert is_free(int(running.address.rpartition(":")[2]))
        finally:
            os.kill(held, signal.SIGCONT)
        running.wait(lambda: sidecar_status(running.address) == "serving")
        assert {held, other} == running.pids


def test_without_their_parent_workers_end(tmp_path: Path, registry: str) -> None:
    with workers(tmp_path, registry) as running:
        running.wait(lambda: sidecar_status(running.address) == "serving")
        left = [psutil.Process(pid) for pid in running.pids]
        running.process.kill()
        assert psutil.wait_procs(left, timeout=30)[1] == []


def test_each_worker_has_its_own_metrics(tmp_path: Path, registry: str) -> None:
    port = free_port(2)
    with workers(tmp_path, registry, http_listen=f"127.0.0.1:{port}") as running:
        running.wait(lambda: sidecar_status(running.address) == "serving")
        load = Load(running.address, retry=True)
        with load.running():
            running.wait(lambda: load.answered > 50)
        counted = 0.0
        for number in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port + number}/metrics") as answer:
                rows = answer.read().decode().splitlines()
            name = 'neuralrank_requests_total{method="Rank",status="OK"}'
            counted += sum(float(row.rpartition(" ")[2]) for row in rows if row.startswith(name))
        assert counted == load.answered


def test_traces_on_standard_output_hold_up_no_worker(tmp_path: Path, registry: str) -> None:
    environment = {"OTEL_TRACES_EXPORTER": "console"}
    with (
        (tmp_path / "spans").open("wb") as spans,
        workers(tmp_path, registry, spans, environment) as running,
    ):
        running.wait(lambda: sidecar_status(running.address) == "serving")
        load = Load(running.address, retry=False)
        with load.running():
            # Many times what a pipe holds.
            running.wait(lambda: load.answered > 100)
    assert load.failures == []
    assert (tmp_path / "spans").read_text().count('"name": "Rank"') >= load.answered


def test_what_no_worker_can_start_with_ends_all_with_its_exit_code(
    tmp_path: Path, registry: str
) -> None:
    with workers(tmp_path, registry, tokens=tmp_path / "nowhere") as running:
        assert running.process.wait(60) == 3
        assert "NEURALRANK_SIDECAR_TOKENS" in running.log.read_text()

"""Sidecar processes for benchmarks and fault injection: started, waited for, looked at, ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

__all__ = ["Running", "Usage", "free_port", "usage"]

# The checkout, so that the modules are found from whatever folder the benchmark runs in.
_ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Usage:
    """Of a process and its children together."""

    rss_mb: float
    files: int
    threads: int


def usage(pid: int) -> Usage:
    """What a process and its children use."""
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    return Usage(
        sum(process.memory_info().rss for process in family) / 2**20,
        sum(process.num_fds() for process in family),
        sum(process.num_threads() for process in family),
    )


class Running:
    """One `neuralrank-sidecar`, ended with its context, by its own process id."""

    def __init__(
        self, log: Path, *, opensearch_url: str, registry: str, arguments: tuple[str, ...] = (),
        before: tuple[str, ...] = (), environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:  # fmt: skip
        """
        Args:
            log: where its standard error goes.
            before: a command that runs the sidecar, such as one that sets a limit first.
            environment: further variables.
            registry: path or URL of the model registry.
            arguments: further flags.
            settings: of the sidecar, by their names in lower case.
        """
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = log
        variables = {k: v for k, v in os.environ.items() if not k.startswith("NEURALRANK_")}
        variables |= {f"NEURALRANK_SIDECAR_{k.upper()}": str(v) for k, v in settings.items()}
        variables |= {"PYTHONPATH": str(_ROOT)} | dict(environment or {})
        self._begun = time.monotonic()
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [
                    *(*before, sys.executable, "-m", "sidecar.main", "--listen", self.address),
                    *("--opensearch-url", opensearch_url, "--registry", registry, *arguments),
                ],
                env=variables,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.stop()

    def ready(self, seconds: float = 60.0) -> float:
        """Waits until health says SERVING; the seconds since it was started.

        Raises:
            RuntimeError: it ended, or is not ready in time; the message has the end of its log.
        """
        with grpc.insecure_channel(self.address, [("grpc.enable_http_proxy", 0)]) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() - self._begun < seconds and self.process.poll() is None:
                try:
                    answer = stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=1.0)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return time.monotonic() - self._begun
                except grpc.RpcError:
                    pass
                time.sleep(0.02)
        tail = self.log.read_text("utf-8", "replace")[-2_000:] if self.log.is_file() else ""
        raise RuntimeError(f"The sidecar was not ready within {seconds:.0f} s:\n{tail}")

    def usage(self) -> Usage:
        return usage(self.process.pid)

    def children(self) -> list[psutil.Process]:
        """Its worker processes, where it has some."""
        return psutil.Process(self.process.pid).children()

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and SIGKILL where that is not enough; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

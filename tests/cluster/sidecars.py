"""Real sidecar processes for the nodes of this folder, secured or not."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from neuralrank.client.channel import Access, Route
from tests.cluster.nodes import free_port
from tests.conftest import CACHE


@dataclass
class RunningSidecar:
    """One sidecar with the default models. `settings` are NEURALRANK_SIDECAR_…, in lower case."""

    opensearch_url: str
    log: Path
    access: Access = field(default_factory=Access)
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sidecar.main"],
                env=os.environ
                | {
                    "NEURALRANK_OPENSEARCH_URL": self.opensearch_url,
                    "NEURALRANK_REGISTRY": str(CACHE / "models"),
                    "NEURALRANK_SIDECAR_LISTEN": self.address,
                }
                | {f"NEURALRANK_SIDECAR_{key.upper()}": to for key, to in self.settings.items()},
                stdout=log,
                stderr=log,
            )

    def wait(self, seconds: float = 90.0) -> None:
        """Until it serves."""
        end = time.monotonic() + seconds
        while not self._serves():
            assert self.process is not None
            alive = self.process.poll() is None and time.monotonic() < end
            assert alive, self.log.read_text(encoding="utf-8")[-4_000:]
            time.sleep(0.2)

    def _serves(self) -> bool:
        with Route.to(self.address, self.access).open() as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=2
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

"""The process itself: its files, and its end."""

import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar import main
from sidecar.settings import SidecarSettings
from tests.unit.sidecar.secured import Files

# A sidecar that is told to stop while a thread of its waits for what never comes.
HANGING = """
import logging, os, signal, sys, threading, types
from concurrent.futures import ThreadPoolExecutor

class Sidecar:
    def __init__(self, *_, **__): ...

    async def start(self):
        ThreadPoolExecutor().submit(threading.Event().wait)
        for name in sys.argv[1:]:
            os.kill(os.getpid(), signal.Signals[name])

    async def stop(self):
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        sys.stdout.write("spans, SIGHUP ignored" if ignored else "spans")
        logging.getLogger("sidecar").info("stopped")

sys.modules["sidecar.server"] = types.SimpleNamespace(Sidecar=Sidecar)
from sidecar import main
main.serve(listen="127.0.0.1:0")
"""


def ended(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
    """By itself, and well."""
    done = subprocess.run(command, capture_output=True, timeout=60, text=True, check=False, **how)
    assert done.returncode == 0, done.stderr
    return done


def hears_hangups() -> None:
    """In a child, also where these tests themselves run under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_it_ends_whatever_its_threads_do_and_loses_no_line(name: str) -> None:
    done = ended([sys.executable, "-c", HANGING, name], preexec_fn=hears_hangups)
    assert done.stdout == "spans"
    assert '"stopped"' in done.stderr.splitlines()[-1]


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    done = ended(["nohup", sys.executable, "-c", HANGING, "SIGTERM"], stdin=subprocess.DEVNULL)
    assert done.stdout == "spans, SIGHUP ignored"


# Somebody who speaks no TLS, and what gRPC's core has an error for: a certificate that is none.
STRANGER = """
import asyncio, os, signal, socket, sys, types
from sidecar import main

assert "grpc" not in sys.modules  # which reads its variable when it is imported
certificate, key = sys.argv[1:]

class Sidecar:
    def __init__(self, *_, **__): ...

    async def start(self):
        import grpc

        with open(certificate, "rb") as one, open(key, "rb") as other:
            pair = other.read(), one.read()
        self.server = grpc.aio.server()
        port = self.server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([pair])
        )
        await self.server.start()
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
            await asyncio.to_thread(stranger.recv, 1)
        print("the stranger is gone", file=sys.stderr, flush=True)
        try:
            none = grpc.ssl_server_credentials([(b"x", b"y")])
            grpc.aio.server().add_secure_port("127.0.0.1:0", none)
        except RuntimeError:
            os.kill(os.getpid(), signal.SIGTERM)

    async def stop(self):
        await self.server.stop(0)

sys.modules["sidecar.server"] = types.SimpleNamespace(Sidecar=Sidecar)
main.serve(listen="127.0.0.1:0")
"""


@pytest.mark.parametrize("verbosity", [None, "INFO", "NONE"])
def test_a_handshake_that_fails_is_no_line_and_an_error_of_grpcs_core_is_one(
    tmp_path: Path, verbosity: str | None
) -> None:
    files = Files(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(files.certificate), str(files.key)],
        env=environment | ({"GRPC_VERBOSITY": verbosity} if verbosity else {}),
        capture_output=True, timeout=60, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, _, after = done.stderr.partition("the stranger is gone")
    # What is set otherwise holds.
    assert ("Handshake failed" in before) is (verbosity == "INFO")
    assert ("Invalid cert chain" in after) is (verbosity != "NONE")


class Limits:
    """The system's limits of open files."""

    def __init__(self, allowed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = (allowed, most)
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.now)
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, _: int, limits: tuple[int, int]) -> None:
        assert limits[1] == self.now[1]
        self.now = limits


@pytest.mark.parametrize(
    ("allowed", "most", "then"),
    [
        (1_024, 2**20, 4_100),
        (1_024, resource.RLIM_INFINITY, 4_100),
        (1_024, 2_048, 2_048),
        (2**20, 2**20, 2**20),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_as_many_files_may_be_open_as_connections_need(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    allowed: int,
    most: int,
    then: int,
) -> None:
    limits = Limits(allowed, most, monkeypatch)
    with caplog.at_level(logging.WARNING):
        main._allow_files(SidecarSettings(max_connections=1_000))
    assert limits.now == (then, most)
    assert ("raise the limit" in caplog.text) is (then == 2_048)


def test_http_is_not_loaded_before_it_is_known_to_be_wanted() -> None:
    code = "import sys, sidecar.main; sys.exit(bool({'uvicorn', 'fastapi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The process itself: its files, and its end."""

import logging
import resource
import subprocess
import sys

import pytest

from sidecar import main
from sidecar.settings import SidecarSettings

# A sidecar that is told to stop while a thread of its waits for what never comes.
HANGING = """
import logging, os, signal, sys, threading, types
from concurrent.futures import ThreadPoolExecutor

class Sidecar:
    def __init__(self, *_, **__): ...

    async def start(self):
        ThreadPoolExecutor().submit(threading.Event().wait)
        os.kill(os.getpid(), signal.SIGTERM)

    async def stop(self):
        sys.stdout.write("spans")
        logging.getLogger("sidecar").info("stopped")

sys.modules["sidecar.server"] = types.SimpleNamespace(Sidecar=Sidecar)
from sidecar import main
main.serve(listen="127.0.0.1:0")
"""


def test_it_ends_whatever_its_threads_do_and_loses_no_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, timeout=60, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "spans"
    assert '"stopped"' in done.stderr.splitlines()[-1]


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

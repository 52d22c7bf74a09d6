"""Benchmarks as commands: what is missing is said in a line, and what was started is ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import candidates, photos
from neuralrank.errors import NotFound
from tests.conftest import CHECKOUT

NOWHERE = {"NEURALRANK_OPENSEARCH_URL": "http://127.0.0.1:1"}


def ran(*words: str, home: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **NOWHERE, "NEURALRANK_HOME": str(home)}
    return subprocess.run(
        [sys.executable, *words], cwd=CHECKOUT, env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["bench", "latency"], 5, "127.0.0.1:1"),
        (["bench", "swaps"], 4, "No bundle 'neuralrank-small'"),
    ],
)
def test_what_is_missing_is_said_in_a_line_with_the_commands_code(
    words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    done = ran("-m", *words, home=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("bench: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_data_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(candidates, "DATA", tmp_path)
    with pytest.raises(NotFound, match="fashion_images_en"):
        photos.run()


def test_with_sigterm_what_was_started_ends_too(tmp_path: Path) -> None:
    program = """
import os, signal, subprocess, sys
from bench.entry import entry

def main():
    started = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        print(started.wait())

entry(main)
"""
    done = ran("-c", program, home=tmp_path)
    assert (done.returncode, done.stdout) == (143, "-15\n")

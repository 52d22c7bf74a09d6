import os
import sys
from pathlib import Path

import psutil
import pytest

from neuralrank.errors import Unsupported
from neuralrank.stack.processes import Process, is_alive, run, start, stop, tail

WAITS = [sys.executable, "-c", "import time; time.sleep(600)"]
# Says when its handler is in place, so that no test sends the signal too early.
STUBBORN = [
    sys.executable,
    "-uc",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready');"
    "time.sleep(600)",
]


def started(command: list[str], folder: Path) -> Process:
    return start(
        command, log=folder / "logs" / "it.log", environment={}, fingerprint="f", folder=folder
    )


def test_a_started_process_is_detached_and_ended_by_stop(tmp_path: Path) -> None:
    process = started(WAITS, tmp_path)
    try:
        assert is_alive(process)
        assert os.getsid(process.pid) == process.pid
    finally:
        assert stop(process) is True
    assert not psutil.pid_exists(process.pid)
    assert not is_alive(process)
    assert stop(process) is False


def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    process = started(STUBBORN, tmp_path)
    while "ready" not in tail(tmp_path / "logs" / "it.log"):
        assert is_alive(process)
    assert stop(process, patience_s=0.05) is True
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_got_the_id_later_is_not_it_and_is_never_signalled() -> None:
    me = psutil.Process()
    recycled = Process(me.pid, me.create_time() - 3_600, "f")
    assert not is_alive(recycled)
    assert stop(recycled) is False


def test_a_child_that_ended_is_not_alive(tmp_path: Path) -> None:
    process = started([sys.executable, "-c", "print('bye')"], tmp_path)
    while is_alive(process):
        pass
    assert tail(tmp_path / "logs" / "it.log") == "bye"


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        process = started([sys.executable, "-c", f"print('{word}')"], tmp_path)
        while is_alive(process):
            pass
    assert (tmp_path / "logs" / "it.log").read_text() == "second\n"
    assert (tmp_path / "logs" / "it.log.1").read_text() == "first\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "(no log was written)"),
        ("", "(the log is empty)"),
        ("a\nb\nc\n", "b\nc"),
        ("x" * 100_000 + "\nend", "x" * 65_532 + "\nend"),
    ],
)
def test_tail_gives_the_last_lines(tmp_path: Path, text: str | None, expected: str) -> None:
    log = tmp_path / "it.log"
    if text is not None:
        log.write_text(text)
    assert tail(log, lines=2) == expected


def test_a_command_that_fails_or_does_not_end_is_said_with_what_it_printed() -> None:
    prints = "import sys; [print(line) for line in range(30)]; sys.exit({})"

    def fails(*command: str, timeout_s: float = 60) -> str:
        with pytest.raises(Unsupported) as caught:
            run(
                [sys.executable, *command], environment={}, timeout_s=timeout_s, failure="It failed"
            )
        return str(caught.value)

    last = "\n".join(map(str, range(5, 30)))
    assert fails("-c", prints.format(1)) == f"It failed. Its last lines:\n{last}"
    assert fails(*WAITS[1:], timeout_s=0.01) == "It failed: no end after 0.01 s."
    run([sys.executable, "-c", prints.format(0)], environment={}, timeout_s=60, failure="")

"""Starts, recognises and ends the processes of the local stack.

A process is known by its id *and* the time at which it was created: ids are used again, and what
this command did not start it must never signal.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from neuralrank.errors import Unsupported

__all__ = ["Account", "Process", "is_alive", "run", "start", "stop", "tail"]

# Creation times are derived from the boot time, which the kernel corrects a little with the clock.
CLOCK_TOLERANCE_S: Final = 2.0
_CHILDREN: Final[dict[int, "subprocess.Popen[bytes]"]] = {}


@dataclass(frozen=True)
class Account:
    """An account of this machine that a process is to run as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Process:
    """A process that `neuralrank up` started."""

    pid: int
    # When it was created, in seconds since the epoch.
    created: float
    # Hash over what it was started with; another one means that it has to be started anew.
    fingerprint: str


def start(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    fingerprint: str,
    folder: Path,
    account: Account | None = None,
) -> Process:
    """Starts a detached process that outlives this command and writes to a log file.

    The previous run's log is kept beside it with the ending `.1`.

    Args:
        account: whom to run it as; None means as who runs this. Needs root.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    # Kept so that a child that dies at once is reaped, and does not look alive as a zombie.
    _CHILDREN[child.pid] = child
    try:
        created = psutil.Process(child.pid).create_time()
    except psutil.NoSuchProcess:
        created = 0.0
    return Process(child.pid, created, fingerprint)


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    failure: str,
    folder: Path | None = None,
) -> None:
    """Runs a command to its end, without input.

    Args:
        failure: what it means that it fails, for the message; without a full stop.

    Raises:
        Unsupported: it fails, which is said with its last lines, or does not end in time.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise Unsupported(f"{failure}: no end after {timeout_s:g} s.") from error
    if done.returncode != 0:
        raise Unsupported(f"{failure}. Its last lines:\n{_last(done.stdout.strip())}")


def is_alive(process: Process | None) -> bool:
    """Whether exactly this process still runs. A zombie or another one with its id does not."""
    return _find(process) is not None


def stop(process: Process, patience_s: float = 30.0) -> bool:
    """Ends exactly this process: SIGTERM, and SIGKILL when it is still there after a while.

    Returns:
        False if it had ended before.
    """
    found = _find(process)
    if found is None:
        return False
    try:
        found.terminate()
        try:
            found.wait(patience_s)
        except psutil.TimeoutExpired:
            # psutil checks the creation time once more before it signals.
            found.kill()
            found.wait(patience_s)
    except psutil.NoSuchProcess:
        pass
    _reap(process.pid)
    return True


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, for an error message."""
    if not log.is_file():
        return "(no log was written)"
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 65_536))
        text = file.read().decode(errors="replace")
    return _last(text, lines) or "(the log is empty)"


def _last(text: str, lines: int = 25) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _find(process: Process | None) -> psutil.Process | None:
    if process is None:
        return None
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.created) <= CLOCK_TOLERANCE_S
        if same and found.status() != psutil.STATUS_ZOMBIE:
            return found
    except psutil.NoSuchProcess:
        pass
    # It may be a child of ours that has ended just now.
    _reap(process.pid)
    return None


def _reap(pid: int) -> None:
    child = _CHILDREN.get(pid)
    if child is not None and child.poll() is not None:
        del _CHILDREN[pid]

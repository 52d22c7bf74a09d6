"""Commands that are interrupted: they clean up after themselves, and say what stays."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import typer

__all__ = ["ended_like_ctrl_c", "interruptible"]

# By whoever ends the process (a deploy, a scheduler), and by a terminal that is closed.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(words: str = "") -> Iterator[None]:
    """An interruption ends the command with a sentence and exit code 130.

    Args:
        words: what stays and what to do, where the interruption does not say so itself.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo(f"neuralrank: Interrupted. {str(error) or words}".rstrip(), err=True)
        raise typer.Exit(130) from None


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP are a KeyboardInterrupt meanwhile, so that what was begun is taken back.

    Only the first is: what comes after it, as SIGHUP after systemd's SIGTERM, must not end the
    taking back. What is ignored, as SIGHUP under nohup, stays so.
    """
    interrupted = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Signals that end a command, as an interruption that it can clean up after."""

import signal

import pytest

from neuralrank.cli.interruption import ended_like_ctrl_c


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_the_next_leave_the_clean_up_alone(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    cleaned: list[bool] = []

    def command() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt), ended_like_ctrl_c():
        command()
    assert cleaned
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_like_ctrl_c():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)

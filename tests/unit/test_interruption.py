"""Signals that end a command, as an interruption that it can clean up after."""

import signal
from collections.abc import Iterator

import pytest
import typer

from neuralrank.cli.interruption import ended_like_ctrl_c, interruptible


@pytest.fixture(autouse=True)
def _as_in_a_shell() -> Iterator[None]:
    """Whoever runs the tests may have SIGHUP ignored, as nohup has."""
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ended_like_ctrl_c():
        signal.raise_signal(signal.SIGHUP)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (KeyboardInterrupt(), "What was done stays."),
        (KeyboardInterrupt("It goes on."), "It goes on."),
    ],
)
def test_an_interruption_ends_a_command_with_a_sentence(
    raised: KeyboardInterrupt, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, interruptible("What was done stays."):
        raise raised
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == f"neuralrank: Interrupted. {says}\n"

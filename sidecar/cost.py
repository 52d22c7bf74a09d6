"""What reading pairs costs, measured while serving.

A cross-encoder's time grows with the tokens it reads. Tokens are estimated from characters, without
tokenising: the estimate only has to be proportional, since its price is measured.
"""

from collections.abc import Sequence
from typing import Final

__all__ = ["Cost", "units"]

# Weight of the newest measurement. Higher follows the load sooner, lower is calmer.
_ALPHA: Final = 0.2
# What is left of an estimate each time that it forbids everything.
_DOUBT: Final = 0.9
# Characters of a text that are read; a cross-encoder cuts at its maximum of tokens.
_READ: Final = 2_000


def units(query: str, texts: Sequence[str]) -> float:
    """About the tokens in the pairs: 4 Latin characters or 1.4 others make one."""
    head = _tokens(query) + 3.0
    return sum(head + _tokens(text) for text in texts)


def _tokens(text: str) -> float:
    # UTF-8 has one byte a Latin character and two or more for others.
    text = text[:_READ]
    if text.isascii():
        return len(text) / 4
    others = (len(text.encode()) - len(text)) / 2
    return (len(text) - others) / 4 + others / 1.4


class Cost:
    """Seconds a unit: an exponentially weighted mean. Written from model threads; a lost update
    between two of them costs a measurement, nothing more."""

    def __init__(self, seconds_per_unit: float | None = None) -> None:
        self._rate = seconds_per_unit

    def observe(self, units: float, seconds: float) -> None:
        rate = seconds / max(units, 1.0)
        self._rate = rate if self._rate is None else self._rate + _ALPHA * (rate - self._rate)

    def doubt(self) -> None:
        """Lowers the estimate a little, when it has kept work from being done at all: it may be of
        a busy moment that has passed, and only doing the work would tell."""
        if self._rate is not None:
            self._rate *= _DOUBT

    def estimate(self, units: float) -> float:
        """Seconds that reading so much takes; 0 before the first measurement."""
        return (self._rate or 0.0) * units

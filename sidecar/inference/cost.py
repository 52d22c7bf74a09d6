"""What running a model costs, measured while serving: seconds a padded token, for each bundle on
its backend.

Measured here: a token costs the same in a batch of 40 tokens as in one of 1,000; what a run costs
beside its tokens is as much as a few tokens do.
"""

import time
from collections.abc import Sequence
from typing import Final

from sidecar.deadline import Clock

__all__ = ["HEADROOM", "Cost", "units"]

# A run takes as long as estimated, or this much longer, without missing a deadline.
HEADROOM: Final = 1.25
# Weight of the newest measurement. Higher follows the load sooner, lower is calmer.
_ALPHA: Final = 0.2
# Tokens' worth of work that every run costs besides.
_RUN: Final = 16.0
# After so many seconds without a run an estimate loses half of what it is above the lowest ever: it
# may be of a busy moment that has passed, and what it forbids can't correct it.
_HALF_LIFE: Final = 1.0
# After so many, and each time again, it loses half of that lowest too: all that was measured may be
# of busy moments, as where a machine was busy when the model was loaded. The next run is then
# believed as the first one was.
_DOUBTED: Final = 30.0
# Characters of a text that are read; a cross-encoder cuts at its maximum of tokens.
_READ: Final = 2_000


def units(query: str, texts: Sequence[str]) -> float:
    """About the tokens in the pairs, without tokenising: 4 Latin characters or 1.4 others make
    one."""
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
    """An exponentially weighted mean. Written from model threads; a lost update between two of
    them costs a measurement, nothing more."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._rate = 0.0
        self._lowest = 0.0
        self._at = 0.0

    def observe(self, tokens: float, seconds: float) -> None:
        """A run of so many padded tokens has taken so long."""
        rate = seconds / (tokens + _RUN)
        known = rate if not self._rate or self._age() > _DOUBTED else self._now()
        self._rate = known + _ALPHA * (rate - known)
        self._lowest = min(self._lowest or rate, rate)
        self._at = self._clock()

    def estimate(self, tokens: float) -> float:
        """Seconds that a run of so many padded tokens takes; 0 before the first measurement."""
        return self._now() * (tokens + _RUN)

    def _now(self) -> float:
        age = self._age()
        above = self._rate - self._lowest
        return self._lowest * _left(age / _DOUBTED) + above * _left(age / _HALF_LIFE)

    def _age(self) -> float:
        return self._clock() - self._at


def _left(times: float) -> float:
    """All, until one time is over; then half for each."""
    return float(0.5 ** min(max(times - 1.0, 0.0), 60.0))

"""How many requests a second a sidecar holds: the highest constant rate at which answers keep the
deadline and next to nothing is refused."""

from pathlib import Path
from typing import Any, Final

from bench.load import Spec, Tally, load

__all__ = ["SLACK_MS", "find_capacity", "holds"]

# What an answer may come after the deadline that ranking was given: the way there and back.
SLACK_MS: Final = 10.0
# Of the requests, the most that may be refused or fail at a rate that is held.
_REFUSED: Final = 0.01
_TRIALS: Final = 9
_STEP: Final = 1.3


def holds(tally: Tally, limit_ms: float) -> bool:
    """Whether all but 1 % of the requests were answered, 99 % of them within the limit."""
    return tally.answered >= (1 - _REFUSED) * tally.sent and tally.percentile(99) < limit_ms


def find_capacity(
    target: str, requests: Path, folder: Path, *, deadline_ms: float, seconds: float, skip: int = 0,
    **where: Any,
) -> tuple[float, int]:  # fmt: skip
    """The highest of the rates tried that is held, and the requests used up.

    From what eight callers get done, up or down in steps of 30 % until it turns, then halfway.
    The best of so many trials may have been held by luck: it has to be held once more, or else a
    rate a step lower. A rate of 0: even the lowest rate tried was not held.

    Args:
        where: further fields of `Spec`: connections, cores.
    """
    limit = deadline_ms + SLACK_MS

    def made(**how: Any) -> Tally:
        nonlocal skip
        spec = Spec(target, str(requests), seconds, skip=skip, **where, **how)
        tally = load(spec, folder)
        skip += tally.sent
        return tally

    def held(rate: float) -> bool:
        return holds(made(rate=rate), limit)

    rate = max(1.0, made(callers=8).answered / seconds)
    best, failed = 0.0, 0.0
    for _ in range(_TRIALS):
        if best and failed:
            break
        if held(rate):
            best = max(best, rate)
            rate *= _STEP
        else:
            failed = min(failed, rate) if failed else rate
            rate /= _STEP
    middle = (best + failed) / 2
    if best and failed and held(middle):
        best = middle
    for _ in range(_TRIALS):
        if not best or held(best):
            return best, skip
        best /= _STEP
    return 0.0, skip

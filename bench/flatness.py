"""Whether a process stayed as it was over a long run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.load import Tally

__all__ = ["TOLERANCE", "Sample", "Verdict", "judge"]

# What a line through the samples may rise by over the whole run, as a share of its middle, and at
# least so much in its own unit: below that it is the noise of the allocator and of the machine.
TOLERANCE: Final = {
    "rss_mb": (0.05, 8.0),
    "files": (0.10, 8.0),
    "threads": (0.0, 2.0),
    "p99_ms": (0.25, 10.0),
}
# Of the requests: refusals that are no failure of the run.
_REFUSED: Final = 0.05


@dataclass(frozen=True)
class Sample:
    """One minute. `other_cpu` is what other processes took of the machine, in percent."""

    minute: float
    rss_mb: float
    files: int
    threads: int
    p50_ms: float
    p99_ms: float
    answered: int
    refused: int
    other_cpu: float


@dataclass(frozen=True)
class Verdict:
    """What rose, by name: the rise over the run and what is allowed; and what went wrong."""

    rises: dict[str, tuple[float, float]]
    problems: list[str]

    @property
    def flat(self) -> bool:
        return not self.problems


def judge(samples: Sequence[Sample], tally: Tally) -> Verdict:
    """Whether it stayed flat and lost nothing. The first quarter of the samples is not judged."""
    settled = samples[len(samples) // 4 :] if len(samples) >= 4 else samples
    problems = []
    rises = {}
    for name, (share, least) in TOLERANCE.items():
        values = [float(getattr(sample, name)) for sample in settled]
        known = [(s.minute, v) for s, v in zip(settled, values, strict=True) if math.isfinite(v)]
        rise = _rise(known)
        allowed = max(least, share * float(np.median([v for _, v in known]))) if known else least
        rises[name] = (round(rise, 2), round(allowed, 2))
        if rise > allowed:
            problems.append(f"{name} rose by {rise:.1f}; allowed is {allowed:.1f}")
        if len(known) < len(settled):
            problems.append(f"{name} is not known for {len(settled) - len(known)} minutes")
    if len(settled) < 2:
        problems.append(f"too few samples to judge: {len(samples)}")
    if tally.lost:
        problems.append(f"{tally.lost} of {tally.sent} requests were never answered")
    if tally.wrong:
        problems.append(f"{tally.wrong} answers lacked a candidate or had one twice")
    said = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}  # answered, refused, lost
    failed = {name: n for name, n in tally.statuses.items() if name not in said}
    if failed:
        problems.append(f"requests failed: {failed}")
    if tally.sent - tally.answered > _REFUSED * max(1, tally.sent):
        problems.append(f"only {tally.answered} of {tally.sent} requests were answered")
    return Verdict(rises, problems)


def _rise(points: Sequence[tuple[float, float]]) -> float:
    """Of the Theil-Sen line from the first point to the last; 0 for fewer than two."""
    slopes = [
        (b[1] - a[1]) / (b[0] - a[0])
        for place, a in enumerate(points)
        for b in points[place + 1 :]
        if b[0] > a[0]
    ]
    return float(np.median(slopes)) * (points[-1][0] - points[0][0]) if slopes else 0.0

"""What happened to a request: its stages with their times, and what kept it from being best."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.domain import Degradation, DegradedReason, StageReport
from sidecar.telemetry.calls import current, span
from sidecar.telemetry.metrics import Metrics

__all__ = ["STAGES", "Trace"]

# In the order in which they are reported. Tokenise, queue and inference are what all models took
# together, those of profile and of rerank among them; read and reply are added by who does them.
STAGES = (
    "read", "profile", "features", "filter", "score", "personal", "tokenise", "queue", "inference",
    "rerank", "blend", "explain", "reply",
)  # fmt: skip


class Trace:
    """Notes of one request."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stages: dict[str, StageReport] = {}
        self._degraded: dict[tuple[DegradedReason, str], Degradation] = {}
        # name@hash of the bundles that took part, in order.
        self.bundles: list[str] = []

    @contextmanager
    def stage(self, name: str, candidates: int) -> Iterator[None]:
        """Times a stage; one that raises is noted with the time that it took, and one that comes
        again adds up."""
        start = time.perf_counter()
        try:
            with span(name):
                yield
        finally:
            seconds = time.perf_counter() - start
            self.spend(name, seconds, candidates)
            call = current()
            if call is not None:
                call.stages[name] = self._stages[name].milliseconds

    def spend(self, name: str, seconds: float, candidates: int) -> None:
        """Adds to a stage that goes on beside others, or several times."""
        before = self._stages.get(name, StageReport(name, 0, 0.0))
        self._stages[name] = StageReport(
            name, before.candidates + candidates, before.milliseconds + seconds * 1_000
        )
        self._metrics.stage(name, seconds)

    def degrade(self, reason: DegradedReason, detail: str, *, partial: bool = True) -> None:
        """Notes it once, however often it is found."""
        self._degraded.setdefault((reason, detail), Degradation(reason, detail, partial))

    def used(self, bundle: str) -> None:
        if bundle not in self.bundles:
            self.bundles.append(bundle)

    @property
    def stages(self) -> tuple[StageReport, ...]:
        return tuple(self._stages[name] for name in STAGES if name in self._stages)

    @property
    def degraded(self) -> tuple[Degradation, ...]:
        return tuple(self._degraded.values())

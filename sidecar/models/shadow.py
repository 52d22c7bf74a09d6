"""Scores what was asked a second time, by a candidate bundle, and says how far both agree.

Off every caller's path: it happens in one thread of its own after the answer has gone, two pairs
at a time, and only while no request is in work. What can't be done soon is dropped and counted.
Nothing of a query, a text or a user is kept or logged.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from neuralrank.agreement import kendall_tau, top_overlap
from sidecar.cores import step_back
from sidecar.deadline import Clock
from sidecar.domain import Floats
from sidecar.models.serving import Agreement, CrossEncoderModel, Serving, knows
from sidecar.telemetry.metrics import Metrics

__all__ = ["Shadow"]

_log = logging.getLogger(__name__)
# The best so many of both orders are compared.
_TOP: Final = 3
# Pairs in one run: as long as that, a request that arrives shares the processor with it.
_PAIRS: Final = 2
# Seconds between looks whether the sidecar is idle, while something waits.
_PAUSE: Final = 0.002
# Seconds between two lines in the log for one candidate: of what it agrees, and of how it fails.
_LOG_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Job:
    model: CrossEncoderModel
    query: str
    texts: Sequence[str]
    # What the bundle in service gave, calibrated, float32 [texts].
    served: Floats
    at: float


class Shadow:
    """One for a server."""

    def __init__(
        self,
        metrics: Metrics,
        busy: Callable[[], bool],
        *,
        limit: int = 64,
        seconds: float = 5.0,
        nice: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        """
        Args:
            busy: whether any request is in work.
            limit: requests that may wait to be scored again; one more is dropped.
            seconds: how long one may wait before it is dropped.
            nice: how much lower the priority of its thread is.
        """
        self._metrics = metrics
        self._busy = busy
        self._limit = limit
        self._seconds = seconds
        self._nice = nice
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._sums: dict[str, Agreement] = {}
        self._logged: dict[tuple[str, str], float] = {}

    def offer(
        self,
        serving: Serving,
        model: CrossEncoderModel,
        language: str | None,
        query: str,
        texts: Sequence[str],
        scores: Floats,
    ) -> None:
        """What a bundle has scored; if it has a shadow, that will score it too, or not.

        Args:
            language: that the candidate has to know; None: any will do.
            scores: calibrated, float32 [texts].
        """
        found = serving.shadow_of(model.ref)
        if found is None or len(texts) < 2 or random.random() * 100.0 >= found[1]:
            return
        candidate = found[0].cross_encoder
        if candidate is None or not knows(candidate, language):
            return
        job = _Job(candidate, query, list(texts), scores, self._clock())
        with self._changed:
            if self._closed:
                return
            full = len(self._jobs) >= self._limit
            if not full:
                self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
                self._thread.start()
            self._changed.notify()
        if full:
            self._count(job, "dropped")

    def agreement(self, ref: str) -> Agreement | None:
        """Of a candidate, since it was loaded."""
        return self._sums.get(ref)

    async def forget(self, ref: str) -> None:
        """A candidate is tried no more."""
        self._sums.pop(ref, None)
        for what in ("agreement", "failure"):
            self._logged.pop((ref, what), None)

    def close(self) -> None:
        """Drops what waits."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify()

    def _work(self) -> None:
        step_back(self._nice)
        while (job := self._next()) is not None:
            try:
                scores = self._score(job)
                self._count(job, "dropped") if scores is None else self._compare(job, scores)
            except Exception as error:  # whatever a candidate does, nobody waits for it
                self._count(job, "failed")
                if self._is_due(job.model.ref, "failure"):
                    _log.warning("a shadow failed: %s", error, extra={"bundle": job.model.ref})
            # While this thread waits it holds no model that could be freed.
            del job

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            return None if self._closed else self._jobs.popleft()

    def _score(self, job: _Job) -> Floats | None:
        """The candidate's calibrated scores, float32 [texts]; None if there was no time."""
        model = job.model
        logits: list[Floats] = []
        if not self._idle(job):
            return None
        query, *texts = model.tokenise([job.query, *job.texts])
        pairs = [model.pair(query, text) for text in texts]
        for start in range(0, len(pairs), _PAIRS):
            if not self._idle(job):
                return None
            logits.append(model.run(pairs[start : start + _PAIRS])[:, 0])
        return model.probability(np.concatenate(logits))

    def _idle(self, job: _Job) -> bool:
        """Waits until no request is in work; False if that took too long."""
        while self._busy():
            if self._closed or self._clock() - job.at > self._seconds:
                return False
            time.sleep(_PAUSE)
        return self._clock() - job.at <= self._seconds

    def _compare(self, job: _Job, scores: Floats) -> None:
        if not np.isfinite(scores).all():
            self._count(job, "failed")
            return
        tau = kendall_tau(job.served, scores)
        overlap = top_overlap(job.served, scores, _TOP)
        drift = float(np.mean(scores - job.served))
        ref = job.model.ref
        with self._changed:  # the event loop counts what it drops meanwhile
            before = self._sums.get(ref, Agreement())
            count = before.requests + 1

            def mean(old: float, new: float) -> float:
                return old + (new - old) / count

            self._sums[ref] = replace(
                before,
                requests=count,
                kendall_tau=mean(before.kendall_tau, tau),
                top_overlap=mean(before.top_overlap, overlap),
                score_drift=mean(before.score_drift, drift),
            )
        self._metrics.shadow(ref, "compared")
        self._metrics.agreement(ref, tau, overlap, drift)
        self._report(ref)

    def _count(self, job: _Job, outcome: str) -> None:
        ref = job.model.ref
        with self._changed:
            before = self._sums.get(ref, Agreement())
            self._sums[ref] = (
                replace(before, failed=before.failed + 1)
                if outcome == "failed"
                else replace(before, dropped=before.dropped + 1)
            )
        self._metrics.shadow(ref, outcome)

    def _report(self, ref: str) -> None:
        if not self._is_due(ref, "agreement"):
            return
        sums = self._sums[ref]
        _log.info(
            "shadow agreement",
            extra={
                "bundle": ref,
                "requests": sums.requests,
                "dropped": sums.dropped,
                "failed": sums.failed,
                "kendall_tau": round(sums.kendall_tau, 4),
                "top_overlap": round(sums.top_overlap, 4),
                "score_drift": round(sums.score_drift, 4),
            },
        )

    def _is_due(self, ref: str, what: str) -> bool:
        """Whether a line on a candidate may be written: one now and then, however many requests."""
        now = self._clock()
        if now - self._logged.get((ref, what), float("-inf")) < _LOG_SECONDS:
            return False
        self._logged[ref, what] = now
        return True

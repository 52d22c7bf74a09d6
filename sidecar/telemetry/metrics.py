"""What the sidecar counts, for Prometheus. docs/metrics.md says what each metric means.

A name is neuralrank_<what>_<unit>: seconds, bytes, ratio (0 to 1), info, or what is counted. A
label whose values are not known beforehand is a bundle's; `keep_bundles` forgets those that left.
"""

from collections.abc import Callable, Collection, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Generic, TypeVar

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

from sidecar.domain import Floats

__all__ = ["Metrics"]

_Family = TypeVar("_Family", Counter, Histogram)

# Seconds; ranking lives between a tenth of a millisecond and a second.
_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
# And a rerank over HTTP, with its five seconds by default.
_REQUESTS: Final = (*_SECONDS, 5.0, 10.0)
# What counts in a wait is its part of the default deadline, 50 ms: finer between a fifth of it and
# all. Alerts and the autoscaler are held against these.
_WAITS: Final = (*_SECONDS[:7], 0.015, 0.02, 0.025, 0.03, 0.04, *_SECONDS[8:])
# Deadlines are round numbers: a bucket for each that is likely.
_DEADLINES: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0, 2.0, 5.0)
_TENTHS: Final = tuple(tenth / 10 for tenth in range(11))
# What is mostly small. 0 is a bucket of its own: what is the same is seen to be the same.
_DISTANCES: Final = (0.0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
_TWENTIETHS: Final = tuple(twentieth / 20 for twentieth in range(21))


class _Labelled(Generic[_Family]):
    """A family's children. Looking one up in the family takes a lock; the hot path keeps the few
    there are."""

    def __init__(self, family: _Family) -> None:
        self._family: _Family = family
        self._children: dict[tuple[str, ...], _Family] = {}

    def __call__(self, *values: str) -> _Family:
        """The child with these values of the labels, in the order of the family's labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._family.labels(*values)
        return child

    def keep(self, first: Collection[str]) -> None:
        """Removes the children whose first label says something else."""
        for values in list(self._children):  # threads that run models add to them meanwhile
            if values[0] not in first:
                del self._children[values]
                self._family.remove(*values)


class Metrics:
    """Counters of one server; each server has its own registry, so that tests can have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Memory, processor time and open files of the process, as process_….
        ProcessCollector(registry=self.registry)
        self._requests = self._counters(
            "neuralrank_requests", "Requests, by gRPC status.", "method", "status"
        )
        self._seconds = self._histograms(
            "neuralrank_request_seconds",
            "From receiving a request to its answer.",
            "method",
            buckets=_REQUESTS,
        )
        self._deadline = self._histograms(
            "neuralrank_deadline_seconds",
            "The time that a request gave, less the margin to answer in.",
            "method",
            buckets=_DEADLINES,
        )
        self._refused = self._counters(
            "neuralrank_refused_requests", "Requests that were not let in.", "reason"
        )
        self._stage_seconds = self._histograms(
            "neuralrank_stage_seconds", "Time of each stage of Rank.", "stage"
        )
        self._degraded = self._counters(
            "neuralrank_degraded_answers", "Answers that were not the best possible.", "reason"
        )
        self._partial = self._counter(
            "neuralrank_partial_answers", "Answers of Rank for which something was left out."
        )
        self._distance = self._histogram(
            "neuralrank_order_distance_ratio",
            "Share of pairs that Rank turned round; Kendall's tau is 1 - 2 times this.",
            buckets=_TENTHS,
        )
        self._top_score = self._histograms(
            "neuralrank_top_score_ratio",
            "The best calibrated score that a bundle gave in a Rank.",
            "bundle",
            buckets=_TWENTIETHS,
        )
        self._read = self._counter(
            "neuralrank_reranked_candidates", "Candidates that a cross-encoder read."
        )
        self._cache = self._counters(
            "neuralrank_cache_lookups", "Look-ups in caches.", "cache", "outcome"
        )
        self._reads = self._counters(
            "neuralrank_opensearch_reads", "Reads from OpenSearch, by how they ended.",
            "read", "outcome",
        )  # fmt: skip
        self._queue_seconds = self._histogram(
            "neuralrank_queue_seconds",
            "From asking for a model run to its beginning, or to giving it up.",
            buckets=_WAITS,
        )
        self._inference_seconds = self._histograms(
            "neuralrank_inference_seconds", "One model run.", "bundle", "backend"
        )
        self._inference_tokens = self._counters(
            "neuralrank_inference_padded_tokens",
            "Tokens that models computed, padding included.",
            "bundle",
            "backend",
        )
        self._cache_bytes = self._gauge("neuralrank_cache_bytes", "Memory of a cache.", "cache")
        self._fallbacks = self._counters(
            "neuralrank_backend_fallbacks", "Times that the CPU did a GPU's work.", "reason"
        )
        self._arms = self._counters(
            "neuralrank_arm_requests", "Requests that a bundle in service or a canary read.",
            "bundle", "arm",
        )  # fmt: skip
        self._arm_seconds = self._histograms(
            "neuralrank_arm_rerank_seconds", "Time of reading candidates.", "bundle", "arm"
        )
        self._shadows = self._counters(
            "neuralrank_shadow_requests", "Requests offered to a shadow.", "bundle", "outcome"
        )
        self._shadow_distance = self._histograms(
            "neuralrank_shadow_order_distance_ratio",
            "How far a shadow's order is from the served one; Kendall's tau-b is 1 - 2 times this.",
            "bundle",
            buckets=_DISTANCES,
        )
        self._shadow_overlap = self._histograms(
            "neuralrank_shadow_top_overlap_ratio",
            "Share of the best 3 that both have.",
            "bundle",
            buckets=_TENTHS,
        )
        self._shadow_drift = self._histograms(
            "neuralrank_shadow_score_drift_ratio",
            "How much higher, or lower, a shadow's calibrated scores are.",
            "bundle",
            "direction",
            buckets=_DISTANCES,
        )
        self._bundles = self._gauge("neuralrank_model_bundles", "Bundles, by state.", "state")
        self.in_flight = self._gauge("neuralrank_in_flight_requests", "Requests being worked on.")
        self.waiting = self._gauge(
            "neuralrank_waiting_requests",
            "Requests that wait, as too many are in work.",
        )
        self.queued = self._gauge(
            "neuralrank_queued_runs", "Model runs that wait or are under way."
        )
        self._busy = self._gauge(
            "neuralrank_busy_ratio", "Share of its time that the event loop was at work, just now."
        )
        self._worked = self._counter(
            "neuralrank_busy_seconds", "Time for which the event loop was at work."
        )
        self._build = Info("neuralrank_build", "What runs here.", registry=self.registry)

    def request(self, method: str, status: str, seconds: float) -> None:
        self._requests(method, status).inc()
        self._seconds(method).observe(seconds)

    def deadline(self, method: str, seconds: float) -> None:
        """The time that a request came with, in seconds."""
        self._deadline(method).observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        self._stage_seconds(name).observe(seconds)

    def refused(self, reason: str) -> None:
        self._refused(reason).inc()

    def watch_busy(self, share: Callable[[], float]) -> None:
        """Asks `share` how busy the event loop is, in [0, 1], whenever the metrics are read."""
        self._busy.set_function(share)

    def worked(self, seconds: float) -> None:
        """For how long the event loop was at work since this was called last."""
        self._worked.inc(seconds)

    def degraded(self, reason: str) -> None:
        self._degraded(reason).inc()

    def partial(self) -> None:
        """An answer of Rank for which something was left out."""
        self._partial.inc()

    def ordered(self, distance: float) -> None:
        """Of one Rank: `telemetry.agreement.kendall_distance` of its answer to its request."""
        self._distance.observe(distance)

    def top_score(self, bundle: str, scores: Floats) -> None:
        """The calibrated scores, in [0, 1], that the bundle gave to the candidates of one Rank:
        float32 [n], NaN where it gave none."""
        known = scores[~np.isnan(scores)]
        if len(known):
            self._top_score(bundle).observe(float(known.max()))

    def reranked(self, candidates: int) -> None:
        self._read.inc(candidates)

    def cache(self, name: str, *, hits: int, misses: int) -> None:
        if hits:
            self._cache(name, "hit").inc(hits)
        if misses:
            self._cache(name, "miss").inc(misses)

    def watch_cache(self, name: str, size: Callable[[], int]) -> None:
        """Asks `size` for the bytes that the cache takes whenever the metrics are read."""
        self._cache_bytes.labels(name).set_function(size)

    def opensearch_read(self, what: str, outcome: str) -> None:
        """A read of "index", "items" or "events" has ended: "done", "late" or "failed"."""
        self._reads(what, outcome).inc()

    def queue(self, seconds: float) -> None:
        """How long a model run has waited for its turn, whether or not that came."""
        self._queue_seconds.observe(seconds)

    def inference(self, bundle: str, backend: str, seconds: float, padded_tokens: int) -> None:
        """One model run over so many tokens, padding included."""
        self._inference_seconds(bundle, backend).observe(seconds)
        self._inference_tokens(bundle, backend).inc(padded_tokens)

    def arm(self, bundle: str, arm: str, seconds: float) -> None:
        """One Rank in which a cross-encoder or personal ranker read candidates, as "serving" or
        "canary"."""
        self._arms(bundle, arm).inc()
        self._arm_seconds(bundle, arm).observe(seconds)

    def shadow(self, bundle: str, outcome: str) -> None:
        """A request that was offered to a shadow: "compared", "dropped" or "failed"."""
        self._shadows(bundle, outcome).inc()

    def agreement(self, bundle: str, tau: float, overlap: float, drift: float) -> None:
        """Of one request: `kendall_tau`, `top_overlap`, and the mean difference of the scores."""
        self._shadow_distance(bundle).observe((1.0 - tau) / 2.0)
        self._shadow_overlap(bundle).observe(overlap)
        # Both each time, 0 in one of them: their means are then of the same requests, and the
        # difference of these is the mean drift.
        self._shadow_drift(bundle, "higher").observe(max(drift, 0.0))
        self._shadow_drift(bundle, "lower").observe(max(-drift, 0.0))

    def watch_bundles(self, state: str, count: Callable[[], int]) -> None:
        """Asks `count` for the bundles in that state whenever the metrics are read."""
        self._bundles.labels(state).set_function(count)

    def backend_fallback(self, reason: str) -> None:
        """Counts what ONNX Runtime did in the place of a GPU. From any thread."""
        self._fallbacks(reason).inc()

    def build(self, backend: str) -> None:
        """Says which version runs, and on which backend, as name and version."""
        try:
            own = version("neuralrank")
        except PackageNotFoundError:  # from a checkout that was not installed
            own = "unknown"
        self._build.info({"version": own, "backend": backend})

    def keep_bundles(self, refs: Collection[str]) -> None:
        """Forgets what was counted for other bundles: their number is not bounded over time."""
        for family in (
            self._top_score,
            self._inference_seconds,
            self._inference_tokens,
            self._arms,
            self._arm_seconds,
            self._shadows,
            self._shadow_distance,
            self._shadow_overlap,
            self._shadow_drift,
        ):
            family.keep(refs)

    def _counter(self, name: str, says: str) -> Counter:
        return Counter(name, says, registry=self.registry)

    def _counters(self, name: str, says: str, *labels: str) -> _Labelled[Counter]:
        return _Labelled(Counter(name, says, labels, registry=self.registry))

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(name, says, labels, registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(name, says, buckets=buckets, registry=self.registry)

    def _histograms(
        self, name: str, says: str, *labels: str, buckets: Sequence[float] = _SECONDS
    ) -> _Labelled[Histogram]:
        return _Labelled(Histogram(name, says, labels, buckets=buckets, registry=self.registry))

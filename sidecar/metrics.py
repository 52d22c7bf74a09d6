"""What the sidecar counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

__all__ = ["Metrics"]

# Seconds; ranking lives between a tenth of a millisecond and a second.
_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip


class Metrics:
    """Counters of one server; each server has its own registry, so that tests can have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "neuralrank_requests",
            "Requests by method and gRPC status.",
            ["method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "neuralrank_request_seconds",
            "Time from receiving a request to its answer.",
            ["method"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "neuralrank_stage_seconds",
            "Time of each stage of Rank.",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._refused = Counter(
            "neuralrank_refused",
            "Requests that were not let in, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._degraded = Counter(
            "neuralrank_degraded",
            "Answers that were not the best possible, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._cache = Counter(
            "neuralrank_cache_lookups",
            "Look-ups in the sidecar's caches.",
            ["cache", "outcome"],
            registry=self.registry,
        )
        self._read = Counter(
            "neuralrank_reranked_candidates",
            "Candidates read by a cross-encoder.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "neuralrank_requests_in_flight", "Requests being worked on.", registry=self.registry
        )
        self.queued = Gauge(
            "neuralrank_model_runs_queued",
            "Model runs that wait or are under way.",
            registry=self.registry,
        )
        # Looking a labelled child up takes a lock; the hot path keeps the few there are.
        self._children: dict[tuple[str, ...], Counter | Histogram] = {}

    def request(self, method: str, status: str, seconds: float) -> None:
        self._counter(self._requests, "requests", method, status).inc()
        self._histogram(self._seconds, "seconds", method).observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        self._histogram(self._stage_seconds, "stage", name).observe(seconds)

    def refused(self, reason: str) -> None:
        self._counter(self._refused, "refused", reason).inc()

    def degraded(self, reason: str) -> None:
        self._counter(self._degraded, "degraded", reason).inc()

    def cache(self, name: str, *, hits: int, misses: int) -> None:
        if hits:
            self._counter(self._cache, "cache", name, "hit").inc(hits)
        if misses:
            self._counter(self._cache, "cache", name, "miss").inc(misses)

    def reranked(self, candidates: int) -> None:
        self._read.inc(candidates)

    def serve(self, host: str, port: int) -> None:
        """Answers `GET /metrics` from a thread of its own, until the process ends."""
        start_http_server(port, host, self.registry)

    def _counter(self, family: Counter, *key: str) -> Counter:
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*key[1:])
        assert isinstance(child, Counter)
        return child

    def _histogram(self, family: Histogram, *key: str) -> Histogram:
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*key[1:])
        assert isinstance(child, Histogram)
        return child

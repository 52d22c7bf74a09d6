"""Where models run: off the event loop, in few threads, never for a caller that has gone.

This is the seam for a queue that shares batches between requests: ranking awaits `encode_queries`,
`encode_passages` and `score` and does not know how they come about.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import numpy as np
from cachetools import LRUCache

from neuralrank.errors import DeadlineExceeded
from sidecar.cost import Cost, units
from sidecar.deadline import Deadline
from sidecar.domain import Floats
from sidecar.metrics import Metrics
from sidecar.serving import CrossEncoderModel, EncoderModel

__all__ = ["Inference"]

_Result = TypeVar("_Result")
# Passages in one run: between runs the deadline is looked at, and queries get their turn.
_CHUNK: Final = 16
# What an entry of the score cache takes beside its characters.
_SCORE_BYTES: Final = 300


@dataclass(frozen=True, slots=True)
class _Score:
    """A logit, and about the bytes that it and its key take."""

    logit: float
    size: int


class Inference:
    """Model runs on a pool of threads. onnxruntime releases the interpreter while it computes.

    The runs that wait are bounded by the requests in flight, since a request waits for one or two.
    """

    def __init__(
        self, metrics: Metrics, *, workers: int, query_cache: int, score_cache_bytes: int
    ) -> None:
        """
        Args:
            workers: runs at once.
            query_cache: query vectors kept, of all encoders together.
            score_cache_bytes: of pairs whose cross-encoder score is kept.
        """
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="model")
        self._query_cache = query_cache
        self._queries: OrderedDict[tuple[str, str], Floats] = OrderedDict()
        # By bundle, query and text: a swapped model or a changed text is another key.
        self._scores: LRUCache[tuple[str, str, str], _Score] = LRUCache(
            score_cache_bytes, getsizeof=lambda score: score.size
        )

    async def encode_queries(
        self, encoder: EncoderModel, queries: Sequence[str], deadline: Deadline
    ) -> Floats:
        """float32 [queries, d] of length 1; what was encoded lately comes from the cache.

        Raises:
            DeadlineExceeded: it could not be done in time.
        """
        found: dict[str, Floats] = {}
        for query in queries:
            vector = self._queries.get((encoder.ref, query))
            if vector is not None:
                self._queries.move_to_end((encoder.ref, query))
                found[query] = vector
        missing = [query for query in dict.fromkeys(queries) if query not in found]
        self._metrics.cache("query", hits=len(found), misses=len(missing))
        if missing:
            vectors = await self._run(encoder, lambda: encoder.encode_queries(missing), deadline)
            for query, vector in zip(missing, vectors, strict=True):
                found[query] = vector
                self._queries[encoder.ref, query] = vector
            while len(self._queries) > self._query_cache:
                self._queries.popitem(last=False)
        if not queries:
            return np.zeros((0, encoder.dimensions), np.float32)
        return np.stack([found[query] for query in queries])

    async def encode_passages(
        self, encoder: EncoderModel, passages: Sequence[str], deadline: Deadline
    ) -> Floats:
        """float32 [passages, d] of length 1. Raises DeadlineExceeded."""
        parts = [
            await self._run(
                encoder,
                partial(encoder.encode_passages, passages[start : start + _CHUNK]),
                deadline,
            )
            for start in range(0, len(passages), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, encoder.dimensions), np.float32)

    def known_scores(self, model: CrossEncoderModel, query: str, texts: Sequence[str]) -> Floats:
        """Logits that were computed lately, float32 [texts]; NaN: not known."""
        nan = float("nan")
        found = [self._scores.get((model.ref, query, text)) for text in texts]
        logits = np.array([nan if score is None else score.logit for score in found], np.float32)
        misses = int(np.isnan(logits).sum())
        self._metrics.cache("score", hits=len(texts) - misses, misses=misses)
        return logits

    async def score(
        self,
        model: CrossEncoderModel,
        cost: Cost,
        query: str,
        texts: Sequence[str],
        deadline: Deadline,
    ) -> Floats:
        """Logits, float32 [texts]; the time that it took goes into `cost`.

        Raises:
            DeadlineExceeded: it could not be done in time.
        """

        def run() -> Floats:
            start = time.perf_counter()
            logits = model.score(query, texts)
            cost.observe(units(query, texts), time.perf_counter() - start)
            return logits

        logits = await self._run(model, run, deadline)
        for text, logit in zip(texts, logits.tolist(), strict=True):
            # A character outside Latin takes two bytes or four.
            score = _Score(logit, _SCORE_BYTES + 2 * (len(query) + len(text)))
            if math.isfinite(logit) and score.size <= self._scores.maxsize:
                self._scores[model.ref, query, text] = score
        return logits

    @property
    def score_bytes(self) -> int:
        """About what the cache of scores takes."""
        return int(self._scores.currsize)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self,
        model: EncoderModel | CrossEncoderModel,
        work: Callable[[], _Result],
        deadline: Deadline,
    ) -> _Result:
        """The result of `work` in a thread. It is not begun once the deadline has passed or the
        caller has gone; if it is still running at the deadline, it is left behind."""

        asked = time.perf_counter()

        def begin() -> _Result:
            begun = time.perf_counter()
            self._metrics.queue(begun - asked)
            if deadline.passed:
                raise DeadlineExceeded("The time was used up before a model could begin.")
            result = work()
            self._metrics.inference(model.ref, model.backend_name, time.perf_counter() - begun)
            return result

        if deadline.passed:
            raise DeadlineExceeded("The time was used up before a model could begin.")
        future = asyncio.get_running_loop().run_in_executor(self._pool, begin)
        self._metrics.queued.inc()
        try:
            timeout = deadline.remaining()
            done, _ = await asyncio.wait(
                (future,), timeout=None if timeout == float("inf") else timeout
            )
        finally:
            self._metrics.queued.dec()
            # Without effect on what is done or running; what still waits is taken out.
            future.cancel()
        if not done:
            raise DeadlineExceeded("The time was used up while a model was running.")
        return future.result()

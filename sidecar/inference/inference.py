"""What models compute for requests: from the caches, or through the queue that all requests share.

Texts are tokenised in threads, then wait in the queue as tokens. Ranking awaits `encode_queries`,
`encode_passages`, `pairs` and `score`, and does not know which batches they ran in.
"""

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import numpy as np

from neuralrank.errors import DeadlineExceeded
from neuralrank.text.tokens import Ids, Tokens
from sidecar.cores import step_back
from sidecar.deadline import Clock, Deadline
from sidecar.domain import Floats
from sidecar.inference.cache import BundleCache, text_bytes
from sidecar.inference.cost import Cost
from sidecar.inference.queue import Job, Priority
from sidecar.inference.ticket import Runner, Ticket
from sidecar.inference.workers import Workers
from sidecar.models.serving import CrossEncoderModel, EncoderModel, ImageModel, VectorModel
from sidecar.telemetry.calls import current
from sidecar.telemetry.metrics import Metrics

__all__ = ["Inference", "Spent"]

_Result = TypeVar("_Result")
# What a model reads: a text, or the file of a photo.
_Read = TypeVar("_Read", str, bytes)
# Called with a stage's name, its seconds, and the entries that it worked on.
Spent = Callable[[str, float, int], None]
_THREADS: Final = 2
# Characters that are tokenised at a time, a few milliseconds: then others get their turn.
_PIECE: Final = 16_384


def _unspent(_name: str, _seconds: float, _entries: int) -> None:
    """Where nobody asks what was spent."""


class Inference:
    """One for a server. Its methods are for one event loop; `close` ends the threads."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        workers: int,
        batch_tokens: int,
        queue_tokens: int,
        query_cache_bytes: int,
        token_cache_bytes: int,
        score_cache_bytes: int,
        nice: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        """
        Args:
            workers: runs at once.
            batch_tokens: padded tokens in one run.
            queue_tokens: that may wait for a run.
            query_cache_bytes: for vectors of queries.
            token_cache_bytes: for tokens of texts that cross-encoders read.
            score_cache_bytes: for scores of pairs that they have read.
            nice: how much lower the priority of threads is that run models.
        """
        self._clock = clock
        self._workers = Workers(
            metrics, clock, workers=workers, batch_tokens=batch_tokens, queue_tokens=queue_tokens,
            nice=nice,
        )  # fmt: skip
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tokens")
        # Opening a photo takes up to a second and a half, for which no text may wait.
        self._photos = ThreadPoolExecutor(
            1, thread_name_prefix="photos", initializer=step_back, initargs=(nice,)
        )
        self._costs: dict[str, Cost] = {}
        self._queries: BundleCache[Floats] = BundleCache(
            "query", metrics, query_cache_bytes, lambda text, row: text_bytes(text) + row.nbytes
        )
        self._tokens: BundleCache[Ids] = BundleCache(
            "token", metrics, token_cache_bytes, lambda text, ids: text_bytes(text) + ids.nbytes
        )
        self._scores: BundleCache[float] = BundleCache(
            "score", metrics, score_cache_bytes, lambda pair, _: text_bytes(*pair)
        )

    async def encode_queries(
        self,
        encoder: EncoderModel,
        queries: Sequence[str],
        deadline: Deadline,
        spent: Spent = _unspent,
    ) -> Floats:
        """float32 [queries, d] of length 1; what was encoded lately comes from the cache.

        Raises:
            DeadlineExceeded: it could not be done in time.
            Overloaded: too much waits for a model already.
        """
        if not queries:
            return np.zeros((0, encoder.dimensions), np.float32)
        ref = encoder.ref
        known = self._queries.get(ref, queries)
        found = {text: row for text, row in zip(queries, known, strict=True) if row is not None}
        missing = [query for query in dict.fromkeys(queries) if query not in found]
        if missing:
            vectors, errors = await self._encode(
                encoder,
                Priority.QUERY,
                encoder.tokenise_queries,
                missing,
                deadline,
                spent,
                lambda place, row: self._queries.put(ref, missing[place], row.copy()),
            )
            found.update(zip(missing, _whole(vectors, errors), strict=True))
        return np.stack([found[query] for query in queries])

    async def encode_passages(
        self, encoder: EncoderModel, passages: Sequence[str], deadline: Deadline
    ) -> Floats:
        """float32 [passages, d] of length 1. Raises as `encode_queries`."""
        return _whole(*await self.read_passages(encoder, passages, deadline))

    async def read_passages(
        self, encoder: EncoderModel, passages: Sequence[str], deadline: Deadline
    ) -> tuple[Floats, dict[int, Exception]]:
        """float32 [passages, d] of length 1, NaN where there was no time; and the places that
        failed, and why.

        Raises:
            DeadlineExceeded: there was no time for any.
            Overloaded: too much waits for a model already.
        """
        if not passages:
            return np.zeros((0, encoder.dimensions), np.float32), {}
        tokenise = encoder.tokenise_passages
        return await self._encode(
            encoder, Priority.PASSAGE, tokenise, passages, deadline, _unspent, lambda *_: None
        )

    async def encode_images(
        self, model: ImageModel, images: Sequence[bytes], deadline: Deadline
    ) -> Floats:
        """float32 [images, d] of length 1.

        Raises:
            InvalidInput: one is no photo that can be read.
            DeadlineExceeded: it could not be done in time.
            Overloaded: too much waits for a model already.
        """
        if not images:
            return np.zeros((0, model.dimensions), np.float32)
        # Someone waits for a search by one photo; several are somebody's catalogue.
        priority = Priority.QUERY if len(images) == 1 else Priority.PASSAGE
        return _whole(
            *await self._encode(
                model,
                priority,
                model.read,
                images,
                deadline,
                _unspent,
                lambda *_: None,
                self._photos,
            )
        )

    def known_scores(self, model: CrossEncoderModel, query: str, texts: Sequence[str]) -> Floats:
        """Logits that were computed lately, float32 [texts]; NaN: not known."""
        found = self._scores.get(model.ref, [(query, text) for text in texts])
        return np.array([math.nan if score is None else score for score in found], np.float32)

    async def pairs(
        self,
        model: CrossEncoderModel,
        query: str,
        texts: Sequence[str],
        deadline: Deadline,
        spent: Spent = _unspent,
    ) -> list[Tokens]:
        """What the model reads of the query with each of the texts.

        Raises:
            DeadlineExceeded: it could not be done in time.
        """
        # A model that was trained from another reads the same tokens.
        vocabulary = model.vocabulary
        # Texts come again; a query mostly does not, and has its scores where it does.
        known = self._tokens.get(vocabulary, texts)
        found = {t: i for t, i in zip(texts, known, strict=True) if i is not None}
        missing = [text for text in dict.fromkeys([query, *texts]) if text not in found]
        start = time.perf_counter()
        if missing:
            for piece in _pieces(missing):
                ids = await self.in_thread(partial(model.tokenise, piece), deadline)
                found.update(zip(piece, ids, strict=True))
                for text, row in zip(piece, ids, strict=True):
                    if text != query:
                        self._tokens.put(vocabulary, text, row)
        pairs = [model.pair(found[query], found[text]) for text in texts]
        spent("tokenise", time.perf_counter() - start, len(texts))
        return pairs

    def fitting(self, tokens: Sequence[float]) -> int:
        """How many of the first of such pairs one request should have wait, so that others
        find room beside it: 1 at least."""
        return self._fitting(Priority.PAIR, tokens)

    def seconds(self, cost: Cost, tokens: float, longest: float) -> float:
        """About how long pairs of so many tokens take, behind what others have waiting.

        Args:
            longest: tokens of the longest of them, which no two runs can share.
        """
        ahead = self._workers.ahead(Priority.PAIR, _asker(), math.ceil(tokens))
        return cost.estimate(max(longest, (tokens + ahead) / self._workers.pair_runs))

    async def score(
        self,
        model: CrossEncoderModel,
        cost: Cost,
        query: str,
        texts: Sequence[str],
        pairs: Sequence[Tokens],
        deadline: Deadline,
        spent: Spent = _unspent,
    ) -> tuple[Floats, dict[int, Exception]]:
        """Logits, float32 [pairs], NaN where there was no time; and the places that failed, and
        why. The time that it takes goes into `cost`.

        Raises:
            Overloaded: too much waits for a model already.
        """
        ref = model.ref
        runner = Runner(ref, model.backend_name, 1, model.run, cost)
        ticket = self._ticket(
            runner,
            Priority.PAIR,
            pairs,
            deadline,
            lambda place, row: self._scores.put(ref, (query, texts[place]), float(row[0])),
        )
        await self._wait(ticket, deadline, spent)
        return ticket.values[:, 0], ticket.errors

    async def in_thread(
        self,
        work: Callable[[], _Result],
        deadline: Deadline,
        threads: ThreadPoolExecutor | None = None,
    ) -> _Result:
        """What takes a moment only: tokenising, or a small model that shares no batch. It is not
        begun once the deadline has passed or the caller has gone.

        Args:
            threads: by default those that texts are tokenised in.

        Raises:
            DeadlineExceeded: it could not be done in time.
        """
        if deadline.passed:
            raise DeadlineExceeded("The time was used up before a model could begin.")
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(threads or self._threads, work)
        try:
            done, _ = await asyncio.wait((future,), timeout=_timeout(deadline))
        finally:
            future.cancel()  # without effect on what is done or running
        if not done:
            raise DeadlineExceeded("The time was used up before or while a model was running.")
        return future.result()

    async def forget(self, ref: str) -> None:
        """Drops what a bundle computed that serves no more."""
        self._costs.pop(ref, None)
        self._workers.forget(ref)
        for cache in (self._queries, self._scores):
            await cache.forget(ref)

    def close(self) -> None:
        self._workers.close()
        for threads in (self._threads, self._photos):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _encode(
        self,
        encoder: VectorModel,
        priority: Priority,
        tokenise: Callable[[Sequence[_Read]], Sequence[Sized]],
        texts: Sequence[_Read],
        deadline: Deadline,
        spent: Spent,
        keep: Callable[[int, Floats], None],
        threads: ThreadPoolExecutor | None = None,
    ) -> tuple[Floats, dict[int, Exception]]:
        """
        Args:
            threads: that `tokenise` runs in, as of `in_thread`.
        """
        began = time.perf_counter()
        tokens: list[Sized] = []
        for piece in _pieces(texts):
            tokens += await self.in_thread(partial(tokenise, piece), deadline, threads)
        spent("tokenise", time.perf_counter() - began, len(texts))
        cost = self._costs.setdefault(encoder.ref, Cost(self._clock))
        width = encoder.dimensions
        runner = Runner(encoder.ref, encoder.backend_name, width, encoder.run, cost)
        vectors = np.full((len(tokens), width), np.nan, np.float32)
        errors: dict[int, Exception] = {}
        start: int = 0
        while start < len(tokens):
            count = self._fitting(priority, [len(row) for row in tokens[start:]])
            ticket = self._ticket(
                runner,
                priority,
                tokens[start : start + count],
                deadline,
                lambda place, row, first=start: keep(first + place, row),  # type: ignore[misc]
            )
            await self._wait(ticket, deadline, spent)
            vectors[start : start + count] = ticket.values
            errors.update({start + place: error for place, error in ticket.errors.items()})
            if ticket.done.sum() + len(ticket.errors) < count:
                break  # time ran out
            start += count
        return vectors, errors

    def _fitting(self, priority: Priority, tokens: Sequence[float]) -> int:
        room = self._workers.room(priority)
        return max(1, int(np.searchsorted(np.cumsum(tokens), room, side="right")))

    def _ticket(
        self,
        runner: Runner,
        priority: Priority,
        tokens: Sequence[Sized],
        deadline: Deadline,
        keep: Callable[[int, Floats], None],
    ) -> Ticket:
        job = Job(
            runner.ref,
            priority,
            _asker(),
            self._clock() + deadline.remaining(),
            [max(1, len(row)) for row in tokens],
        )
        return Ticket(job, tokens, runner, keep)

    async def _wait(self, ticket: Ticket, deadline: Deadline, spent: Spent) -> None:
        self._workers.submit(ticket)
        try:
            await asyncio.wait((ticket.finished,), timeout=_timeout(deadline))
        finally:
            self._workers.cancel(ticket)
        spent("queue", ticket.waited, len(ticket.tokens))
        spent("inference", ticket.ran, int(ticket.done.sum()))


def _whole(vectors: Floats, errors: Mapping[int, Exception]) -> Floats:
    """The vectors, where none is lacking; else raises why."""
    if errors:
        raise next(iter(errors.values()))
    if np.isnan(vectors).any():
        raise DeadlineExceeded("The time was used up before or while a model was running.")
    return vectors


def _pieces(texts: Sequence[_Read]) -> Iterator[Sequence[_Read]]:
    """The texts, or files of photos, in their order, so many at a time as have `_PIECE` characters,
    one at least."""
    start = size = 0
    for place, text in enumerate(texts):
        if place > start and size + len(text) > _PIECE:
            yield texts[start:place]
            start, size = place, 0
        size += len(text)
    yield texts[start:]


def _asker() -> Hashable:
    """Whose share of the models it comes out of: the caller's, where it has shown a token or a
    certificate; else the request's, since an address may be that of many."""
    call = current()
    return object() if call is None else call.caller or call


def _timeout(deadline: Deadline) -> float | None:
    remaining = deadline.remaining()
    return None if math.isinf(remaining) else remaining

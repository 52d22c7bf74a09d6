"""The gRPC face of ranking: admission, deadlines, errors. Nothing here decides an order."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from neuralrank.errors import NeuralrankError, Overloaded, Unavailable, grpc_status
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.cascade import Ranker
from sidecar.deadline import Clock, Deadline
from sidecar.domain import Weights
from sidecar.encode import Vectors
from sidecar.metrics import Metrics
from sidecar.models import Models
from sidecar.reply import write_encodings, write_ranking, write_status
from sidecar.settings import SidecarSettings
from sidecar.wire import read_encode, read_rank

__all__ = ["RankingService"]

_log = logging.getLogger(__name__)
_Reply = TypeVar("_Reply")


class RankingService(pb_grpc.RankingServicer):
    """Answers `neuralrank.v1.Ranking`."""

    def __init__(
        self,
        ranker: Ranker,
        vectors: Vectors,
        models: Models,
        metrics: Metrics,
        settings: SidecarSettings,
        clock: Clock,
    ) -> None:
        self._ranker = ranker
        self._vectors = vectors
        self._models = models
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._weights = Weights(
            settings.weight_relevance, settings.weight_affinity, settings.weight_retrieval
        )
        self._in_flight = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        async def answer() -> pb.RankResponse:
            query = read_rank(request, self._weights, self._settings.max_candidates)
            deadline = self._deadline(context, query.deadline_ms or self._settings.deadline_ms)
            ranking = await self._ranker.rank(query, deadline)
            return write_ranking(ranking, explain=query.explain, request_id=query.request_id)

        return await self._answer("Rank", context, answer)

    async def Encode(self, request: pb.EncodeRequest, context: Any) -> pb.EncodeResponse:
        async def answer() -> pb.EncodeResponse:
            inputs = read_encode(request)
            deadline = self._deadline(context, self._settings.encode_deadline_ms)
            encodings, encoder = await self._vectors.encode(
                inputs, request.encoder, request.index, deadline
            )
            return write_encodings(encodings, encoder.ref, encoder.dimensions)

        return await self._answer("Encode", context, answer)

    async def ModelStatus(self, _request: Any, _context: Any) -> pb.ModelStatusResponse:
        return write_status(self._models.statuses)

    def close(self) -> None:
        """Refuses every request from now on."""
        self._closed = True

    async def idle(self) -> None:
        """Waits until no request is in work."""
        await self._idle.wait()

    def _deadline(self, context: Any, milliseconds: int) -> Deadline:
        """The earlier of gRPC's deadline and the request's own, less the margin to answer in."""
        seconds = min(milliseconds, self._settings.max_deadline_ms) / 1_000
        remaining = context.time_remaining()
        if remaining is not None:
            seconds = min(seconds, remaining)
        return Deadline.after(seconds - self._settings.margin_ms / 1_000, self._clock)

    async def _answer(
        self, method: str, context: Any, work: Callable[[], Awaitable[_Reply]]
    ) -> _Reply:
        """The reply of `work`, or its error as a gRPC status."""
        start = time.perf_counter()
        status, message = "OK", ""
        try:
            with self._admitted():
                return await work()
        except NeuralrankError as error:
            status, message = grpc_status(error), str(error)
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except Exception:
            status = "INTERNAL"
            message = "The sidecar failed on this request; its log has the traceback."
            _log.exception("request failed", extra={"method": method})
        finally:
            self._metrics.request(method, status, time.perf_counter() - start)
        await context.abort(grpc.StatusCode[status], message)
        raise AssertionError("abort raises")

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._closed:
            raise Unavailable("This sidecar is stopping. Ask another, or again in a moment.")
        if self._in_flight >= self._settings.max_in_flight:
            raise Overloaded(
                f"{self._in_flight} requests are in work, allowed are "
                f"{self._settings.max_in_flight}. Try again later, or add a sidecar."
            )
        self._in_flight += 1
        self._idle.clear()
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            self._metrics.in_flight.dec()

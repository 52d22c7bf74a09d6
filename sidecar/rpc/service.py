"""The gRPC face of ranking: admission, deadlines, errors. Nothing here decides an order."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import grpc

from neuralrank.client.channel import OWN_ERROR
from neuralrank.errors import NeuralrankError, RateExceeded, grpc_status
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.access.admission import Admission, Place
from sidecar.deadline import Allowance, Clock, Deadline
from sidecar.domain import Degradation, RankQuery, StageReport, Weights
from sidecar.models.follower import Models
from sidecar.ranking.cascade import Ranker
from sidecar.ranking.encode import Vectors
from sidecar.ranking.exclusions import TITLE
from sidecar.rpc.incoming import Incoming
from sidecar.rpc.reader import MANY_CANDIDATES, Reader
from sidecar.rpc.reply import write_encodings, write_ranking, write_status
from sidecar.rpc.wire import read_encode, read_rank
from sidecar.settings import SidecarSettings
from sidecar.sizes import LARGE_BYTES, in_trailer
from sidecar.telemetry.calls import Call, Calls, span
from sidecar.telemetry.metrics import Metrics

__all__ = ["RankingService"]

_log = logging.getLogger(__name__)
_Reply = TypeVar("_Reply")

_TOKEN = "authorization"
# Characters of a text that may be cleaned away, besides a quarter of what is read.
_ROOM = 64
# gRPC's own name for "when to try again", in milliseconds (proposal A6).
_PUSHBACK = "grpc-retry-pushback-ms"


@dataclass(frozen=True, slots=True)
class _Arrival:
    """When a request came: `at` on the clock of deadlines, `start` on that of stages. `left`:
    seconds until gRPC's own deadline then; infinite where there is none."""

    at: float
    left: float
    start: float


class RankingService(pb_grpc.RankingServicer):
    """Answers `neuralrank.v1.Ranking`."""

    def __init__(
        self,
        ranker: Ranker,
        vectors: Vectors,
        models: Models,
        metrics: Metrics,
        calls: Calls,
        settings: SidecarSettings,
        clock: Clock,
    ) -> None:
        self._ranker = ranker
        self._vectors = vectors
        self._models = models
        self._metrics = metrics
        self._calls = calls
        self._settings = settings
        self._allowance = Allowance.of(settings, clock)
        self._weights = Weights(
            settings.weight_relevance,
            settings.weight_affinity,
            settings.weight_retrieval,
            settings.weight_cross_encoder,
            settings.weight_diversity,
        )
        # Cross-encoders, and what looks for what a query excludes.
        self._characters = max(settings.rerank_characters, TITLE)
        self._text_characters = _ROOM + self._characters * 5 // 4
        self._certified = bool(settings.tls_client_ca)
        self.max_candidates = settings.max_candidates
        self.admission = Admission(settings, metrics, clock)
        self._reader = Reader(settings.max_in_flight)

    async def Rank(self, message: Incoming[pb.RankRequest], context: Any) -> pb.RankResponse:
        arrival = self._arrive(context)

        async def answer(call: Call) -> pb.RankResponse:
            async with self._admitted(context, arrival, math.inf, len(message.raw)) as place:
                query, deadline, read = await self._read(message, arrival, place, call)
                ranking = await self._ranker.rank(query, deadline)
                self._count(ranking.degraded)
                start = time.perf_counter()
                reply = write_ranking(
                    replace(ranking, stages=(read, *ranking.stages)),
                    explain=query.explain,
                    request_id=query.request_id,
                    text_characters=self._text_characters,
                )
                seconds = time.perf_counter() - start
                self._metrics.stage("reply", seconds)
                reply.stages.add(
                    name="reply", candidates=len(ranking.results), milliseconds=seconds * 1_000
                )
                return reply

        return await self._answer("Rank", context, answer)

    async def Encode(self, message: Incoming[pb.EncodeRequest], context: Any) -> pb.EncodeResponse:
        arrival = self._arrive(context)

        async def answer(_call: Call) -> pb.EncodeResponse:
            asked = self._settings.encode_deadline_ms / 1_000
            async with self._admitted(context, arrival, asked, len(message.raw)) as place:
                deadline = self._deadline("Encode", arrival, asked)
                large = len(message.raw) > LARGE_BYTES
                async with self._reader.turn(partial(place.refuse, "in_flight")) as turn:
                    request = await turn.run(message.decode, large=large)
                    inputs = await turn.run(partial(read_encode, request), large=large)
                encodings, encoder = await self._vectors.encode(
                    inputs,
                    request.encoder,
                    request.index,
                    deadline,
                    exclusions=(
                        request.exclusions
                        if request.HasField("exclusions")
                        else self._settings.exclusions
                    ),
                )
                return write_encodings(encodings, encoder)

        return await self._answer("Encode", context, answer)

    async def ModelStatus(
        self, message: Incoming[pb.ModelStatusRequest], context: Any
    ) -> pb.ModelStatusResponse:
        async def answer(_call: Call) -> pb.ModelStatusResponse:
            self._caller(context)
            message.decode()
            return write_status(self._models.statuses)

        # Free, and wanted most when the sidecar has too much to do.
        return await self._answer("ModelStatus", context, answer)

    def close(self) -> None:
        """To be called when no request is in work any more. Again: does nothing."""
        self._reader.close()

    async def _read(
        self, message: Incoming[pb.RankRequest], arrival: "_Arrival", place: Place, call: Call
    ) -> tuple[RankQuery, Deadline, StageReport]:
        """The query, when it is to be answered, and what reading it took: all of it from the
        request's arrival on, waiting for other large ones included."""
        count = 0
        try:
            with span("read"):
                async with self._reader.turn(partial(place.refuse, "in_flight")) as turn:
                    large = len(message.raw) > LARGE_BYTES
                    request = await turn.run(message.decode, large=large)
                    call.named(request.request_id)
                    milliseconds = request.options.deadline_ms or self._settings.deadline_ms
                    deadline = self._deadline("Rank", arrival, milliseconds / 1_000)
                    place.hold_to(deadline.at - arrival.at)
                    count = len(request.candidates)
                    read = partial(
                        read_rank,
                        request,
                        self._weights,
                        self.max_candidates,
                        exclusions=self._settings.exclusions,
                        characters=self._characters,
                    )
                    query = await turn.run(read, large=count > MANY_CANDIDATES)
        finally:
            seconds = time.perf_counter() - arrival.start
            call.stages["read"] = seconds * 1_000
            self._metrics.stage("read", seconds)
        return query, deadline, StageReport("read", count, seconds * 1_000)

    def _count(self, degraded: Sequence[Degradation]) -> None:
        """An answer counts once for each reason, whatever the details, and as partial where
        something was left out of it."""
        for reason in {note.reason for note in degraded}:
            self._metrics.degraded(reason.value)
        if any(note.partial for note in degraded):
            self._metrics.partial()

    def _arrive(self, context: Any) -> "_Arrival":
        left = context.time_remaining()
        at = self._allowance.clock()
        return _Arrival(at, math.inf if left is None else left, time.perf_counter())

    @asynccontextmanager
    async def _admitted(
        self, context: Any, arrival: "_Arrival", asked: float, size: int
    ) -> AsyncIterator[Place]:
        """The request's place, before anything of its message is looked at: who is refused costs
        nothing.

        Args:
            asked: seconds that it asks for, as far as they are known.
            size: of its message, in bytes.
        """
        caller = self._caller(context)
        deadline = self._until(arrival, asked)
        await self.admission.turn(deadline, size)
        with self.admission.admitted(caller, deadline) as place:
            yield place

    def _until(self, arrival: "_Arrival", asked: float) -> Deadline:
        # From the arrival on: reading 10,000 candidates takes as long as a deadline may be.
        gone = self._allowance.clock() - arrival.at
        return self._allowance.deadline(asked, arrival.left - gone, gone)

    def _deadline(self, method: str, arrival: "_Arrival", asked: float) -> Deadline:
        """When the request is to be answered, which is counted."""
        deadline = self._until(arrival, asked)
        self._metrics.deadline(method, deadline.at - arrival.at)
        return deadline

    async def _answer(
        self,
        method: str,
        context: Any,
        work: Callable[[Call], Awaitable[_Reply]],
    ) -> _Reply:
        """The reply of `work`, or its error as a gRPC status."""
        start = time.perf_counter()
        status, message = "OK", ""
        metadata = context.invocation_metadata() or ()
        with self._calls.open(method, metadata) as call:
            try:
                return await work(call)
            except NeuralrankError as error:
                status, message = grpc_status(error), str(error)
                told = [(OWN_ERROR, status)]
                if isinstance(error, RateExceeded) and error.retry_after is not None:
                    told.append((_PUSHBACK, str(math.ceil(error.retry_after * 1_000))))
                context.set_trailing_metadata(tuple(told))
            except asyncio.CancelledError:
                status = "CANCELLED"
                raise
            except Exception:
                status = "INTERNAL"
                message = "The sidecar failed on this request; its log has the traceback."
                _log.exception("request failed", extra={"method": method})
            finally:
                call.status = status
                self._metrics.request(method, status, time.perf_counter() - start)
        await context.abort(grpc.StatusCode[status], in_trailer(message))
        raise AssertionError("abort raises")

    def _caller(self, context: Any) -> str:
        authorization = next(
            (value for name, value in context.invocation_metadata() or () if name == _TOKEN), ""
        )
        subject = ""
        if self._certified:
            found = context.auth_context().get("x509_common_name") or [b""]
            subject = found[0].decode("utf-8", "replace")
        return self.admission.caller(str(authorization), subject, _host(context.peer()))


def _host(peer: str) -> str:
    """The address in gRPC's name of a peer, such as ipv4:10.0.0.7:51234."""
    family, _, rest = peer.partition(":")
    return rest.rpartition(":")[0] if family in ("ipv4", "ipv6") else peer

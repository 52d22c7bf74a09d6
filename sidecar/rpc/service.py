"""The gRPC face of ranking: admission, deadlines, errors. Nothing here decides an order."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc

from neuralrank.client.channel import OWN_ERROR
from neuralrank.errors import NeuralrankError, RateExceeded, grpc_status
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.access.admission import Admission
from sidecar.deadline import Allowance, Clock, Deadline
from sidecar.domain import Degradation, Weights
from sidecar.models.follower import Models
from sidecar.ranking.cascade import Ranker
from sidecar.ranking.encode import Vectors
from sidecar.ranking.exclusions import TITLE
from sidecar.rpc.reply import write_encodings, write_ranking, write_status
from sidecar.rpc.wire import read_encode, read_rank
from sidecar.settings import SidecarSettings
from sidecar.telemetry.calls import Calls
from sidecar.telemetry.metrics import Metrics

__all__ = ["RankingService"]

_log = logging.getLogger(__name__)
_Reply = TypeVar("_Reply")

_TOKEN = "authorization"
# gRPC's own name for "when to try again", in milliseconds (proposal A6).
_PUSHBACK = "grpc-retry-pushback-ms"


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
        )
        # Cross-encoders, and what looks for what a query excludes.
        self._characters = max(settings.rerank_characters, TITLE)
        self._certified = bool(settings.tls_client_ca)
        self.max_candidates = settings.max_candidates
        self.admission = Admission(settings, metrics, clock)

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        async def answer(deadline: Deadline) -> pb.RankResponse:
            query = read_rank(
                request,
                self._weights,
                self.max_candidates,
                exclusions=self._settings.exclusions,
                characters=self._characters,
            )
            ranking = await self._ranker.rank(query, deadline)
            self._count(ranking.degraded)
            start = time.perf_counter()
            reply = write_ranking(ranking, explain=query.explain, request_id=query.request_id)
            seconds = time.perf_counter() - start
            self._metrics.stage("reply", seconds)
            reply.stages.add(
                name="reply", candidates=len(ranking.results), milliseconds=seconds * 1_000
            )
            return reply

        milliseconds = request.options.deadline_ms or self._settings.deadline_ms
        return await self._admit("Rank", context, milliseconds, answer, request.request_id)

    async def Encode(self, request: pb.EncodeRequest, context: Any) -> pb.EncodeResponse:
        async def answer(deadline: Deadline) -> pb.EncodeResponse:
            inputs = read_encode(request)
            encodings, encoder = await self._vectors.encode(
                inputs,
                request.encoder,
                request.index,
                deadline,
                wanted_only=(
                    request.exclusions
                    if request.HasField("exclusions")
                    else self._settings.exclusions
                ),
            )
            return write_encodings(encodings, encoder)

        return await self._admit("Encode", context, self._settings.encode_deadline_ms, answer)

    async def ModelStatus(self, _request: Any, context: Any) -> pb.ModelStatusResponse:
        async def answer() -> pb.ModelStatusResponse:
            return write_status(self._models.statuses)

        # Free, and wanted most when the sidecar has too much to do.
        return await self._answer("ModelStatus", context, answer)

    def _count(self, degraded: Sequence[Degradation]) -> None:
        """An answer counts once for each reason, whatever the details, and as partial where
        something was left out of it."""
        for reason in {note.reason for note in degraded}:
            self._metrics.degraded(reason.value)
        if any(note.partial for note in degraded):
            self._metrics.partial()

    def check_caller(self, context: Any) -> None:
        """To be asked before a message is decoded.

        Raises:
            Unauthenticated: tokens are needed, and this caller has none of them.
        """
        self._caller(context)

    async def refuse(self, method: str, error: NeuralrankError, context: Any) -> None:
        """Answers a request that was not read, or could not be."""

        async def answer() -> None:
            raise error

        await self._answer(method, context, answer)

    async def _admit(
        self,
        method: str,
        context: Any,
        milliseconds: int,
        work: Callable[[Deadline], Awaitable[_Reply]],
        request_id: str = "",
    ) -> _Reply:
        """The reply of `work`, if the request is let in.

        Args:
            milliseconds: that the request asks for; gRPC's own deadline may be earlier.
        """

        async def answer() -> _Reply:
            caller = self._caller(context)
            # First: reading 10,000 candidates takes as long as a deadline may be.
            left = context.time_remaining()
            deadline = self._allowance.deadline(
                milliseconds / 1_000, math.inf if left is None else left
            )
            seconds = deadline.remaining()
            with self.admission.admitted(caller, deadline):
                self._metrics.deadline(method, seconds)
                return await work(deadline)

        return await self._answer(method, context, answer, request_id)

    async def _answer(
        self,
        method: str,
        context: Any,
        work: Callable[[], Awaitable[_Reply]],
        request_id: str = "",
    ) -> _Reply:
        """The reply of `work`, or its error as a gRPC status."""
        start = time.perf_counter()
        status, message = "OK", ""
        metadata = context.invocation_metadata() or ()
        with self._calls.open(method, metadata, request_id) as call:
            try:
                return await work()
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
        await context.abort(grpc.StatusCode[status], message)
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

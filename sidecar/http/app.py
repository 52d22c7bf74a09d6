"""The routes: rerank APIs, probes, metrics. `build` gives an ASGI application."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException

from neuralrank import __version__
from neuralrank.errors import InvalidInput, NeuralrankError, Unavailable
from sidecar.cores import share
from sidecar.deadline import Allowance, Clock
from sidecar.http.codec import Route, answer_json
from sidecar.http.cohere import CohereRequest, CohereResponse, read_cohere, write_cohere
from sidecar.http.comparing import rank_in_experiment
from sidecar.http.edge import METRICS_PATH, Admission, Edge, deadline, request_id
from sidecar.http.problems import DEFECT, Problem, invalid, problem, status_problem
from sidecar.http.tei import TeiError, TeiInfo, TeiRank, TeiRequest, read_tei, write_tei
from sidecar.http.texts import TextQuery, TextRanker, TextRanking
from sidecar.models.follower import Models
from sidecar.settings import SidecarSettings
from sidecar.telemetry.calls import Calls
from sidecar.telemetry.metrics import Metrics

__all__ = ["Parts", "build"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with: all of it is shared with gRPC."""

    texts: TextRanker
    models: Models
    metrics: Metrics
    admission: Admission
    calls: Calls
    settings: SidecarSettings
    # Whether requests should be sent here: models are warm, and the service is not stopping.
    ready: Callable[[], bool]
    clock: Clock = time.monotonic


class _Gone(Exception):
    """The caller has hung up: nobody reads the answer."""


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A field can't be used."},
    401: {"model": Problem, "description": "A token is needed."},
    404: {"model": Problem, "description": "The model that was named is not served."},
    413: {"model": Problem, "description": "The body is too long."},
    415: {"model": Problem, "description": "The body is compressed."},
    429: {"model": Problem, "description": "Too many requests are in work; nothing was done."},
    500: {"model": Problem, "description": "A defect; the log has the traceback."},
    503: {"model": Problem, "description": "No model serves yet, or the service is stopping."},
    504: {"model": Problem, "description": "The time was used up before anything was scored."},
    # Keeps FastAPI from listing a 422 that is never given.
    "default": {"model": Problem, "description": "Anything else."},
}
_TEI_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {**entry, "model": TeiError} for status, entry in _PROBLEMS.items()
}
_TIMEOUT_PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "required": False,
            "description": "How long the answer may take, in milliseconds, from the arrival of the "
            "request. Absent: the setting http_deadline_ms.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 600_000},
        }
    ]
}


def build(parts: Parts) -> Edge:
    """The application, with its OpenAPI document at /openapi.json and no pages beside it."""
    app = FastAPI(
        title="neuralrank sidecar",
        version=__version__,
        description="Re-ranks texts by how well they answer a query. The rerank APIs of Cohere, "
        "Jina and text-embeddings-inference; `docs/http.md` says what differs.",
        docs_url=None,
        redoc_url=None,
        # One path for each route: a redirect would name whatever host the caller says.
        redirect_slashes=False,
    )
    app.router.route_class = Route
    settings = parts.settings
    # Only for the OpenAPI document: admission looks at the header.
    bearer = [Depends(HTTPBearer(auto_error=False, description="Where tokens are set."))]

    @app.post(
        "/v1/rerank",
        response_model=CohereResponse,
        responses=_PROBLEMS,
        dependencies=bearer,
        openapi_extra=_TIMEOUT_PARAMETER,
        tags=["rerank"],
    )
    async def rerank_v1(request: Request, body: CohereRequest) -> Response:
        """Cohere's v1 and Jina's."""
        return await _cohere(parts, request, body, "1")

    @app.post(
        "/v2/rerank",
        response_model=CohereResponse,
        responses=_PROBLEMS,
        dependencies=bearer,
        openapi_extra=_TIMEOUT_PARAMETER,
        tags=["rerank"],
    )
    async def rerank_v2(request: Request, body: CohereRequest) -> Response:
        """Cohere's v2."""
        return await _cohere(parts, request, body, "2")

    @app.post(
        "/rerank",
        response_model=list[TeiRank],
        responses=_TEI_PROBLEMS,
        dependencies=bearer,
        openapi_extra=_TIMEOUT_PARAMETER,
        tags=["rerank"],
    )
    async def rerank(request: Request, body: TeiRequest) -> Response:
        """text-embeddings-inference's."""
        query = read_tei(
            body,
            max_texts=settings.max_candidates,
            characters=settings.http_document_characters,
            request_id=request_id(request.scope),
            exclusions=settings.exclusions,
        )
        return await _answer(parts, request, query, lambda ranking: write_tei(body, ranking))

    @app.get("/healthz", tags=["probes"])
    async def healthz() -> dict[str, str]:
        """200 while the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["probes"], responses={503: {"model": Problem}})
    async def readyz() -> dict[str, str]:
        """200 once models are warm and until the service is told to stop."""
        _check_ready(parts)
        return {"status": "ready"}

    @app.get("/health", tags=["probes"], responses={503: {"model": TeiError}})
    async def health() -> dict[str, str]:
        """TEI's name for /readyz."""
        _check_ready(parts)
        return {"status": "ready"}

    @app.get("/info", tags=["probes"], responses={503: {"model": TeiError}})
    async def info() -> TeiInfo:
        """The default reranker, in TEI's words."""
        return _info(parts)

    @app.get(METRICS_PATH, tags=["probes"], response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """For Prometheus."""
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(parts.metrics.registry), media_type=kind)

    _handle_errors(app)
    return Edge(
        app,
        parts.admission,
        parts.calls,
        parts.metrics,
        Allowance.of(settings, parts.clock),
        milliseconds=settings.http_deadline_ms,
        max_bytes=settings.http_max_body_bytes,
        body_seconds=settings.http_body_seconds,
    )


async def _cohere(parts: Parts, request: Request, body: CohereRequest, version: str) -> Response:
    identity = request_id(request.scope)
    query = read_cohere(
        body,
        max_documents=parts.settings.max_candidates,
        characters=parts.settings.http_document_characters,
        request_id=identity,
        exclusions=parts.settings.exclusions,
        served=parts.models.serving.has,
    )
    return await _answer(
        parts, request, query, lambda ranking: write_cohere(body, ranking, version, identity)
    )


async def _answer(
    parts: Parts, request: Request, query: TextQuery, write: Callable[[TextRanking], Any]
) -> Response:
    """Answers the request within its deadline.

    Raises:
        NeuralrankError: what it could not be answered for.
    """
    until = deadline(request.scope)
    ranking = await _unless_gone(request, rank_in_experiment(parts.texts, query, until))
    headers = {}
    if ranking.degraded:
        reasons = dict.fromkeys(note.reason.value for note in ranking.degraded)
        headers["x-neuralrank-degraded"] = ",".join(reasons)
        for reason in reasons:
            parts.metrics.degraded(reason)
    # Written from plain objects: checking our own answer again would cost as much as making it.
    return answer_json(write(ranking), headers)


async def _unless_gone(request: Request, work: Awaitable[TextRanking]) -> TextRanking:
    """The result of `work`, which is cancelled if the caller hangs up before it is there."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _Gone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def _check_ready(parts: Parts) -> None:
    if not parts.ready():
        raise Unavailable("Models are being loaded, or the service is stopping. Ask again.")


def _info(parts: Parts) -> TeiInfo:
    found = next(
        (
            row
            for kind in ("cross_encoder", "encoder")
            for row in parts.models.statuses
            if row.kind == kind and row.is_default
        ),
        None,
    )
    if found is None:
        raise Unavailable("No model is served yet. Ask again.")
    settings = parts.settings
    return TeiInfo(
        model_id=found.name,
        model_sha=found.hash,
        model_dtype=found.backend,
        model_type={"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        max_concurrent_requests=settings.max_in_flight,
        max_input_length=found.max_tokens,
        max_batch_tokens=settings.batch_tokens,
        max_client_batch_size=settings.max_candidates,
        auto_truncate=True,
        tokenization_workers=share(settings.threads, settings.workers).workers,
        version=__version__,
    )


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(NeuralrankError)
    async def expected(request: Request, error: NeuralrankError) -> Response:
        return problem(request.url.path, error)

    @app.exception_handler(_Gone)
    async def gone(_request: Request, _error: _Gone) -> Response:
        return Response(status_code=499)

    @app.exception_handler(RequestValidationError)
    async def unusable(request: Request, error: RequestValidationError) -> Response:
        model = TeiRequest if request.url.path == "/rerank" else CohereRequest
        found = invalid(
            list(error.errors()), list(model.model_fields), request.headers.get("content-type", "")
        )
        return problem(request.url.path, found)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # FastAPI's, for whatever went wrong with the body
            cause = error.__cause__
            if not isinstance(cause, NeuralrankError):
                cause = InvalidInput("The body is no JSON in UTF-8. Send it as such.")
            return problem(request.url.path, cause)
        return status_problem(
            request.url.path,
            error.status_code,
            f"{request.method} {request.url.path}: {error.detail}. /openapi.json lists what there "
            "is.",
            error.headers or {},
        )

    @app.exception_handler(Exception)
    async def defect(request: Request, _error: Exception) -> Response:
        return status_problem(request.url.path, 500, DEFECT, {})

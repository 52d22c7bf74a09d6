"""Wires the sidecar together, starts it and stops it."""

import asyncio
import logging
import math
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import onnxruntime
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from neuralrank.backends.choice import Choice
from neuralrank.bundles.registry import Registry
from neuralrank.errors import NeuralrankError, Unsupported
from neuralrank.opensearch.connection import connect_async
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.access.tls import Certificates
from sidecar.cores import share
from sidecar.deadline import Clock
from sidecar.features.counted import CountedFeatures
from sidecar.features.items import ItemStore
from sidecar.features.opensearch import OpenSearchFeatures
from sidecar.features.profile import Users
from sidecar.http.texts import TextRanker
from sidecar.inference.inference import Inference
from sidecar.models.follower import Models
from sidecar.models.serving import State
from sidecar.models.shadow import Shadow
from sidecar.ranking.cascade import Ranker
from sidecar.ranking.encode import Vectors
from sidecar.rpc.health import Health
from sidecar.rpc.methods import add_ranking
from sidecar.rpc.service import RankingService
from sidecar.rpc.transport import server_options
from sidecar.settings import SidecarSettings
from sidecar.telemetry.calls import Calls, opensearch_call
from sidecar.telemetry.logs import without_reason
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.tracing import tracing_from

if TYPE_CHECKING:
    from sidecar.http.server import HttpServer

__all__ = ["SERVICE", "Sidecar"]

_log = logging.getLogger(__name__)

# How often the cluster is asked which encoders its indexes name. What an index of a moment ago
# names is loaded before, when it is asked for.
_INDEXES_SECONDS = 30.0
# How long the first look at the registry waits for what indexes name, so that the first models that
# serve are those.
_MEETING_SECONDS = 1.0
SERVICE = pb.DESCRIPTOR.services_by_name["Ranking"].full_name


class Sidecar:
    """One ranking server. It answers from `start` on; its health is SERVING once models are warm.

    Before that, and where the registry is empty, `Rank` answers by retrieval alone and says so.
    """

    def __init__(
        self, settings: SidecarSettings, stack: Settings, *, shared_port: bool = False
    ) -> None:
        """
        Args:
            settings: of the sidecar.
            stack: where OpenSearch is, and the registry if `settings` has none.
            shared_port: whether other processes of ours listen on the same port.

        Raises:
            InvalidSettings: certificates, tokens or OTEL_… variables can't be used.
            InvalidInput: the registry's URL can't be used.
            Unsupported: OTEL_… ask for traces, and OpenTelemetry is not installed; or what reads
                the registry's URL is not.
        """
        self._settings = settings
        self._shared_port = shared_port
        clock = time.monotonic
        timeout = settings.opensearch_timeout_ms / 1_000
        self.metrics = Metrics()
        self._tracing = tracing_from(os.environ)
        self.calls = Calls(self._tracing, slow_seconds=settings.slow_request_ms / 1_000)
        self._opensearch = connect_async(
            stack,
            timeout=settings.opensearch_read_ms / 1_000,
            retries=0,
            observe=opensearch_call,
        )
        self._features = OpenSearchFeatures(
            self._opensearch,
            events_index=settings.events_index,
            vector_field=settings.vector_field,
            profile_events=settings.profile_events,
            text_characters=settings.item_text_characters,
        )
        features = CountedFeatures(self._features, self.metrics, wait=timeout, clock=clock)
        cores = share(settings.threads, settings.workers)
        self._registry = Registry(settings.registry or stack.registry_path)
        self.models = Models(
            self._registry,
            share=cores,
            default_encoder=settings.default_encoder,
            default_cross_encoder=settings.default_cross_encoder,
            default_personal=settings.personal_ranker,
            choice=Choice(
                settings.backend,
                settings.gpu_precision,
                Path(settings.engines) if settings.engines else stack.home / "engines",
                settings.engine_bytes,
                self.metrics.backend_fallback,
            ),
            max_slowdown=settings.max_slowdown,
            asked_bundles=settings.asked_bundles,
            asked_seconds=settings.asked_seconds,
            nice=settings.model_nice,
        )
        self._inference = Inference(
            self.metrics,
            workers=cores.workers,
            batch_tokens=settings.batch_tokens,
            queue_tokens=settings.queue_tokens,
            query_cache_bytes=settings.query_cache_bytes,
            token_cache_bytes=settings.token_cache_bytes,
            score_cache_bytes=settings.score_cache_bytes,
            nice=settings.model_nice,
            clock=clock,
        )
        self.models.on_freed(self._inference.forget)
        self._shadow = Shadow(
            self.metrics, lambda: self._service.admission.in_flight > 0, nice=settings.model_nice
        )
        self.models.on_freed(self._shadow.forget)
        self.models.agreement = self._shadow.agreement
        self._items = items = ItemStore(
            features,
            self.metrics,
            max_bytes=settings.item_cache_bytes,
            item_ttl=settings.item_ttl_seconds,
            index_ttl=settings.index_ttl_seconds,
            wait=timeout,
            read_timeout=settings.opensearch_read_ms / 1_000,
            clock=clock,
        )
        self._users = users = Users(
            features,
            items,
            self._inference,
            self.metrics,
            ttl=settings.user_ttl_seconds,
            max_bytes=settings.user_cache_bytes,
            half_life_days=settings.half_life_days,
            wait=timeout,
            read_timeout=settings.opensearch_read_ms / 1_000,
            exclusions=settings.exclusions,
            clock=clock,
        )
        ranker = Ranker(
            self.models,
            items,
            users,
            self._inference,
            self.metrics,
            max_reranked=settings.max_reranked,
            rerank_characters=settings.rerank_characters,
            shadow=self._shadow,
        )
        self._texts = TextRanker(ranker, self.models, self._inference, self.metrics)
        self._service = RankingService(
            ranker,
            Vectors(self.models, items, users, self._inference),
            self.models,
            self.metrics,
            self.calls,
            settings,
            clock,
        )
        self._certificates = _certificates(settings, clock)
        self._watch()
        self._health = Health()
        self._server: grpc.aio.Server | None = None
        self._following: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()
        self._http: HttpServer | None = None
        self._indexes_seen = float("-inf")
        self.port = 0
        # 0: no HTTP.
        self.http_port = 0

    async def start(self) -> None:
        """Listens, and begins to load models; `loaded` waits for them.

        Raises:
            Unsupported: the port is taken.
        """
        await self._report(serving=bool(self.models.serving.loaded))
        options = server_options(self._settings, shared_port=self._shared_port)
        server = grpc.aio.server(options=options)
        add_ranking(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        self.port = self._bind(server)
        await server.start()
        self._server = server
        await self._start_http()
        self._begin()
        settings = self._settings
        _log.info(
            "listening",
            extra={
                "address": settings.listen,
                "port": self.port,
                "tls": bool(self._certificates),
                "client_certificates": bool(settings.tls_client_ca),
                "tokens": bool(settings.tokens),
            },
        )
        if not self._certificates and not settings.on_loopback:
            _log.warning(
                "without TLS and beyond this machine, because NEURALRANK_SIDECAR_INSECURE says so: "
                "whoever reaches the port can read and change what passes"
            )

    async def _start_http(self) -> None:
        if not self._settings.http_listen:
            return
        # Half a second and 20 MB that only those pay who want it.
        from sidecar.http.app import Parts, build
        from sidecar.http.connection import Patience
        from sidecar.http.server import HttpServer

        app = build(
            Parts(
                self._texts,
                self.models,
                self.metrics,
                self._service.admission,
                self.calls,
                self._settings,
                self._is_ready,
            )
        )
        host, port = self._settings.http_address
        tls = self._certificates.context() if self._certificates else None
        self._http = HttpServer(
            app,
            host,
            port,
            connections=self._settings.max_connections,
            patience=Patience(self._settings.handshake_seconds, self._settings.http_body_seconds),
            max_age=self._settings.max_connection_age_seconds or math.inf,
            tls=tls,
        )
        await self._http.start()
        self.http_port = self._http.port
        _log.info(
            "listening for HTTP",
            extra={"address": self._settings.http_listen, "port": self.http_port, "tls": bool(tls)},
        )

    def _is_ready(self) -> bool:
        return self._loaded.is_set() and self._server is not None and self._has_models()

    def _has_models(self) -> bool:
        return bool(self.models.serving.loaded)

    def _bind(self, server: grpc.aio.Server) -> int:
        listen = self._settings.listen
        try:
            if self._certificates:
                port = server.add_secure_port(listen, self._certificates.credentials())
            else:
                port = server.add_insecure_port(listen)
        except RuntimeError:
            port = 0
        if not port:
            raise Unsupported(
                f"The sidecar can't listen on {listen}: the port is in use or the host is not this "
                "machine's. Stop what uses it, or set NEURALRANK_SIDECAR_LISTEN."
            )
        return int(port)

    def _watch(self) -> None:
        """Lets the metrics ask for what is a state and not an event."""
        self.metrics.build(f"onnxruntime {onnxruntime.__version__}")
        self.metrics.watch_cache("item", lambda: self._items.bytes)
        self.metrics.watch_cache("user", lambda: self._users.profile_bytes)
        self.metrics.watch_cache("taste", lambda: self._users.taste_bytes)
        for state in State:
            self.metrics.watch_bundles(state.value, partial(self._bundles, state))

    def _bundles(self, state: State) -> int:
        return sum(row.state is state for row in self.models.statuses)

    async def load(self) -> None:
        """Loads the models before it listens, as `start` does after."""
        self._begin()
        await self.loaded()

    def _begin(self) -> None:
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
            self._service.admission.busy.watch(asyncio.get_running_loop())

    async def loaded(self) -> None:
        """Waits until the registry has been gone through once, whatever came of it."""
        await self._loaded.wait()

    async def stop(self) -> None:
        """Takes no more requests, lets those under way finish, and ends. Again: does nothing."""
        server, self._server = self._server, None
        following, self._following = self._following, None
        if following is None:
            return
        await self._health.enter_graceful_shutdown()
        following.cancel()
        await asyncio.wait((following,))
        self._service.admission.busy.close()
        if server is not None:
            # It tells clients at once to connect elsewhere, and waits for what is under way. One
            # stop only: with two under way a segmentation fault was seen (grpc 1.85).
            stopping = asyncio.create_task(server.stop(self._settings.drain_seconds))
            await self._drain()
            self._health.end()
            if self._http:
                await self._http.stop()
            await stopping
        self._service.close()
        self.models.close()
        self._shadow.close()
        self._inference.close()
        await self._items.close()
        await self._users.close()
        await self._opensearch.close()
        await asyncio.to_thread(self._tracing.close)
        _log.info("stopped")

    async def _drain(self) -> None:
        """Waits for the requests under way, `drain_seconds` at most, while new ones are refused."""
        # One may have arrived and not have begun: it is let in.
        await asyncio.sleep(min(0.05, self._settings.drain_seconds))
        self._service.admission.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._service.admission.idle(), self._settings.drain_seconds)

    async def _follow(self) -> None:
        meeting = asyncio.create_task(self._meet_opensearch())
        try:
            # So long at most: models have to serve where OpenSearch hangs, too.
            await asyncio.wait((meeting,), timeout=_MEETING_SECONDS)
            await self._follow_registry()
        finally:
            meeting.cancel()

    async def _follow_registry(self) -> None:
        # Without this the log of a sidecar that never becomes ready would say nothing at all.
        lacking = held = False
        unanswered: dict[str, str] = {}
        while True:
            try:
                await self._name_encoders()
                await self.models.refresh()
            except Exception:  # following must outlive any one failure
                _log.exception("looking at the registry failed")
            await self._report(serving=self._has_models())
            if not self._has_models() and not lacking:
                about = {"registry": self._registry.url}
                _log.warning(
                    "no model serves: there is none in the registry, or none that can be loaded",
                    extra=about,
                )
            lacking = not self._has_models()
            if (missed := self.models.serving.unanswered) and missed != unanswered:
                _log.warning(
                    "no bundle in service has the name that the settings give: another one of its "
                    "kind answers, or none",
                    extra={"registry": self._registry.url, "named": missed},
                )
            unanswered = missed
            # Those that are refused or left serve no more: what was counted for them may go.
            self.metrics.keep_bundles(self.models.serving.loaded)
            self._loaded.set()
            if not held and self._has_models():
                held = True
                await self._hold_to_earlier()
            self._users.expire()
            await self.models.wait(self._settings.registry_poll_seconds)

    async def _hold_to_earlier(self) -> None:
        try:
            await self.models.hold_to_earlier()
        except Exception:  # as for a look at the registry
            _log.exception("comparing bundles with those before them failed")

    async def _name_encoders(self) -> None:
        """Has the encoders stay loaded whose vectors an index holds, now and then."""
        if time.monotonic() < self._indexes_seen + _INDEXES_SECONDS:
            return
        self._indexes_seen = time.monotonic()
        try:
            refs = await self._features.encoders(self._settings.opensearch_read_ms / 1_000)
        except NeuralrankError as error:
            about = {"error": without_reason(error)}
            _log.warning("the indexes' encoders can't be read", extra=about)
        else:
            self.models.name_encoders(refs)

    async def _meet_opensearch(self) -> None:
        """What is done once, at the start. It may be down: nothing depends on this."""
        try:
            await asyncio.gather(self._warm(), self._name_encoders())
        except Exception:  # as for a look at the registry
            _log.exception("the first look at OpenSearch failed")

    async def _warm(self) -> None:
        """Opens the connections to OpenSearch and has it run its first search of events, so that
        the first user does not wait for either. Says where there are none to search."""
        timeout = self._settings.opensearch_read_ms / 1_000
        try:
            await self._features.events("warm-up", timeout)
            if not await self._features.has_events(timeout):
                _log.warning(
                    "there is no index of events: until there is one, nothing is known of any user",
                    extra={"events_index": self._settings.events_index},
                )
        except NeuralrankError as error:
            about = {"error": without_reason(error)}
            _log.warning("OpenSearch did not answer at the start", extra=about)

    async def _report(self, *, serving: bool) -> None:
        for name in ("", SERVICE):
            await self._health.report(name, serving=serving)


def _certificates(settings: SidecarSettings, clock: Clock) -> Certificates | None:
    if not settings.tls_certificate:
        return None
    client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    return Certificates(Path(settings.tls_certificate), Path(settings.tls_key), client_ca, clock)

"""The sidecar's settings: one frozen object, from `NEURALRANK_SIDECAR_*` environment variables.

Where OpenSearch is and how to log in there is shared with every other part of neuralrank and comes
from `neuralrank.settings` (`NEURALRANK_OPENSEARCH_URL` and the like).
"""

import os
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from neuralrank.backends.choice import BackendName, GpuPrecision
from neuralrank.errors import InvalidSettings

__all__ = ["SidecarSettings", "load_sidecar_settings"]

_Milliseconds = Annotated[int, Field(ge=1, le=600_000)]
_Weight = Annotated[float, Field(ge=0.0, le=1_000.0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]
# Of connections, and of requests on one: numbers that gRPC takes.
_Open = Annotated[int, Field(ge=1, le=1_000_000)]


class SidecarSettings(BaseSettings):
    """Every knob of the ranking service, with what turning it costs."""

    model_config = SettingsConfigDict(env_prefix="NEURALRANK_SIDECAR_", frozen=True, extra="ignore")

    # --- Where it listens and what it serves

    # host:port of gRPC. 127.0.0.1 is reached from this machine only. Beyond it (0.0.0.0, or an
    # address of this machine) the sidecar starts only with TLS, or where `insecure` says so.
    listen: str = "127.0.0.1:50051"
    # host:port of HTTP: rerank APIs, probes and Prometheus metrics (docs/http.md). Held to what
    # `listen` is: TLS, tokens, loopback. Empty: none, and nothing of it is loaded.
    http_listen: str = ""
    # The model registry: any path that fsspec understands. Empty: the local stack's.
    registry: str = ""
    # The encoder for requests and indexes that name none: name or name@hash. Empty: the one of the
    # registry that knows most languages, of several the first by name. An index that names its
    # encoder is served by that one.
    default_encoder: str = ""
    # The cross-encoder for requests that name none, where it serves the query's language. Empty:
    # the first of the registry that does, by name.
    default_cross_encoder: str = ""
    # The personal ranker that says how well candidates fit a user. Empty: the first of the
    # registry, by name, that reads the vectors of the request's encoder. none: none is asked.
    personal_ranker: str = ""
    # How often the registry is looked at for new bundles. Shorter: a published bundle serves
    # sooner; longer: less reading of a remote registry.
    registry_poll_seconds: float = Field(default=5.0, gt=0, le=3_600)
    # How many times slower than the one in service a bundle may be that takes its place, under its
    # name or for requests that name none; one that is slower is refused. Lower: no surprise;
    # higher: a larger model can take the place of a small one (or `neuralrank models promote
    # --max-slowdown`, for one bundle).
    max_slowdown: float = Field(default=2.0, ge=1, le=1_000_000)
    # The most bundles that are loaded because requests named them by hash, beside those in service.
    # More: more candidates can be compared at once, for memory. 0: none is.
    asked_bundles: int = Field(default=4, ge=0, le=1_000)
    # How long such a bundle stays loaded after the last request for it.
    asked_seconds: float = Field(default=3_600.0, gt=0, le=31_536_000)

    # Whether gRPC reflection answers, so that grpcurl knows the contract. It shows nothing else.
    reflection: bool = True

    # --- Who may ask

    # PEM of the server's certificate (then intermediate ones) and of its key, without passphrase.
    # Read again when they change. Empty: no TLS.
    tls_certificate: str = ""
    tls_key: str = ""
    # PEM of the authorities for clients' certificates: then only clients with one are let in
    # (mTLS). Empty: clients need none.
    tls_client_ca: str = ""
    # A file with one `caller: secret` a line; then only requests with one of them are answered.
    # Read again when it changes. Empty: no tokens.
    tokens: str = ""
    # Listen beyond this machine without TLS. For a network that nobody else is in, such as that of
    # docker compose or a mesh that encrypts by itself.
    insecure: bool = False
    # Requests a second that one caller may make in the long run. A caller is its token's name, else
    # the common name of its certificate, else its address. 0: any number.
    caller_rate: float = Field(default=0.0, ge=0, le=1_000_000)
    # Requests that a caller may make at once after a pause. 0: what caller_rate allows in a second.
    caller_burst: int = Field(default=0, ge=0, le=1_000_000)
    # Requests of one caller in work at once. Lower than max_in_flight, one caller can't keep the
    # others out. 0: up to max_in_flight.
    caller_concurrency: int = Field(default=0, ge=0)

    # --- Connections

    # Connections that are open at once; one more is closed.
    max_connections: _Open = 1_000
    # How long a new connection may take to its first request: the handshakes of TLS and HTTP/2, and
    # of HTTP the head of a request. One that takes longer is closed. Shorter: silent connections
    # take less; longer: far callers on slow networks get in.
    handshake_seconds: float = Field(default=10.0, ge=0.1, le=600)
    # Requests under way on one connection; more wait at the client. Above max_in_flight, so that
    # who asks too much is told so.
    max_streams: _Open = 256
    # A connection on which nothing came for this long is asked for a sign of life...
    keepalive_seconds: float = Field(default=60.0, ge=1, le=86_400)
    # ...and closed, with its requests cancelled, if none comes in this time.
    keepalive_timeout_seconds: float = Field(default=20.0, ge=1, le=600)
    # A connection that is this old (a tenth more or less) is ended after its requests, and the
    # client makes a new one: so load spreads over new replicas, and changed certificates are used
    # by all. Shorter: sooner, for more handshakes. 0: never.
    max_connection_age_seconds: float = Field(default=600.0, ge=0, le=86_400)

    # --- Logs
    #
    # debug, info, warning or error. At debug there is a line for every request; ids of users and
    # items are in no line above it.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # A request that takes longer is logged with the times of its stages, one a second at most. 0:
    # none is.
    slow_request_ms: int = Field(default=1_000, ge=0, le=600_000)

    # --- Time and load

    # A Rank request's time where it gives none. Longer: the cross-encoder reads more candidates;
    # but the plugin's own timeout must be longer still, or the answer is thrown away.
    deadline_ms: _Milliseconds = 50
    # The most that a request may ask for. Bounds how long one request can hold the processor.
    max_deadline_ms: _Milliseconds = 5_000
    # An Encode request's time, where its gRPC deadline is not earlier.
    encode_deadline_ms: _Milliseconds = 2_000
    # Kept back from every deadline, a quarter of it at most, for blending, answering and the way to
    # the caller. Too small: answers come late and are lost; too large: fewer candidates are read.
    margin_ms: int = Field(default=8, ge=0, le=10_000)
    # The longest that a request waits for one read from OpenSearch; never more than 60 % of its
    # deadline. When OpenSearch hangs, every request waits this long before it is answered without
    # profile and features.
    opensearch_timeout_ms: _Milliseconds = 250
    # How long such a read goes on after the request has given up, to fill the cache for later ones.
    opensearch_read_ms: _Milliseconds = 5_000
    # Requests worked on at once. Others wait, as many again, for a quarter of their deadline at
    # most, and are then refused (RESOURCE_EXHAUSTED). Higher: more are answered, later each.
    max_in_flight: _Count = 64
    # How much of its time the event loop may be at work (averaged over 50 ms) before requests wait,
    # and are then refused. Beyond it they would wait where no deadline is seen. Higher: more are
    # answered, later each; lower: refused sooner. 100: never for this. For a request that finds no
    # other in work it is 97 at least, and one in 20 ms is let in.
    max_busy_percent: int = Field(default=85, ge=1, le=100)
    # Worker processes that share the port. More than one survives the death of one, and uses cores
    # that one Python process can't; each has models, caches, limits and max_in_flight of its own,
    # so memory multiplies. HTTP is on http_listen's port, the next, ….
    processes: int = Field(default=1, ge=1, le=256)
    # How long requests under way may take to finish when the service is told to stop.
    drain_seconds: float = Field(default=10.0, ge=0, le=600)
    # The longest message received or sent. 10,000 candidates with texts and vectors take about
    # 25 MiB.
    max_message_bytes: int = Field(default=64 * 2**20, ge=2**16, le=2**31 - 1)

    # --- HTTP

    # A rerank's time where it gives none. People who call these APIs wait for every text to be
    # read. Longer: more texts are; but one request holds the processor for longer.
    http_deadline_ms: _Milliseconds = 5_000
    # How much of a text is read, in characters; a model's own limit of tokens holds too. More:
    # long texts are known better; less: more of them are read in the same time.
    http_document_characters: int = Field(default=2_000, ge=64, le=65_536)
    # The longest body. Decoding one holds up every other request, for some 10 ms a MiB. Of all
    # bodies together four times as much is received at once, and 64 KiB of each in any case.
    http_max_body_bytes: int = Field(default=16 * 2**20, ge=2**16, le=2**31 - 1)
    # How long a caller may take to send it.
    http_body_seconds: float = Field(default=10.0, gt=0, le=600)

    # --- Ranking

    # The most candidates in one request. The contract says 10,000; less bounds memory.
    max_candidates: int = Field(default=10_000, ge=1, le=10_000)
    # The most candidates that a cross-encoder reads in one request, if time allows. More: better
    # order further down the page, for time.
    max_reranked: _Count = 5
    # How much of a candidate's text a cross-encoder reads, in characters; the title comes first.
    # More: it knows the item better; less: it reads more items in the same time.
    rerank_characters: int = Field(default=150, ge=64, le=65_536)
    # What each part of the score counts where the request does not say.
    weight_relevance: _Weight = 1.0
    weight_affinity: _Weight = 0.5
    weight_retrieval: _Weight = 0.8
    # How much of relevance the cross-encoder's order is, among the candidates that it has read.
    # More: for one that was trained on the shop's own data and has earned it (`neuralrank tune`).
    weight_cross_encoder: float = Field(default=0.2, ge=0, le=1)
    # How much of the score it is to be unlike the results above. More: fewer variants of one thing
    # on a page, and less of what fits best.
    weight_diversity: float = Field(default=0.0, ge=0, le=1)
    # Whether what a query says it does not want ("without straw", "不带盖") is read, where the
    # request does not say. Off: for sites that are searched by titles ("life without internet").
    exclusions: bool = True

    # --- Users

    # The index (or alias) of UBI events.
    events_index: str = Field(default="ubi_events", min_length=1)
    # How many of a user's newest events make the profile: of those with an item or a query, each
    # item of a basket as one, and what is done with one item in a row as one. Five times as many
    # are read, 1,000 at most. More: longer memory, a slower read.
    profile_events: int = Field(default=100, ge=1, le=500)
    # An event's weight halves in this many days, counted from the user's newest event. Shorter:
    # follows the mood of the moment; longer: keeps old tastes.
    half_life_days: float = Field(default=7.0, gt=0, le=36_500)
    # How long a user's events serve before they are read again; after that, for ten minutes, only
    # where reading them fails or is late. It spans the Encode and the Rank of one search; longer
    # saves reads, and a click shows later. 0: every request reads.
    user_ttl_seconds: float = Field(default=0.25, ge=0, le=3_600)
    # Memory for users: half for their events, about 250 bytes each, and half for what they like,
    # computed from these, about 2 KB an event with 384 dimensions. More: fewer are computed anew.
    user_cache_bytes: int = Field(default=128 * 2**20, ge=2**20)

    # --- Items

    # The field of the product documents that holds the text's vector.
    vector_field: str = Field(default="text_vector", min_length=1)
    # Memory for items read from indexes. 1 KB for the text and 1.5 KB for 384 dimensions each.
    item_cache_bytes: int = Field(default=256 * 2**20, ge=2**20)
    # How old a cached item may be, for callers that send no Candidate.version: what changed in the
    # index meanwhile, a price or the stock, they don't see. Who sends versions, as the plugin does,
    # gets that version at once, whatever this is. Longer: fewer reads.
    item_ttl_seconds: float = Field(default=30.0, ge=0, le=86_400)
    # How old the knowledge of an index (the alias's target and its encoder) may be.
    index_ttl_seconds: float = Field(default=2.0, ge=0, le=3_600)
    # Characters kept of an item's text. No less than rerank_characters; more is memory unused.
    item_text_characters: int = Field(default=1_000, ge=64, le=65_536)

    # --- Models

    # What runs models. auto: TensorRT where there is an NVIDIA driver with a GPU, else ONNX Runtime
    # on the CPU. With tensorrt, a missing GPU is said loudly and counted; the CPU serves then too.
    backend: BackendName = "auto"
    # What a GPU computes in: fp32, fp16, bf16 or fp8. Less: faster. One that does not agree with
    # fp32 on real texts is refused, and a safer one is taken.
    gpu_precision: GpuPrecision = "fp16"
    # The folder of built TensorRT engines. Empty: engines in the local stack's home. Keep it: each
    # takes minutes to build.
    engines: str = ""
    # The most that the engines there may take; the ones read longest ago go first.
    engine_bytes: int = Field(default=8 * 2**30, ge=2**20)
    # Cores that models use. 0: all there are, or this process's share of them. A query is encoded
    # by all of them at once.
    threads: int = Field(default=0, ge=0, le=1_024)
    # Model runs at once. With two or more, one is kept for queries, so that a query never waits for
    # a batch of pairs; the others share the cores. 0: one for each core and the one for queries,
    # which is the most throughput on a processor. On a GPU: 2.
    workers: int = Field(default=0, ge=0, le=256)
    # How much lower the priority of the threads is that run and load models (nice, on Linux).
    # Higher: beyond its capacity a sidecar still answers in time, and reads less; but models get
    # less of cores that other programs outside of its container want too. 0: the same priority.
    model_nice: int = Field(default=5, ge=0, le=19)
    # Tokens in one model run, padding included. Larger: a little less time a token; smaller: the
    # deadline is looked at more often, and others get their turn sooner.
    batch_tokens: int = Field(default=256, ge=1, le=65_536)
    # Tokens that may wait for a model, of all requests together. One request has a quarter of it
    # wait at most, and gives the rest bit by bit; what is within an equal share is always let in,
    # and queries wait for no room among pairs. Beyond it, a stage is left out (OVERLOAD) and Encode
    # is refused. Higher: longer waits, which eat into every deadline.
    queue_tokens: int = Field(default=65_536, ge=1)
    # Memory for vectors of queries, so that Encode and Rank of one search encode the query once:
    # about 2 KB each at 384 dimensions. 0: none are kept.
    query_cache_bytes: int = Field(default=8 * 2**20, ge=0)
    # Memory for the tokens of texts that a cross-encoder reads: about 700 bytes each. A product is
    # then tokenised once for all queries. 0: none are kept.
    token_cache_bytes: int = Field(default=32 * 2**20, ge=0)
    # Memory for the cross-encoder's scores of pairs read lately: about 600 bytes each. A query that
    # comes again then waits for no model. 0: none are kept.
    score_cache_bytes: int = Field(default=32 * 2**20, ge=0)

    @model_validator(mode="after")
    def _cross_check(self) -> Self:
        host, port = self.address
        if not host or not 0 <= port <= 65_535:
            raise ValueError(f"listen is {self.listen!r}; allowed is host:port, as 127.0.0.1:50051")
        if self.http_listen:
            self._check_http(port)
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError(
                f"tls_certificate is {self.tls_certificate!r} and tls_key is {self.tls_key!r}; "
                "give both or neither"
            )
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError(
                "tls_client_ca is given without tls_certificate and tls_key; clients' certificates "
                "are asked for in TLS only, so give all three"
            )
        if not (self.on_loopback or self.tls_certificate or self.insecure):
            beyond = self.http_listen if _on_loopback(self.address[0]) else self.listen
            raise ValueError(
                f"listen is {beyond!r}, which is reached from other machines, and there is no "
                "TLS. Give NEURALRANK_SIDECAR_TLS_CERTIFICATE and NEURALRANK_SIDECAR_TLS_KEY "
                "(docs/security.md), listen on 127.0.0.1, or set NEURALRANK_SIDECAR_INSECURE=true "
                "(--insecure) where nobody else is in that network"
            )
        if self.caller_burst and not self.caller_rate:
            raise ValueError(
                f"caller_burst is {self.caller_burst} without a caller_rate; give both"
            )
        if self.http_deadline_ms > self.max_deadline_ms:
            raise ValueError(
                f"http_deadline_ms {self.http_deadline_ms} is above max_deadline_ms "
                f"{self.max_deadline_ms}; raise the second or lower the first"
            )
        if self.deadline_ms > self.max_deadline_ms:
            raise ValueError(
                f"deadline_ms {self.deadline_ms} is above max_deadline_ms {self.max_deadline_ms}; "
                "raise the second or lower the first"
            )
        if self.margin_ms >= self.deadline_ms:
            raise ValueError(
                f"margin_ms {self.margin_ms} leaves nothing of deadline_ms {self.deadline_ms}; "
                "it must be smaller"
            )
        if self.rerank_characters > self.item_text_characters:
            raise ValueError(
                f"rerank_characters {self.rerank_characters} is above item_text_characters "
                f"{self.item_text_characters}; lower the first or raise the second"
            )
        if not self.weight_relevance + self.weight_affinity + self.weight_retrieval:
            raise ValueError("all weights are 0; at least one of weight_* must be above 0")
        return self

    def _check_http(self, grpc_port: int) -> None:
        host, port = self.http_address
        if not host or not 0 <= port <= 65_535:
            raise ValueError(
                f"http_listen is {self.http_listen!r}; allowed is host:port, as 127.0.0.1:8080, "
                "or nothing for no HTTP"
            )
        if port and port <= grpc_port < port + self.processes:
            raise ValueError(
                f"http_listen's port is {port}, and the {self.processes} processes use the ports "
                f"from there on, of which {grpc_port} is gRPC's in listen; choose another"
            )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`; port -1 where it is not a number."""
        return _split(self.listen)

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of `http_listen`; port -1 where it is not a number."""
        return _split(self.http_listen)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches `listen` and `http_listen`."""
        return _on_loopback(self.address[0]) and (
            not self.http_listen or _on_loopback(self.http_address[0])
        )


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host, int(port) if port.isdecimal() else -1


def _on_loopback(host: str) -> bool:
    host = host.strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_sidecar_settings(**flags: Any) -> SidecarSettings:
    """Settings from flags (None: not given), then environment.

    Raises:
        InvalidSettings: a value can't be used, or a NEURALRANK_SIDECAR_ variable is not a setting.
    """
    prefix = "NEURALRANK_SIDECAR_"
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(prefix)
        and name.removeprefix(prefix).lower() not in SidecarSettings.model_fields
    )
    if unknown:
        raise InvalidSettings(
            f"{', '.join(unknown)} is no setting of the sidecar. Allowed: "
            + ", ".join(prefix + name.upper() for name in SidecarSettings.model_fields)
            + "."
        )
    try:
        return SidecarSettings(
            **{name: value for name, value in flags.items() if value is not None}
        )
    except ValidationError as error:
        problems = "; ".join(
            f"{prefix}{'_'.join(map(str, problem['loc'])).upper()}: got {problem['input']!r}, "
            f"{problem['msg']}"
            if problem["loc"]
            else problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        )
        raise InvalidSettings(f"The sidecar's settings can't be used: {problems}.") from error

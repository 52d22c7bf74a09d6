"""What `Rank` costs beside inference: gRPC, parsing, filters, scores, blend, explanations, reply.

A sidecar in a process of its own, on loopback. No model runs: the query's vector is cached and no
cross-encoder is asked for, which the answers' own stages prove. Its peer is an empty gRPC service,
of grpc.aio in a process of its own too, that takes and gives as many bytes.

With a running OpenSearch the items of the index `esci` are also taken from the sidecar's warm
caches: by ids alone, and as the plugin does, which sends all but the vectors.
"""

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np
from opensearchpy import OpenSearch

from bench import latency
from bench.report import Report, percentiles
from bench.workload import CATALOGUE
from neuralrank.catalogue.product import PASSAGE_FIELDS, passage
from neuralrank.client import Client
from neuralrank.errors import NeuralrankError, Unavailable
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.packing import PACKED, pack
from neuralrank.settings import Settings, load_settings
from neuralrank.stack.ports import LOOPBACK, choose_port
from neuralrank.v1 import ranking_pb2 as pb
from opensearch_config import ubi_indexes

__all__ = ["measure", "run"]

_SIZES: Final = (100, 1_000)
# Calls of each kind that count, after a tenth as many that don't.
_CALLS: Final = {100: 300, 1_000: 60}
_ENCODER: Final = "multilingual-e5-small"
_EVENTS: Final = "bench_overhead_events"
_USER: Final = "bench-user"
_QUERY: Final = "office chair with a back rest"
_RANK: Final = "/neuralrank.v1.Ranking/Rank"
_FLOOR: Final = "/bench.Floor/Call"
_LARGEST: Final = [
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.max_send_message_length", 64 * 2**20),
    ("grpc.enable_http_proxy", 0),
]
# Nothing grows old while the benchmark runs.
_WARM: Final = {
    "NEURALRANK_SIDECAR_ITEM_TTL_SECONDS": "3600",
    "NEURALRANK_SIDECAR_INDEX_TTL_SECONDS": "3600",
    "NEURALRANK_SIDECAR_USER_TTL_SECONDS": "3600",
    "NEURALRANK_SIDECAR_EVENTS_INDEX": _EVENTS,
}


@dataclass(frozen=True)
class _Kind:
    """One kind of request, ready to be sent."""

    what: str
    candidates: int
    request: bytes


def run() -> None:
    """Prints and writes the report."""
    rows = measure()
    Report(
        "overhead",
        "Rank without inference, over gRPC on loopback",
        rows,
        "One caller, one request after the other; every result comes back. `floor` is an empty "
        "grpc.aio service with as many bytes both ways, called in turn with it; `over` is what "
        "Rank adds to it (difference of the medians). Query, a user with 20 events and filters by "
        "price, stock and brand in every request; 384 dimensions."
        + ("" if any("cache" in row["what"] for row in rows) else " No OpenSearch: no caches."),
    ).publish()


def measure() -> list[dict[str, Any]]:
    """A row for each kind of request: milliseconds, its floor's, and their ratio.

    Raises:
        Unavailable: the sidecar does not start; the message has its log.
    """
    settings = load_settings()
    with closing(connect(settings, timeout=120.0)) as client:
        items = _items(client, settings)
        try:
            with _sidecar(settings) as address, _floor() as floor:
                kinds = _kinds(items or _made_up(max(_SIZES)), with_index=bool(items))
                return [_measure(kind, address, floor) for kind in kinds]
        finally:
            if items:
                _delete_events(client)


def _measure(kind: _Kind, address: str, floor: str) -> dict[str, Any]:
    """Calls both servers in turn; the raw bytes are made and read outside the clock."""
    with (
        grpc.insecure_channel(address, options=_LARGEST) as ranking,
        grpc.insecure_channel(floor, options=_LARGEST) as empty,
    ):
        rank, echo = ranking.unary_unary(_RANK), empty.unary_unary(_FLOOR)
        answer = rank(kind.request, timeout=60.0)
        _check(pb.RankResponse.FromString(answer), kind)
        size = (("reply-bytes", str(len(answer))),)
        work: tuple[Callable[[], Any], ...] = (
            lambda: rank(kind.request, timeout=60.0),
            lambda: echo(kind.request, timeout=60.0, metadata=size),
        )
        times: tuple[list[float], list[float]] = ([], [])
        calls = _CALLS[kind.candidates]
        for number in range(-calls // 10, calls):
            for call, taken in zip(work, times, strict=True):
                start = time.perf_counter()
                call()
                if number >= 0:
                    taken.append((time.perf_counter() - start) * 1_000)
    p50, base = (float(np.median(taken)) for taken in times)
    return {
        "what": kind.what,
        "candidates": kind.candidates,
        **percentiles(times[0]),
        "p99 ms": round(float(np.percentile(times[0], 99)), 2),
        "floor p50 ms": round(base, 2),
        "over ms": round(p50 - base, 2),
        "ratio": round(p50 / base, 2),
        "KB in": round(len(kind.request) / 1_000, 1),
        "KB out": round(len(answer) / 1_000, 1),
    }


def _check(answer: pb.RankResponse, kind: _Kind) -> None:
    """That what was measured is what is said: everything scored, no model run, nothing lacking."""
    stages = {stage.name for stage in answer.stages}
    if "rerank" in stages or answer.degraded or not answer.bundles:
        raise Unavailable(
            f"{kind.what}: stages {sorted(stages)}, degraded {answer.degraded}, bundles "
            f"{answer.bundles}. Expected are vectors and no reading; is {_ENCODER} in the registry?"
        )
    if len(answer.results) + answer.total_dropped != kind.candidates:
        raise Unavailable(f"{kind.what}: {len(answer.results)} results for {kind.candidates}.")


# ------------------------------------------------------------------------------------- requests


def _kinds(items: Sequence[dict[str, Any]], *, with_index: bool) -> Iterator[_Kind]:
    for size in _SIZES:
        for explain in (False, True):
            name = ", explained" if explain else ""
            rows = items[:size]
            yield _Kind(f"all in the request{name}", size, _request(rows, explain))
            if with_index:
                plugin = _request(rows, explain, index=True, vectors=False)
                yield _Kind(f"as the plugin, vectors cached{name}", size, plugin)
                ids = _request(rows, explain, index=True, vectors=False, fields=False)
                yield _Kind(f"ids, all cached{name}", size, ids)


def _request(
    items: Sequence[dict[str, Any]],
    explain: bool,
    *,
    index: bool = False,
    vectors: bool = True,
    fields: bool = True,
) -> bytes:
    """A request for the items.

    Args:
        index: user by id and items of the index; else both are in the request.
        vectors, fields: whether the candidates carry them.
    """
    request = pb.RankRequest(query=_QUERY, language="en", index=latency.INDEX if index else "")
    request.options.MergeFrom(
        pb.RankOptions(
            bundle="none",
            encoder=_ENCODER,
            explain=explain,
            deadline_ms=5_000,
            filters=pb.Filters(max_price=1e6, in_stock_only=True, exclude_brands=["no such"]),
        )
    )
    if index:
        request.user.id = _USER
    else:
        request.user.profile.interactions.extend(
            pb.Interaction(item_id=row["id"], action="click", timestamp_ms=1_700_000_000_000 + n)
            for n, row in enumerate(items[:20])
        )
    for position, row in enumerate(items):
        candidate = request.candidates.add(
            id=row["id"], retrieval_score=20.0 - position / 100, version=row["version"]
        )
        if vectors:
            candidate.vector = base64.b64decode(row[PACKED])
        if not fields:
            continue
        candidate.text = passage(row, 500)
        candidate.brand = str(row.get("brand") or "")
        candidate.price = float(row.get("price") or 9.99)
        candidate.in_stock = True
        candidate.category.extend(row.get("category") or ["office"])
        for name, value in (row.get("attributes") or {"color": "black"}).items():
            candidate.attributes[name].values.append(str(value))
    return request.SerializeToString()


def _made_up(count: int) -> list[dict[str, Any]]:
    """Items that look like those of a shop, where there is no index to take them from."""
    random = np.random.default_rng(7)
    return [
        {
            "id": f"B{number:09d}",
            "title": f"Office chair {number} with adjustable lumbar support and head rest",
            "brand": f"Brand {number % 40}",
            "category": ["Home", "Office", f"Chairs {number % 9}"],
            "attributes": {"color": "black", "material": "mesh", "weight": f"{number % 20} kg"},
            "description": "A chair for long days at a desk. " * 6,
            PACKED: pack(random.normal(size=384)),
            "version": number,
        }
        for number in range(count)
    ]


def _items(client: OpenSearch, settings: Settings) -> list[dict[str, Any]]:
    """The items of the ESCI example, indexed first where they are not; empty without OpenSearch."""
    try:
        client.info(params={"request_timeout": 5})
    except NeuralrankError:
        return []
    if not client.indices.exists(index=latency.INDEX):
        latency.make_index(client, settings, CATALOGUE, latency.INDEX)
    _delete_events(client)  # of a run that was interrupted
    client.indices.create(index=_EVENTS, body=ubi_indexes()["ubi_events"])
    answer = client.search(
        index=latency.INDEX,
        body={
            "query": {"match_all": {}},
            "sort": ["id"],
            "size": max(_SIZES),
            "seq_no_primary_term": True,
            "_source": ["id", PACKED, "price", *PASSAGE_FIELDS],
        },
        params={"search_pipeline": "_none"},
    )
    items = [{**hit["_source"], "version": hit["_seq_no"]} for hit in answer["hits"]["hits"]]
    for number, row in enumerate(items[:20]):
        client.index(
            index=_EVENTS,
            body={
                "user_id": _USER,
                "action_name": "click",
                "timestamp": 1_700_000_000_000 + number,
                "event_attributes": {"object": {"object_id": row["id"]}},
            },
        )
    client.indices.refresh(index=_EVENTS)
    return items


def _delete_events(client: OpenSearch) -> None:
    client.indices.delete(index=_EVENTS, params={"ignore_unavailable": "true"})


# ------------------------------------------------------------------------------------ processes


@contextmanager
def _sidecar(settings: Settings) -> Iterator[str]:
    """The address of a sidecar of our own, which serves; it ends with the block."""
    address = f"{LOOPBACK}:{choose_port(0, 'the sidecar', '--listen')}"
    environment = {
        **os.environ,
        **_WARM,
        "NEURALRANK_SIDECAR_LISTEN": address,
        "NEURALRANK_OPENSEARCH_URL": settings.opensearch_url,
        "NEURALRANK_REGISTRY": settings.registry_path,
    }
    with _process([sys.executable, "-m", "sidecar.main", "--log-level", "error"], environment):
        with Client(address, timeout=5.0) as client:
            _wait(lambda: any(row.state == pb.BUNDLE_STATE_SERVING and row.name == _ENCODER
                              for row in client.model_status().bundles))  # fmt: skip
        yield address


@contextmanager
def _floor() -> Iterator[str]:
    """The address of the empty service."""
    port = choose_port(0, "the empty service", "--listen")
    with _process([sys.executable, "-m", "bench.overhead", str(port)], dict(os.environ)):
        with grpc.insecure_channel(f"{LOOPBACK}:{port}", options=_LARGEST) as channel:
            grpc.channel_ready_future(channel).result(timeout=60.0)
        yield f"{LOOPBACK}:{port}"


@contextmanager
def _process(command: Sequence[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60.0
    while time.monotonic() < until:
        with suppress(Unavailable):
            if done():
                return
        time.sleep(0.1)
    raise Unavailable(f"The sidecar does not serve {_ENCODER} after 60 s. See what it wrote above.")


async def _serve_floor(port: int) -> None:
    """Answers any call with as many zeros as the caller asks for."""

    async def call(_request: bytes, context: Any) -> bytes:
        sizes = dict(context.invocation_metadata())
        return bytes(int(sizes["reply-bytes"]))

    _, service, method = _FLOOR.split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(call)}
    server = grpc.aio.server(options=_LARGEST)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"{LOOPBACK}:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve_floor(int(sys.argv[1])))

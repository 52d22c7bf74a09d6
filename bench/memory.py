"""What a sidecar takes with all its caches full: `python -m bench memory`.

A real sidecar process with the default bundles and default bounds. One cache after another is
filled, as requests fill it, to what its setting allows, and the process's RSS is read after each:
what the bounds promise, beside what the kernel counts.
"""

import asyncio
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import orjson
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from bench.report import Report
from bench.running import Running, free_port
from bench.scripted import INDEX, Shop, Site, json_answer, user_of
from bench.workload import default_registry, make_shop
from neuralrank.bundles.registry import Registry
from neuralrank.opensearch.packing import PACKED, pack
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.settings import SidecarSettings

__all__ = ["run"]

_ENCODER: Final = "multilingual-e5-small"
# Of the bound, what counts as full: the next entry may not fit.
_FULL: Final = 0.97
_PRODUCTS: Final = 6_000
_ITEMS: Final = 500
_EVENTS: Final = 100
# Items that events are of: fewer than the cache of items holds.
_TOUCHED: Final = 20_000
# From the first item of a user to that of the next; of no common divisor with those touched.
_STRIDE: Final = 37
_QUERIES: Final = 100
_PAIRS: Final = 500
_LONG_MS: Final = 600_000
_NOW_MS: Final = 1_780_000_000_000


class Endless(Shop):
    """A shop that has every id that is a number, and whose users have all done much."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop.items, shop.encoder, 0)
        self._sources = list(self.items.values())
        self._width = shop.dimensions
        self._random = np.random.default_rng(0)
        self._users: dict[str, int] = {}

    async def _search(self, request: web.Request) -> web.Response:
        ids = orjson.loads(await request.read())["query"]["ids"]["values"]
        hits = [
            {"_index": INDEX, "_id": name, "_seq_no": 1, "_source": self._document(name)}
            for name in ids
        ]
        return json_answer({"hits": {"hits": hits}})

    def _document(self, name: str) -> dict[str, Any]:
        vector = self._random.normal(size=self._width).astype(np.float32)
        return {**self._sources[int(name) % len(self._sources)], PACKED: pack(vector)}

    def _events_of(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        if len(body["query"]["bool"]["filter"]) > 1:  # nobody has bought or blocked
            return []
        # No two of them with the same items: they would have one taste, which is kept once.
        start = self._users.setdefault(user_of(body), len(self._users)) * _STRIDE
        return [
            {
                "_source": {
                    "action_name": "view",
                    "event_attributes": {"object": {"object_id": str((start + n) % _TOUCHED)}},
                },
                "sort": [_NOW_MS - n],
            }
            for n in range(_EVENTS)
        ]


@dataclass(frozen=True)
class _Filled:
    """A cache, its bound in bytes, and what fills it a little more."""

    cache: str
    bound: int
    more: Callable[[], None]


def run() -> None:
    """Prints and writes the report."""
    asyncio.run(_run())


async def _run() -> None:
    registry = Registry(default_registry())
    encoder = registry.get(_ENCODER)
    shop = make_shop(encoder.ref, encoder.manifest.dimensions, products=_PRODUCTS)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="neuralrank-memory-") as folder:
        async with Site(Endless(shop).app()) as site:
            with Running(
                Path(folder) / "sidecar.log", opensearch_url=site.url, registry=registry.url,
                http_listen=f"127.0.0.1:{port}", max_deadline_ms=_LONG_MS,
                encode_deadline_ms=_LONG_MS,
                # A read that came late would leave a cache as it was.
                opensearch_timeout_ms=10_000,
                # Longer than filling takes; else what is kept of users is gone in a moment.
                user_ttl_seconds=3_600,
            ) as sidecar:  # fmt: skip
                await asyncio.to_thread(sidecar.ready)
                rows = await asyncio.to_thread(_fill, sidecar, port, shop)
    Report(
        "memory",
        "Memory of a sidecar with all its caches full",
        rows,
        "Default bounds, the default bundles, products of ESCI with vectors of 384 dimensions, 100 "
        "events a user. `kept` is what the sidecar says of a cache when all are full; RSS is read "
        "after each, in this order.",
    ).publish()


def _fill(sidecar: Running, port: int, shop: Shop) -> list[dict[str, Any]]:
    settings = SidecarSettings()
    with grpc.insecure_channel(sidecar.address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = pb_grpc.RankingStub(channel)
        steps = _steps(stub, settings, _texts(shop))
        rss = [sidecar.usage().rss_mb]
        for step in steps:
            before = -1.0
            while (now := _cache_bytes(port)[step.cache]) < _FULL * step.bound:
                if now <= before:
                    raise RuntimeError(f"The cache {step.cache} stays at {now:,.0f} bytes.")
                before = now
                step.more()
            rss.append(sidecar.usage().rss_mb)
        kept = _cache_bytes(port)
    rows = [_row("ready, nothing kept", 0, 0, rss[0], rss[0])]
    for step, before, after in zip(steps, rss, rss[1:], strict=False):
        rows.append(_row(step.cache, step.bound, kept[step.cache], after, after - before))
    bounds = sum(step.bound for step in steps)
    total = sum(kept[step.cache] for step in steps)
    rows.append(_row("all of them", bounds, total, rss[-1], rss[-1] - rss[0]))
    return rows


def _row(what: str, bound: int, kept: float, rss: float, more: float) -> dict[str, Any]:
    return {
        "what": what,
        "bound MiB": round(bound / 2**20),
        "kept MiB": round(kept / 2**20, 1),
        "RSS MiB": round(rss, 1),
        "more MiB": round(more, 1),
    }


def _steps(stub: Any, settings: SidecarSettings, texts: Iterator[str]) -> list[_Filled]:
    numbers, users = count(), count()

    def items() -> None:
        ids = (str(next(numbers)) for _ in range(_ITEMS))
        _rank(stub, pb.RankRequest(candidates=[pb.Candidate(id=name) for name in ids]))

    def user() -> None:
        _rank(
            stub,
            pb.RankRequest(
                user=pb.User(id=f"user-{next(users)}"), candidates=[pb.Candidate(id="1")]
            ),
        )

    def queries() -> None:
        inputs = [pb.EncodeInput(query=next(texts)[:40]) for _ in range(_QUERIES)]
        stub.Encode(pb.EncodeRequest(inputs=inputs))

    def pairs() -> None:
        chosen = [next(texts) for _ in range(_PAIRS)]
        request = pb.RankRequest(
            query=chosen[0][:40],
            candidates=[pb.Candidate(id=str(n), text=text) for n, text in enumerate(chosen)],
            options=pb.RankOptions(max_reranked=_PAIRS),
        )
        request.options.deadline_ms = _LONG_MS
        stub.Rank(request)

    half = settings.user_cache_bytes // 2
    return [
        _Filled("item", settings.item_cache_bytes, items),
        _Filled("taste", half, user),
        _Filled("user", half, user),
        _Filled("query", settings.query_cache_bytes, queries),
        _Filled("token", settings.token_cache_bytes, pairs),
        _Filled("score", settings.score_cache_bytes, pairs),
    ]


def _rank(stub: Any, request: pb.RankRequest) -> None:
    request.index = INDEX
    request.options.deadline_ms = _LONG_MS
    stub.Rank(request)


def _texts(shop: Shop) -> Iterator[str]:
    """Of products, none twice."""
    titles = [f"{row['title']} {row.get('description', '')}" for row in shop.items.values()]
    for number in count():
        yield f"{number} {titles[number % len(titles)]}"


def _cache_bytes(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {
        sample.labels["cache"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "neuralrank_cache_bytes"
    }

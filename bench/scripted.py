"""An OpenSearch that holds one small shop in memory, for measuring and for injecting faults.

It answers the four things that the sidecar asks for (mappings, items by id, events of a user, a new
event) in OpenSearch's shapes, at a cost of microseconds. So what is measured is the sidecar, and
what a test makes OpenSearch do wrong is known exactly. That the sidecar works with a real node is
for `tests/integration` and `tests/e2e`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import orjson
from aiohttp import web

from neuralrank.opensearch.packing import PACKED, VECTOR, pack

__all__ = ["INDEX", "Shop", "Site", "json_answer", "user_of"]

INDEX = "shop"
_EVENTS = "ubi_events"
_SHARDS = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
# What a large window with vectors takes.
_MAX_BODY = 64 * 2**20


@dataclass
class Shop:
    """Items and events, as documents.

    `items` are `_source` objects by id; a vector is made for each where `dimensions` is given.
    Vectors are random: what they cost is what real ones cost.
    """

    items: Mapping[str, Mapping[str, Any]]
    encoder: str = ""
    dimensions: int = 0
    events: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    asked: int = 0

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        self._hits = {}
        for number, (name, source) in enumerate(self.items.items()):
            document = dict(source)
            if self.dimensions:
                document[PACKED] = pack(random.normal(size=self.dimensions).astype(np.float32))
            hit = {"_index": INDEX, "_id": name, "_seq_no": number, "_source": document}
            # Written once: the shop must not be what is measured.
            self._hits[name] = orjson.dumps(hit)

    def add(self, user: str, action: str, item: str, when_ms: int, query: str = "") -> None:
        """An event; the very next read of the user has it."""
        self.events[user].append(
            {
                "_source": {
                    "action_name": action,
                    "user_query": query,
                    "event_attributes": {"object": {"object_id": item}},
                },
                "sort": [when_ms],
            }
        )

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_get("/{indexes}/_mapping", self._index)
        app.router.add_get("/{index}", self._index)
        app.router.add_post("/{index}/_search", self._search)
        app.router.add_post("/_msearch", self._msearch)
        return app

    async def _index(self, request: web.Request) -> web.Response:
        self.asked += 1
        name = request.match_info.get("index", INDEX)
        if name != INDEX:
            reason = {"type": "index_not_found_exception", "reason": f"no such index [{name}]"}
            return json_answer({"error": reason, "status": 404}, 404)
        said = {"encoder": self.encoder, "packed_vectors": {VECTOR: PACKED}}
        meta = {"neuralrank": said} if self.encoder else {}
        settings = {"index": {"uuid": "scripted"}}
        return json_answer({INDEX: {"mappings": {"_meta": meta}, "settings": settings}})

    async def _search(self, request: web.Request) -> web.Response:
        self.asked += 1
        ids = orjson.loads(await request.read())["query"]["ids"]["values"]
        found = b",".join(self._hits[name] for name in ids if name in self._hits)
        return web.Response(
            body=b'{"took":1,"timed_out":false,"hits":{"hits":[' + found + b"]}}",
            content_type="application/json",
        )

    async def _msearch(self, request: web.Request) -> web.Response:
        self.asked += 1
        lines = [orjson.loads(line) for line in (await request.read()).splitlines() if line]
        responses = []
        for body in lines[1::2]:
            # Without a query it is asked whether there is such an index.
            rows = self._events_of(body) if "query" in body else []
            found = {"hits": rows[: body["size"]]}
            responses.append({"hits": found, "_shards": _SHARDS, "status": 200})
        return json_answer({"took": 1, "responses": responses})

    def _events_of(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Newest first."""
        clauses = body["query"]["bool"]["filter"]
        actions = [row["terms"]["action_name"] for row in clauses[1:]]
        return [
            row
            for row in reversed(self.events.get(user_of(body), []))
            if not actions or row["_source"]["action_name"] in actions[0]
        ]


class Site:
    """An application of aiohttp on a port of this machine; closed and opened again at will."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def open(self) -> None:
        """Listens, on the port that it had before."""
        assert self._runner is not None
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Refuses connections, as a machine whose process has died does."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()


def user_of(body: Mapping[str, Any]) -> str:
    """Whose events a search of the sidecar asks for."""
    return str(body["query"]["bool"]["filter"][0]["bool"]["should"][0]["terms"]["user_id"][0])


def json_answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")

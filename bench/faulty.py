"""A proxy in front of OpenSearch, scripted or real, that does to its answers what networks, full
clusters and broken proxies do. Each fault that was met by a request is counted."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Final, Self

import aiohttp
from aiohttp import web

from bench.scripted import Site

__all__ = ["FAULTS", "FaultProxy"]

# What can be wrong, by name; "none" is for turning it off.
FAULTS: Final = (
    "slow",  # answers rightly, after `seconds`
    "hang",  # takes the request and never answers
    "down",  # refuses connections, and cuts those that are open
    "429",  # too many requests, as OpenSearch words it
    "500",
    "503",
    "html",  # a proxy's error page with status 200
    "empty",  # status 200 and no body
    "not_json",  # cut in the middle of a value, with the right length
    "wrong_shape",  # JSON, of another kind than was asked for
    "wrong_types",  # the right names, with values of other types
    "truncated",  # the connection ends before the promised length
    "reset",  # the connection is reset before a byte of the answer
    "dribble",  # a byte at a time
)
_REJECTED: Final = (
    b'{"error":{"root_cause":[{"type":"rejected_execution_exception","reason":"queue full"}],'
    b'"type":"rejected_execution_exception","reason":"queue full"},"status":429}'
)
_WRONG_TYPES: Final = (
    b'{"took":"x","shop":[],"hits":{"hits":[{"_id":7,"_source":[1,2],"_seq_no":"x"}]},'
    b'"responses":[{"hits":{"hits":[{"_source":"x","sort":["y"]}]}},{"hits":null}]}'
)


class FaultProxy:
    """Forwards to `upstream` until a fault is set, and then does that to every request."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._fault = "none"
        self._seconds = 0.0
        self._session: aiohttp.ClientSession | None = None
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._site = Site(app)
        self._open: set[asyncio.Transport] = set()
        # Requests that met each fault.
        self.injected: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return self._site.url

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        await self._site.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.set("none")
        await self._site.__aexit__()
        if self._session:
            await self._session.close()

    async def set(self, fault: str, seconds: float = 0.0) -> None:
        """From now on; `seconds` is for "slow"."""
        if fault != "none" and fault not in FAULTS:
            raise ValueError(f"no fault {fault!r}; there is: {', '.join(FAULTS)}")
        was, self._fault, self._seconds = self._fault, fault, seconds
        if fault == "down":
            await self._site.close()
            for transport in list(self._open):
                transport.abort()
            self.injected["down"] += 1
        elif was == "down":
            await self._site.open()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is not None:
            self._open = {known for known in self._open if not known.is_closing()} | {transport}
        body = await request.read()
        fault = self._fault
        if fault != "none":
            self.injected[fault] += 1
        match fault:
            case "hang":
                await asyncio.sleep(3_600)
            case "slow":
                await asyncio.sleep(self._seconds)
            case "429":
                return web.Response(status=429, body=_REJECTED, content_type="application/json")
            case "500" | "503":
                return web.Response(status=int(fault), text="upstream failed")
            case "html":
                return web.Response(text="<html>It works!</html>", content_type="text/html")
            case "empty":
                return web.Response(content_type="application/json")
            case "wrong_shape":
                return web.Response(text='["a", 1, null]', content_type="application/json")
            case "wrong_types":
                return web.Response(body=_WRONG_TYPES, content_type="application/json")
            case "reset":
                if transport is not None:
                    transport.abort()
                return web.Response()
        status, kind, answer = await self._forward(request, body)
        if fault == "not_json":
            return web.Response(status=status, body=answer[: len(answer) // 2], content_type=kind)
        if fault in ("truncated", "dribble"):
            return await self._piecemeal(request, status, kind, answer, whole=fault == "dribble")
        return web.Response(status=status, body=answer, content_type=kind)

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, str, bytes]:
        assert self._session is not None
        # The server has unpacked the body already.
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        async with self._session.request(
            request.method,
            f"{self._upstream}{request.path_qs}",
            data=body,
            headers=headers,
            skip_auto_headers=("accept-encoding",),
        ) as answer:
            return answer.status, answer.content_type, await answer.read()

    async def _piecemeal(
        self, request: web.Request, status: int, kind: str, answer: bytes, *, whole: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        response.content_type = kind
        response.content_length = len(answer)
        await response.prepare(request)
        if whole:
            # Until the other side has had enough.
            with suppress(ConnectionError):
                for place in range(len(answer)):
                    await response.write(answer[place : place + 1])
                    await asyncio.sleep(0.01)
        else:
            await response.write(answer[: len(answer) // 2])
            if request.transport is not None:
                request.transport.abort()
        return response

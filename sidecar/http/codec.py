"""JSON by orjson: stricter than Python's own (no NaN, no half characters), and faster."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

__all__ = ["Route", "answer_json"]


class Route(APIRoute):
    """A route whose bodies are decoded by orjson."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def decoded(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return decoded


class _Request(Request):
    async def json(self) -> Any:
        return orjson.loads(await self.body())


def answer_json(value: Any, headers: dict[str, str] | None = None) -> Response:
    """A value as the answer."""
    return Response(orjson.dumps(value), headers=headers, media_type="application/json")

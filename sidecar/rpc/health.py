"""gRPC's standard health service, whose watchers do not hold up the end."""

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2

__all__ = ["Health"]


class Health(health.aio.HealthServicer):  # type: ignore[misc]
    """As the library's, except that `Watch` ends when the server does: the library's goes on until
    the client leaves, and a graceful stop would wait for it to the last second."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        watching = asyncio.ensure_future(super().Watch(request, context))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            watching.cancel()
            ended.cancel()

    async def report(self, name: str, *, serving: bool) -> None:
        """Sets what is said of a service; "" is the whole server."""
        status = health_pb2.HealthCheckResponse.ServingStatus
        await self.set(name, status.SERVING if serving else status.NOT_SERVING)

    def end(self) -> None:
        """Ends every `Watch`, now and from now on."""
        self._ended.set()

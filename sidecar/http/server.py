"""The HTTP server: uvicorn on the event loop that gRPC runs on."""

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import uvicorn

from neuralrank.errors import Unsupported
from sidecar.http.connection import Connection, Patience

__all__ = ["HttpServer"]

_KEEP_ALIVE_SECONDS: Final = 75
_CLOSE_SECONDS: Final = 1
# Connections that wait to be accepted...
_BACKLOG: Final = 1_024
# ...and that are accepted in one go. Where no file is left, asyncio logs a traceback for each, and
# tries again as often: of 2,048 it wrote thousands a second.
_AT_ONCE: Final = 1
_USUAL: Final = Patience()


class HttpServer:
    """Serves one ASGI application until it is stopped."""

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        connections: int,
        patience: Patience = _USUAL,
        max_age: float = math.inf,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            port: 0 for any free one; `port` says which, after `start`.
            connections: that are open at once; requests of one more are answered with 503, but for
                probes and metrics. Of more than twice as many (`most_open`) each is closed.
            patience: how long the other end may take.
            max_age: seconds after which a connection is closed with its next answer.
            tls: what certificates connections are to have. None: plain HTTP.
        """
        self._host = host
        self.port = port
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=connections,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
        )
        self._server = _Server(config, patience, max_age, tls)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens; answers from now on.

        Raises:
            Unsupported: the port is taken, or the host is not this machine's.
        """
        try:
            # Without SO_REUSEPORT: two servers on one port would share its requests.
            listener = _listen(self._host, self.port)
        except OSError as error:
            raise Unsupported(
                f"HTTP can't be served on {self._host}:{self.port}: {error}. Stop what uses it, or "
                "set NEURALRANK_SIDECAR_HTTP_LISTEN."
            ) from error
        self.port = listener.getsockname()[1]
        self._server.listener = listener
        self._running = asyncio.create_task(self._server.serve())
        while not self._server.listening and not self._running.done():
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Takes no more connections and closes those that are open; what is under way has a
        second. Again: does nothing."""
        running, self._running = self._running, None
        if running is not None:
            self._server.should_exit = True
            await running


class _Server(uvicorn.Server):
    """One whose process is not its own: signals are for the sidecar. It listens by itself, as
    uvicorn has no bound on the time of a handshake."""

    listener: socket.socket

    def __init__(
        self, config: uvicorn.Config, patience: Patience, max_age: float, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(config)
        self._patience = patience
        self._max_age = max_age
        self._tls = tls
        self.listening = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets or [])
        # asyncio takes it for TLS only.
        limit = self._patience.head if self._tls else None
        server = await asyncio.get_running_loop().create_server(
            partial(
                Connection,
                patience=self._patience,
                max_age=self._max_age,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            ),
            sock=self.listener,
            ssl=self._tls,
            backlog=_AT_ONCE,
            ssl_handshake_timeout=limit,
            ssl_shutdown_timeout=limit,
        )
        self.listener.listen(_BACKLOG)
        self.servers.append(server)
        self.listening = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener

"""`neuralrank-sidecar`: runs the ranking service until it is told to stop."""

import asyncio
import logging
import signal
import sys
from typing import Annotated

import typer
from threadpoolctl import threadpool_limits

from neuralrank.errors import NeuralrankError, exit_code
from neuralrank.settings import load_settings
from sidecar.logs import configure_logs
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings, load_sidecar_settings

__all__ = ["main"]

_log = logging.getLogger(__name__)


def serve(
    listen: Annotated[
        str | None, typer.Option(help="host:port of gRPC. [default: 127.0.0.1:50051]")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="The model registry, a path or URL. [default: the stack's]")
    ] = None,
    opensearch_url: Annotated[
        str | None, typer.Option(help="OpenSearch. [default: the local stack's]")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of Prometheus metrics; 0 for none. [default: 0]")
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Listen beyond this machine without TLS."),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [default: info]")
    ] = None,
) -> None:
    """Ranks search results for each user, over gRPC. Logs to stderr, one JSON object a line.

    Every setting is an environment variable NEURALRANK_SIDECAR_…; docs/services.md lists them.
    SIGTERM and SIGINT finish the requests under way and then end it.
    """
    settings = load_sidecar_settings(
        listen=listen,
        registry=registry,
        metrics_port=metrics_port,
        insecure=insecure,
        log_level=log_level,
    )
    configure_logs(settings.log_level)
    asyncio.run(_serve(settings, opensearch_url))


async def _serve(settings: SidecarSettings, opensearch_url: str | None) -> None:
    # numpy's products here take microseconds; shared among threads they wait for a free core, which
    # on a busy machine took 20 ms. Models have threads of their own (the setting `threads`).
    threadpool_limits(1, "blas")
    sidecar = Sidecar(settings, load_settings(opensearch_url=opensearch_url))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await sidecar.start()
    await stop.wait()
    _log.info("stopping", extra={"drain_seconds": settings.drain_seconds})
    await sidecar.stop()


def main() -> None:
    """Runs the service; an expected error becomes one line on stderr and its exit code."""
    try:
        typer.run(serve)
    except NeuralrankError as error:
        print(f"neuralrank-sidecar: {error}", file=sys.stderr)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()

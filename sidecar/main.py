"""`neuralrank-sidecar`: runs the ranking service until it is told to stop."""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from threadpoolctl import threadpool_limits

from neuralrank.errors import NeuralrankError, exit_code
from neuralrank.settings import load_settings
from sidecar.access.connections import most_open_in_all
from sidecar.processes.supervisor import Supervisor, worker_environment
from sidecar.processes.worker import Parent
from sidecar.settings import SidecarSettings, load_sidecar_settings
from sidecar.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from sidecar.server import Sidecar

__all__ = ["main"]

_log = logging.getLogger(__name__)
_SWITCH_SECONDS: Final = 0.0005
# New objects after which garbage is looked for. A page of 1,000 candidates makes some thousands,
# and none of them is garbage yet: Python's own 700 took a twentieth of its time.
_YOUNG: Final = 20_000
# Of gRPC's own core: errors only. At its default there is a line, and no JSON, for each handshake
# that fails, and whoever scans ports makes as many as they like.
_GRPC_VERBOSITY: Final = "ERROR"
# Files for what is no connection of a client: bundles, OpenSearch, the system's own.
_FILES: Final = 1_000


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
    http_listen: Annotated[
        str | None,
        typer.Option(help="host:port of HTTP: rerank APIs, probes, metrics. [default: none]"),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Listen beyond this machine without TLS."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Worker processes on one port. [default: 1]")
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True, help="For ourselves.")] = False,
    backend: Annotated[
        str | None, typer.Option(help="auto, onnxruntime or tensorrt. [default: auto]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [default: info]")
    ] = None,
) -> None:
    """Ranks search results for each user, over gRPC. Logs to stderr, one JSON object a line.

    Every setting is an environment variable NEURALRANK_SIDECAR_…; docs/services.md lists them.
    SIGTERM, SIGINT and SIGHUP (a closed terminal) finish the requests under way and then end it.
    """
    # Threads that run models take the interpreter for moments; with Python's own 5 ms the event
    # loop would wait that long for it, several times a request.
    sys.setswitchinterval(_SWITCH_SECONDS)
    settings = load_sidecar_settings(
        listen=listen,
        registry=registry,
        http_listen=http_listen,
        insecure=insecure,
        backend=backend,
        log_level=log_level,
        processes=processes,
    )
    configure_logs(settings.log_level)
    if settings.processes > 1 and not worker:
        sys.exit(asyncio.run(_supervise(settings, opensearch_url)))
    asyncio.run(_serve(settings, opensearch_url, worker=worker))


async def _serve(settings: SidecarSettings, opensearch_url: str | None, *, worker: bool) -> None:
    # Before gRPC is imported, which reads it then.
    os.environ.setdefault("GRPC_VERBOSITY", _GRPC_VERBOSITY)
    # Here and not above: the parent of several workers loads none of it.
    from sidecar.server import Sidecar

    # numpy's products here take microseconds; shared among threads they wait for a free core, which
    # on a busy machine took 20 ms. Models have threads of their own (the setting `threads`).
    threadpool_limits(1, "blas")
    _allow_files(settings)
    stack = load_settings(opensearch_url=opensearch_url)
    sidecar = Sidecar(settings, stack, shared_port=worker)
    stop = asyncio.Event()
    _on_signals(stop.set)
    if worker:
        await _join(sidecar, stop)
    if not stop.is_set():
        await sidecar.start()
    # What was imported stays: no collection of garbage needs to look through it again. A full one
    # held all threads for 50 ms, in the middle of somebody's request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
    await stop.wait()
    _log.info("stopping", extra={"drain_seconds": settings.drain_seconds})
    await sidecar.stop()
    _end()


def _allow_files(settings: SidecarSettings) -> None:
    """As many open files as connections may need, where the system lets us. The usual limit of
    1,024 is less than they are, and who finds none left is not answered, probes included."""
    need = most_open_in_all(settings.max_connections) + _FILES
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= need:
        return
    most_now = need if most == resource.RLIM_INFINITY else min(need, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_now, most))
    if most_now < need:
        _log.warning(
            "too few files may be open for so many connections: raise the limit (ulimit -n), or "
            "lower NEURALRANK_SIDECAR_MAX_CONNECTIONS",
            extra={"files": most_now, "needed": need},
        )


def _end() -> NoReturn:
    """Ends the process, whatever its threads do: one that reads a registry which hangs (a network
    file system whose server is gone) would keep it until it is killed."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _join(sidecar: "Sidecar", stop: asyncio.Event) -> None:
    """Waits until this worker and all others are warm, or until it is to stop."""
    parent = Parent(stop.set)

    async def warm() -> None:
        await sidecar.load()
        await parent.ready()

    waiting = {asyncio.create_task(warm()), asyncio.create_task(stop.wait())}
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    for task in done:
        task.result()


async def _supervise(settings: SidecarSettings, opensearch_url: str | None) -> int:
    command = [sys.executable, "-m", "sidecar.main", "--worker"]
    environment = worker_environment(settings, os.environ)
    if opensearch_url:  # which may hold a password, and flags can be seen by everybody
        environment["NEURALRANK_OPENSEARCH_URL"] = opensearch_url
    supervisor = Supervisor(settings, command, environment)
    _on_signals(supervisor.stop)
    return await supervisor.run()


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A terminal that is closed ends it, unless it was started with `nohup`.
        if signal.getsignal(name) is not signal.SIG_IGN:
            loop.add_signal_handler(name, stop)


def main() -> None:
    """Runs the service; an expected error becomes one line on stderr and its exit code."""
    try:
        typer.run(serve)
    except NeuralrankError as error:
        print(f"neuralrank-sidecar: {error}", file=sys.stderr)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()

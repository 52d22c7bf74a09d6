"""Several worker processes on one port, and the small process that keeps them running.

Each worker is a whole sidecar: the kernel spreads connections over them (SO_REUSEPORT). The parent
serves nothing and loads no models. They talk over a pair of sockets, of which one is the worker's
standard input: it says "warm" there, and listens when it hears "go"; the end of it means that the
parent is gone, and so the worker goes too (`sidecar.processes.worker`). A worker's standard output
and error are the parent's own: what is written there waits for nobody in between.
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from neuralrank.errors import EXIT_CODE, Unsupported
from sidecar.cores import available_cores
from sidecar.deadline import Clock
from sidecar.processes.restarts import Restarts
from sidecar.processes.worker import GO, WARM
from sidecar.settings import SidecarSettings

__all__ = ["Supervisor", "worker_environment"]

_log = logging.getLogger(__name__)

# So many starts that came to nothing, and the others don't wait for this one any longer.
_TRIES: Final = 3
# What a worker may take to end beyond draining, before it is killed.
_PATIENCE_S: Final = 10.0


@dataclass(frozen=True)
class _Worker:
    """A process, and what it says and hears."""

    process: asyncio.subprocess.Process
    said: asyncio.StreamReader
    heard: asyncio.StreamWriter


class Supervisor:
    """Starts the workers, restarts one that ended, and ends them all."""

    def __init__(
        self,
        settings: SidecarSettings,
        command: Sequence[str],
        environment: Mapping[str, str],
        clock: Clock = time.monotonic,
        restarts: Callable[[], Restarts] = Restarts,
    ) -> None:
        """
        Args:
            settings: of the sidecar; `processes` is how many workers.
            command: starts one worker.
            environment: of the workers, with their settings.
            restarts: makes the pauses of one worker's place.
        """
        self._settings = settings
        self._command = tuple(command)
        self._environment = dict(environment)
        self._clock = clock
        self._restarts = restarts
        self._warm: set[int] = set()
        # Those that the others don't wait for.
        self._given_up: set[int] = set()
        self._all_warm = asyncio.Event()
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Until `stop`, or until a worker can't start because of what it was given. The result is
        the exit code.

        Raises:
            Unsupported: the port is taken, or one of those for HTTP.
        """
        with reserve(self._settings.listen) as held:
            if self._settings.http_listen:
                _check_http(*self._settings.http_address, self._settings.processes)
            host = self._settings.address[0]
            address = f"{host}:{held.getsockname()[1]}"
            _log.info(
                "starting workers",
                extra={"processes": self._settings.processes, "address": address},
            )
            await asyncio.gather(
                *(self._keep(number, address) for number in range(self._settings.processes))
            )
        return self._exit_code

    def stop(self) -> None:
        """Has the workers finish what they have and end. Again: does nothing more."""
        if not self._stopping.is_set():
            self._stopping.set()
            # Those that wait for the others to be warm.
            self._all_warm.set()

    async def _keep(self, number: int, address: str) -> None:
        """One worker after another in one place, until all are to end."""
        restarts = self._restarts()
        tries = 0
        while not self._stopping.is_set():
            begun = self._clock()
            try:
                worker = await self._start(number, address)
            except OSError as error:
                # No process or no file is left on this machine just now; the others serve on.
                pid, how = 0, f"not started: {error.strerror}"
            else:
                code = await self._live(number, worker)
                if self._stopping.is_set():
                    return
                if code in EXIT_CODE.values() and not self._all_warm.is_set():
                    # Its settings, the port, the registry: the next one would fail as well.
                    self._exit_code = code
                    self.stop()
                    return
                pid, how = worker.process.pid, _how(code)
            pause = restarts.pause(self._clock() - begun)
            _log.error(
                "a worker ended; it is started again",
                extra={"worker": number, "pid": pid, "ended": how, "pause_seconds": pause},
            )
            tries += 1
            if tries == _TRIES and not self._all_warm.is_set():
                _log.error(
                    "a worker ends at every start; the others listen without it",
                    extra={"worker": number, "starts": tries, "ended": how},
                )
                self._given_up.add(number)
                self._look()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _start(self, number: int, address: str) -> _Worker:
        """
        Raises:
            OSError: the system has no process, memory or file for it.
        """
        own = {"NEURALRANK_SIDECAR_LISTEN": address}
        if self._settings.http_listen:
            host, port = self._settings.http_address
            own["NEURALRANK_SIDECAR_HTTP_LISTEN"] = f"{host}:{port + number if port else 0}"
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command, env=self._environment | own, stdin=theirs.fileno()
                )
            except OSError:
                ours.close()
                raise
        return _Worker(process, *await asyncio.open_connection(sock=ours))

    async def _live(self, number: int, worker: _Worker) -> int:
        """From its start to its end, or to that of all: its exit code."""
        ended = asyncio.create_task(self._attend(number, worker))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await self._end(worker.process, ended)
        stopping.cancel()
        code = await ended
        worker.heard.close()
        return code

    async def _attend(self, number: int, worker: _Worker) -> int:
        """Lets a worker listen when there is none to wait for, and waits for its end: its exit
        code."""
        with suppress(ConnectionError):
            if await worker.said.readline() == WARM:
                await self._let_listen(number, worker)
        return await worker.process.wait()

    async def _let_listen(self, number: int, worker: _Worker) -> None:
        """
        Raises:
            ConnectionError: it has ended meanwhile.
        """
        self._warm.add(number)
        self._look()
        # One that dies while the others warm up is not waited for here.
        ready = asyncio.create_task(self._all_warm.wait())
        died = asyncio.create_task(worker.process.wait())
        await asyncio.wait({ready, died}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if died.done():
            self._warm.discard(number)
        elif not self._stopping.is_set():
            worker.heard.write(GO)
            await worker.heard.drain()

    def _look(self) -> None:
        """Lets those that are warm listen, once there is none to wait for."""
        if self._warm and len(self._warm | self._given_up) == self._settings.processes:
            self._all_warm.set()

    async def _end(self, process: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait({ended}, timeout=self._settings.drain_seconds + _PATIENCE_S)
        if not ended.done():
            _log.error("a worker did not end and is killed", extra={"pid": process.pid})
            with suppress(ProcessLookupError):
                process.kill()


def worker_environment(settings: SidecarSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a worker finds the settings that the parent was given, by flags too.

    Each worker has its share of the cores: all of them with all cores would only wait for each
    other.
    """
    given = settings.model_fields_set - {"processes"}
    own = {f"NEURALRANK_SIDECAR_{name.upper()}": str(getattr(settings, name)) for name in given}
    if not settings.threads:
        share = max(1, available_cores() // settings.processes)
        own["NEURALRANK_SIDECAR_THREADS"] = str(share)
    kept = {
        name: value for name, value in environment.items() if name != "NEURALRANK_SIDECAR_PROCESSES"
    }
    return kept | own


def reserve(listen: str) -> socket.socket:
    """A socket that holds the port for workers that come and go, without listening itself.

    Raises:
        Unsupported: somebody else listens there.
    """
    host, _, port = listen.rpartition(":")
    name = host.strip("[]")
    try:
        family, _, _, _, where = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Fails where anybody listens, also one who would share the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            where = probe.getsockname()
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(where)
    except OSError as error:
        raise Unsupported(
            f"The sidecar can't listen on {listen}: the port is in use or the host is not this "
            f"machine's ({error.strerror}). Stop what uses it, or set NEURALRANK_SIDECAR_LISTEN."
        ) from error
    return held


def _check_http(host: str, port: int, processes: int) -> None:
    """Whether each worker finds its port free: it would look for it only when all are warm, fail,
    and be started again for ever.

    Raises:
        Unsupported: one does not.
    """
    name = host.strip("[]")
    for number in range(processes if port else 1):
        where = f"{host}:{port + number}"
        try:
            family = socket.AF_INET6 if ":" in name else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((name, port + number))
        except (OSError, OverflowError) as error:
            raise Unsupported(
                f"HTTP of worker {number} can't be served on {where}: {error}. Each of the "
                f"{processes} processes has a port of its own, from {host}:{port} on. Stop what "
                "uses it, or set NEURALRANK_SIDECAR_HTTP_LISTEN."
            ) from error


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"

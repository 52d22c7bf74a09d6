"""Brings the local stack up and down, and says how it is.

`up` is idempotent: it starts what does not run, restarts what was made from other sources or
settings, and leaves the rest alone. `down` ends only what `up` started.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from neuralrank.errors import InvalidSettings, Unavailable
from neuralrank.stack.artifacts import CHECKOUT, build_plugin, fingerprint
from neuralrank.stack.node import Node, can_enter, check_space, node_account, node_folder
from neuralrank.stack.ports import LOOPBACK, choose_port
from neuralrank.stack.probe import OpenSearch, check_existing, opensearch_status, sidecar_status
from neuralrank.stack.processes import Process, is_alive, start, stop, tail
from neuralrank.stack.state import State, locked
from neuralrank.stack.toolchain import Jdk, find_jdk

__all__ = ["Report", "UpOptions", "down", "status", "up"]

# Told in words what is being done.
Report = Callable[[str], None]

OPENSEARCH_PORT: Final = 9200
SIDECAR_PORT: Final = 50051
HEAP: Final = "1g"
POLL_S: Final = 0.25


@dataclass(frozen=True)
class UpOptions:
    """What `up` is asked for. None: as it runs now, else the default."""

    home: Path
    # The model registry that the sidecar serves from, any path that fsspec understands.
    registry: str
    # Ports; 0 is any free one. Defaults: 9200, any free one, 50051.
    opensearch_port: int | None = None
    transport_port: int | None = None
    sidecar_port: int | None = None
    # The node's heap, e.g. "512m". Default: 1g. More than half of the memory is too much.
    heap: str | None = None
    # An OpenSearch that is there already, to be used instead of starting one.
    opensearch_url: str | None = None
    opensearch_user: str = ""
    opensearch_password: str = ""
    opensearch_verify_certs: bool = True
    # Whether the sidecar is started too.
    sidecar: bool = True
    # The built plugin, where there is no checkout to build it from.
    plugin_zip: Path | None = None
    # How long each part may take to become healthy.
    timeout_s: float = 180.0


def up(options: UpOptions, report: Report) -> State:
    """Brings the stack up, waits until it is healthy, and remembers it in `stack.json`.

    Raises:
        InvalidSettings: an option can't be used.
        Unsupported: no JDK, no Maven, no disk space, a port in use, or an existing OpenSearch
            without the plugins; nothing is left half done.
        Unavailable: something did not become healthy; the message ends with its log.
    """
    if options.heap is not None and not re.fullmatch(r"[1-9]\d*[mMgG]", options.heap):
        raise InvalidSettings(f"--heap: got {options.heap!r}; write it as 512m or 2g.")
    with locked(options.home, report):
        state = State.load(options.home)
        state = state.without_dead() if state else None
        if _wants_existing(options, state):
            state = _use_existing(options, state, report)
        else:
            state = _start_node(options, state, report)
        state.save()
        if options.sidecar:
            state = _start_sidecar(options, state, report)
        return state


def down(home: Path, report: Report, wipe: bool = False) -> list[str]:
    """Ends the processes that `up` started in a home folder, and only those.

    Args:
        wipe: whether the node's data (all indexes, all events) is deleted too.

    Returns:
        The names of what was ended, e.g. ["sidecar", "opensearch"].
    """
    ended: list[str] = []
    if not home.is_dir():
        return ended
    with locked(home, report):
        state = State.load(home)
        if state is not None:
            # The sidecar first: it asks OpenSearch, not the other way round.
            for name, process in (
                ("sidecar", state.sidecar_process),
                ("opensearch", state.opensearch_process),
            ):
                if process is not None and stop(process):
                    report(f"ended {name} (process {process.pid})")
                    ended.append(name)
            state.file.unlink(missing_ok=True)
        if wipe:
            folder = (state and state.node_folder) or node_folder(home, node_account())
            shutil.rmtree(folder / "data", ignore_errors=True)
            report(f"deleted the node's data in {folder / 'data'}")
    return ended


def status(home: Path, opensearch: OpenSearch, sidecar: str) -> dict[str, Any]:
    """How the stack is: addresses, health, process ids, logs.

    Args:
        opensearch: where to look, also when `up` started nothing.
        sidecar: the sidecar's host:port.

    Returns:
        {"healthy": bool, "opensearch": {"url", "status", "pid", "started_here"}, "sidecar":
        {"address", "status", "pid", "started_here"}, "home", "logs"}. The sidecar counts only if
        `up` started one or none was started by `up` at all.
    """
    state = State.load(home)
    pids: dict[str, int | None] = {"opensearch": None, "sidecar": None}
    if state is not None:
        for name, process in (
            ("opensearch", state.opensearch_process),
            ("sidecar", state.sidecar_process),
        ):
            pids[name] = process.pid if process and is_alive(process) else None
    search = opensearch_status(opensearch)
    ranking = sidecar_status(sidecar)
    without_sidecar = state is not None and not state.sidecar
    healthy = search in ("green", "yellow") and (without_sidecar or ranking == "serving")
    return {
        "healthy": healthy,
        "opensearch": {
            "url": opensearch.url,
            "status": search,
            "pid": pids["opensearch"],
            "started_here": state is not None and not state.external,
        },
        "sidecar": {
            "address": sidecar,
            "status": ranking,
            "pid": pids["sidecar"],
            "started_here": state is not None and bool(state.sidecar),
        },
        "home": str(home),
        "logs": {name: str(log) for name, log in state.logs.items()} if state else {},
    }


def _wants_existing(options: UpOptions, state: State | None) -> bool:
    """Whether somebody else's OpenSearch is to be used: named now, or named when it came up.

    The address of our own node, as other commands get it from the environment, is not that.
    """
    if options.opensearch_url:
        ours = state is not None and not state.external
        return not (ours and state is not None and state.opensearch_url == options.opensearch_url)
    return state is not None and state.external and options.opensearch_port is None


def _use_existing(options: UpOptions, state: State | None, report: Report) -> State:
    url = (options.opensearch_url or (state.opensearch_url if state else "")).rstrip("/")
    check_existing(
        OpenSearch(
            url,
            options.opensearch_user,
            options.opensearch_password,
            options.opensearch_verify_certs,
        )
    )
    if state is not None and state.opensearch_process is not None:
        raise InvalidSettings(
            f"--opensearch-url: got {url}, but this stack runs its own OpenSearch at "
            f"{state.opensearch_url}. End it first: `neuralrank down --home {options.home}`."
        )
    report(f"OpenSearch at {url} is healthy and has the plugins")
    kept = state or State(home=options.home, opensearch_url=url)
    return replace(kept, opensearch_url=url, external=True)


def _start_node(options: UpOptions, state: State | None, report: Report) -> State:
    """The node: left alone if it is what was asked for, else installed and started."""
    account = node_account()
    folder = node_folder(options.home, account)
    found: list[Jdk] = []

    def jdk() -> Jdk:
        if not found:
            found.append(find_jdk(usable=lambda home: can_enter(home.resolve(), account)))
        return found[0]

    plugin = build_plugin(jdk, report, options.plugin_zip)
    node = Node(folder, account, jdk())
    running = state.opensearch_process if state else None
    heap = options.heap or (state.heap if state else "") or HEAP
    known = state if state is not None and not state.external else None

    port = _port(options.opensearch_port, known.opensearch_port if known else None, OPENSEARCH_PORT)
    transport = _port(options.transport_port, known.transport_port if known else None, 0)
    sidecar = _port(options.sidecar_port, state.sidecar_port if state else None, SIDECAR_PORT)
    if running is None or known is None or known.opensearch_port != port:
        port = choose_port(port, "OpenSearch", "--opensearch-port")
    if running is None or known is None or known.transport_port != transport:
        transport = choose_port(transport, "OpenSearch's transport", "--transport-port")
    # The node is told the sidecar's address when it starts, so that is chosen now.
    sidecar_runs = state is not None and state.sidecar_process is not None
    if not (sidecar_runs and state is not None and state.sidecar_port == sidecar):
        sidecar = choose_port(sidecar, "the sidecar", "--sidecar-port")

    settings = node.settings(port, transport, f"{LOOPBACK}:{sidecar}")
    wanted = node.fingerprint(plugin, heap, settings)
    url = f"http://{LOOPBACK}:{port}"
    probe = OpenSearch(url)
    if running is not None:
        if running.fingerprint == wanted and state is not None:
            _wait("OpenSearch", lambda: _up(probe), running, state, "opensearch", options)
            report(f"OpenSearch at {url} is healthy (process {running.pid})")
            return replace(state, sidecar_port=sidecar)
        report("its settings or the plugin changed: restarting OpenSearch")
        stop(running)

    check_space(folder)
    if folder.parent != options.home.resolve():
        report(
            f"{options.home} can't be entered by {account.name if account else 'this account'}, "
            f"who runs OpenSearch; the node goes to {folder}"
        )
    node.install(options.home / "downloads", plugin, report)
    log = options.home / "logs" / "opensearch.log"
    who = f" as {account.name}, since it refuses root" if account else ""
    report(f"starting OpenSearch at {url}{who}; log: {log}")
    process = node.start(log, heap, settings, wanted)
    started = replace(
        state or State(home=options.home, opensearch_url=url),
        opensearch_url=url,
        external=False,
        node_folder=folder,
        opensearch_port=port,
        transport_port=transport,
        sidecar_port=sidecar,
        heap=heap,
        opensearch_process=process,
    )
    # Before waiting: if this is interrupted, `down` still knows the process.
    started.save()
    _wait("OpenSearch", lambda: _up(probe), process, started, "opensearch", options)
    report(f"OpenSearch is healthy (process {process.pid})")
    return started


def _start_sidecar(options: UpOptions, state: State, report: Report) -> State:
    port = _port(options.sidecar_port, state.sidecar_port, SIDECAR_PORT)
    running = state.sidecar_process
    if running is None or state.sidecar_port != port:
        port = choose_port(port, "the sidecar", "--sidecar-port")
    address = f"{LOOPBACK}:{port}"
    _fill_registry(options.registry, report)
    environment = os.environ | {
        "NEURALRANK_HOME": str(options.home),
        "NEURALRANK_SIDECAR_LISTEN": address,
        "NEURALRANK_OPENSEARCH_URL": state.opensearch_url,
        "NEURALRANK_REGISTRY": options.registry,
        "PYTHONUNBUFFERED": "1",
    }
    wanted = _sidecar_fingerprint(address, state.opensearch_url, options.registry)
    if running is not None:
        if running.fingerprint == wanted:
            _wait("The sidecar", lambda: _serves(address), running, state, "sidecar", options)
            report(f"the sidecar at {address} is serving (process {running.pid})")
            return state
        report("its settings or sources changed: restarting the sidecar")
        stop(running)
    log = options.home / "logs" / "sidecar.log"
    report(f"starting the sidecar at {address}; log: {log}")
    process = start(
        [sys.executable, "-m", "sidecar.main"],
        log=log,
        environment=environment,
        fingerprint=wanted,
        folder=options.home,
    )
    started = replace(state, sidecar=address, sidecar_port=port, sidecar_process=process)
    started.save()
    _wait("The sidecar", lambda: _serves(address), process, started, "sidecar", options)
    report(f"the sidecar is serving (process {process.pid})")
    return started


def _fill_registry(registry: str, report: Report) -> None:
    """An empty registry gets the default models."""
    # Loads the ONNX libraries; only needed here.
    from neuralrank.models import add_defaults
    from neuralrank.registry import Registry

    if not Registry(registry).list():
        report(f"adding the default models to {registry}")
        add_defaults(registry, report)


def _sidecar_fingerprint(address: str, opensearch_url: str, registry: str) -> str:
    """Changes when the running sidecar would differ from one started now: settings or code."""
    package = Path(__file__).resolve().parent.parent
    parts = [address, opensearch_url, registry, sys.executable]
    # What only this command uses does not matter there.
    sources = [
        path for path in sorted(package.iterdir()) if path.name not in ("cli", "stack", "models")
    ]
    sources.append(package.parent / "sidecar")
    return f"{fingerprint(sources, CHECKOUT, '.py')}:{'|'.join(parts)}"


def _port(asked: int | None, current: int | None, default: int) -> int:
    """The port to use: what was asked for, else what it has, else the default. Asking for any
    free port (0) is met by the one it has."""
    if asked is None or asked == 0:
        return current or (default if asked is None else 0)
    return asked


def _up(opensearch: OpenSearch) -> bool:
    return opensearch_status(opensearch) in ("green", "yellow")


def _serves(address: str) -> bool:
    return sidecar_status(address) == "serving"


def _wait(
    what: str,
    ready: Callable[[], bool],
    process: Process,
    state: State,
    name: str,
    options: UpOptions,
) -> None:
    """Waits until a part is ready; one that ends or takes too long is an error with its log."""
    deadline = time.monotonic() + options.timeout_s
    log = state.logs[name]
    while not ready():
        if not is_alive(process):
            raise Unavailable(f"{what} ended while starting. The last lines of {log}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{what} (process {process.pid}) was not healthy after {options.timeout_s:.0f} s. "
                "It still runs; wait and look with `neuralrank status`, or end it with "
                f"`neuralrank down`. The last lines of {log}:\n{tail(log)}"
            )
        time.sleep(POLL_S)

"""Brings the local stack up and down, and says how it is.

`up` is idempotent: it starts what does not run, restarts what was made from other sources or
settings, and leaves the rest alone. `down` ends only what `up` started.
"""

import shutil
import time
from pathlib import Path
from typing import Any, Final

from neuralrank.stack.node import is_installed, node_account, node_folder
from neuralrank.stack.options import Report, UpOptions
from neuralrank.stack.probe import (
    OpenSearch,
    opensearch_status,
    plugin_reaches,
    sidecar_status,
)
from neuralrank.stack.processes import is_alive, stop
from neuralrank.stack.ranking import start_sidecar
from neuralrank.stack.readiness import POLL_S
from neuralrank.stack.search import (
    report_sidecars,
    same,
    start_node,
    use_existing,
    wants_existing,
)
from neuralrank.stack.setup import check_setup
from neuralrank.stack.state import State, locked

__all__ = ["down", "status", "up"]

# The longest pause between the plugin's attempts to connect is shorter while it is young.
_JOIN_S: Final = 30.0


def up(options: UpOptions, report: Report) -> State:
    """Brings the stack up, waits until it is healthy, and remembers it in `stack.json`.

    Raises:
        InvalidSettings: an option can't be used.
        Unsupported: no JDK, no Maven, no disk space, a port in use, an existing OpenSearch without
            the plugins, or an environment of before a `git pull`; nothing is left half done.
        Unavailable: something did not become healthy; the message ends with its log.
    """
    check_setup()
    with locked(options.home, report):
        state = State.load(options.home)
        state = state.without_dead() if state else None
        if wants_existing(options, state):
            state = use_existing(options, state, report)
        else:
            state = start_node(options, state, report)
        state.save()
        if options.sidecar:
            state = start_sidecar(options, state, report)
            if state.external:
                report_sidecars(options, state, report)
            else:
                _join(state, report)
        return state


def _join(state: State, report: Report) -> None:
    """Waits until the plugin has found the sidecar. It was started before it, and pauses between
    its attempts to connect: the first query would come back in its original order."""
    deadline = time.monotonic() + _JOIN_S
    while not plugin_reaches(OpenSearch(state.opensearch_url), state.sidecar):
        if time.monotonic() > deadline:
            report(
                f"the plugin has not connected to the sidecar at {state.sidecar} yet; until it "
                "has, queries come back in their original order"
            )
            return
        time.sleep(POLL_S)


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
            _wipe((state and state.node_folder) or node_folder(home, node_account()), report)
    return ended


def _wipe(folder: Path, report: Report) -> None:
    """Deletes the data of a node that `up` installed, and nobody else's."""
    data = folder / "data"
    if not is_installed(folder):
        report(f"nothing was deleted: {folder} holds no node that `neuralrank up` installed")
        return
    if data.exists():
        shutil.rmtree(data)
    report(f"deleted the node's data in {data}")


def status(home: Path, opensearch: OpenSearch, sidecar: str) -> dict[str, Any]:
    """How the stack is: addresses, health, process ids, logs.

    Args:
        opensearch: where to look, also when `up` started nothing.
        sidecar: the sidecar's host:port.

    Returns:
        {"healthy": bool, "opensearch": {"url", "status", "pid", "started_here"}, "sidecar":
        {"address", "http", "status", "pid", "started_here"}, "home", "logs"}. The sidecar counts
        only if `up` started one or none was started by `up` at all; `http`, where it listens on
        HTTP, is known of one that `up` started, else "". Of a part elsewhere, as the environment
        may name one, there is no process and no log.
    """
    state = State.load(home)
    pids: dict[str, int | None] = {"opensearch": None, "sidecar": None}
    logs: dict[str, str] = {}
    if state is not None:
        for name, process, ours in (
            ("opensearch", state.opensearch_process, same(state.opensearch_url, opensearch.url)),
            ("sidecar", state.sidecar_process, same(state.sidecar, sidecar)),
        ):
            if ours and process:
                pids[name] = process.pid if is_alive(process) else None
                logs[name] = str(state.logs[name])
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
            "started_here": "opensearch" in logs,
        },
        "sidecar": {
            "address": sidecar,
            "http": state.sidecar_http if state and "sidecar" in logs else "",
            "status": ranking,
            "pid": pids["sidecar"],
            "started_here": "sidecar" in logs,
        },
        "home": str(home),
        "logs": logs,
    }

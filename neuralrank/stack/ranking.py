"""The sidecar of the stack, and the models that it serves."""

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from neuralrank.stack.artifacts import fingerprint
from neuralrank.stack.options import SIDECAR_PORT, Report, UpOptions, pick_port
from neuralrank.stack.ports import LOOPBACK, choose_port
from neuralrank.stack.probe import sidecar_status
from neuralrank.stack.processes import start, stop
from neuralrank.stack.readiness import wait_until_ready
from neuralrank.stack.state import State

__all__ = ["fill_registry", "sidecar_port", "start_sidecar"]

# Of the settings that the sidecar reads from its environment.
_PREFIX: Final = "NEURALRANK_SIDECAR_"


def sidecar_port(options: UpOptions, state: State | None) -> int:
    """The port for the sidecar: the one it listens on, if that is what is asked for, else a free
    one.

    Raises:
        Unsupported: the port is in use.
    """
    current = state.sidecar_port if state else 0
    port = pick_port(options.sidecar_port, current, SIDECAR_PORT)
    if state is not None and state.sidecar_process is not None and state.sidecar_listens == port:
        return port
    return choose_port(port, "the sidecar", "--sidecar-port")


def start_sidecar(options: UpOptions, state: State, report: Report) -> State:
    """The sidecar: left alone if it is what was asked for, else started."""
    port = sidecar_port(options, state)
    running = state.sidecar_process
    address = f"{LOOPBACK}:{port}"
    log = options.home / "logs" / "sidecar.log"
    fill_registry(options.registry, report)
    environment = os.environ | {
        "NEURALRANK_HOME": str(options.home),
        "NEURALRANK_SIDECAR_LISTEN": address,
        "NEURALRANK_OPENSEARCH_URL": state.opensearch_url,
        # The address may have brought them. They are written down nowhere.
        "NEURALRANK_OPENSEARCH_USER": options.opensearch_user,
        "NEURALRANK_OPENSEARCH_PASSWORD": options.opensearch_password,
        "NEURALRANK_OPENSEARCH_CA": options.opensearch_ca,
        "NEURALRANK_REGISTRY": options.registry,
        "PYTHONUNBUFFERED": "1",
    }
    wanted = _sidecar_fingerprint(address, state.opensearch_url, options)
    if running is not None:
        if running.fingerprint == wanted:
            wait_until_ready(
                "The sidecar", partial(_serves, address), running, log, options.timeout_s
            )
            report(f"the sidecar at {address} is serving (process {running.pid})")
            return state
        report("its settings or sources changed: restarting the sidecar")
        stop(running)
    if lost := [name for name in state.sidecar_settings if name not in environment]:
        report(
            f"note: the sidecar ran with {', '.join(lost)}, which the environment does not have "
            "now: it starts without. Set it for each `neuralrank up`"
        )
    report(f"starting the sidecar at {address}; log: {log}")
    process = start(
        [sys.executable, "-m", "sidecar.main"],
        log=log,
        environment=environment,
        fingerprint=wanted,
        folder=options.home,
    )
    started = replace(
        state,
        sidecar=address,
        sidecar_http=os.environ.get("NEURALRANK_SIDECAR_HTTP_LISTEN", ""),
        sidecar_port=port,
        sidecar_process=process,
        sidecar_settings=tuple(sorted(_settings(environment))),
    )
    started.save()
    wait_until_ready("The sidecar", partial(_serves, address), process, log, options.timeout_s)
    report(f"the sidecar is serving (process {process.pid})")
    return started


def fill_registry(registry: str, report: Report) -> None:
    """An empty registry gets the default models."""
    # Loads the ONNX libraries; only needed here.
    from neuralrank.bundles.registry import Registry
    from neuralrank.models import add_defaults

    models = Registry(registry)
    if not models.refs():
        report(f"adding the default models to {registry}")
        add_defaults(models, report)


def _sidecar_fingerprint(address: str, opensearch_url: str, options: UpOptions) -> str:
    """Changes when the running sidecar would differ from one started now: settings or code."""
    package = Path(__file__).resolve().parent.parent
    parts = [address, opensearch_url, options.registry, sys.executable, options.opensearch_user]
    parts.append(options.opensearch_ca)
    if options.opensearch_password:
        # It is stored: nobody should find the password by trying.
        secret, salt = options.opensearch_password.encode(), str(options.home).encode()
        parts.append(hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1).hex())
    parts += sorted(f"{name}={value}" for name, value in _settings(os.environ).items())
    # What only this command uses does not matter there.
    sources = [
        path for path in sorted(package.iterdir()) if path.name not in ("cli", "stack", "models")
    ]
    sources.append(package.parent / "sidecar")
    parts.append(fingerprint(sources, package.parent, ".py"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_PREFIX)}


def _serves(address: str) -> bool:
    return sidecar_status(address) == "serving"

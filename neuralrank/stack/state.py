"""What `neuralrank up` remembers in `stack.json`, and the lock that lets one at a time change it.

Other commands read "opensearch_url" and "sidecar" from it (`neuralrank.settings`).
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from neuralrank.credentials import sign_in
from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.files.whole import write_whole
from neuralrank.stack.processes import Process, is_alive

__all__ = ["State", "locked"]


@dataclass(frozen=True)
class State:
    """The stack of one home folder as `up` left it."""

    home: Path
    # OpenSearch's address, without user and password.
    opensearch_url: str
    # Whether that OpenSearch was there before, so that it is never ours to end.
    external: bool = False
    # The sidecar's gRPC address, host:port. Empty: none was asked for.
    sidecar: str = ""
    # Where it listens on HTTP. Empty: nowhere.
    sidecar_http: str = ""
    # Where the node is installed and keeps its data. None: none was started.
    node_folder: Path | None = None
    # 0: no node was started.
    opensearch_port: int = 0
    transport_port: int = 0
    sidecar_port: int = 0
    # The node's heap as the JVM writes it, e.g. "1g". Empty: no node was started.
    heap: str = ""
    opensearch_process: Process | None = None
    sidecar_process: Process | None = None
    # Names of the settings that the sidecar was started with; their values are not kept.
    sidecar_settings: tuple[str, ...] = ()

    @property
    def sidecar_listens(self) -> int:
        """The port of the sidecar that was started; `sidecar_port` is what the node was told."""
        return int(self.sidecar.rpartition(":")[2] or 0)

    @property
    def file(self) -> Path:
        return self.home / "stack.json"

    @property
    def logs(self) -> dict[str, Path]:
        """The log of each part that `up` starts."""
        return {
            name: self.home / "logs" / f"{name}.log"
            for name, process in self._processes().items()
            if process is not None
        }

    def _processes(self) -> dict[str, Process | None]:
        return {"opensearch": self.opensearch_process, "sidecar": self.sidecar_process}

    def as_json(self) -> dict[str, Any]:
        """The form that is stored, and that `neuralrank up --json` prints."""
        processes = {name: it for name, it in self._processes().items() if it is not None}
        document: dict[str, Any] = {
            "opensearch_url": self.opensearch_url,
            "home": str(self.home),
            "external": self.external,
            "node_folder": str(self.node_folder) if self.node_folder else None,
            "ports": {
                "opensearch": self.opensearch_port,
                "transport": self.transport_port,
                "sidecar": self.sidecar_port,
            },
            "heap": self.heap,
            "sidecar_settings": list(self.sidecar_settings),
            "pids": {name: process.pid for name, process in processes.items()},
            "logs": {name: str(log) for name, log in self.logs.items()},
            "processes": {
                name: {
                    "pid": process.pid,
                    "created": process.created,
                    "fingerprint": process.fingerprint,
                }
                for name, process in processes.items()
            },
        }
        # Left out when there is none, so that other commands fall back on their default.
        addresses = {"sidecar": self.sidecar, "sidecar_http": self.sidecar_http}
        return document | {name: address for name, address in addresses.items() if address}

    def save(self) -> None:
        """Replaces the file in one step: a reader sees the old state or the new one."""
        write_whole(self.file, json.dumps(self.as_json(), indent=2) + "\n")

    @classmethod
    def load(cls, home: Path) -> "State | None":
        """The state of a home folder; None if nothing was started there.

        Raises:
            InvalidSettings: the file is damaged.
        """
        file = home / "stack.json"
        if not file.is_file():
            return None
        try:
            document = json.loads(file.read_text())
            processes = {
                name: Process(int(it["pid"]), float(it["created"]), str(it["fingerprint"]))
                for name, it in document["processes"].items()
            }
            return cls(
                home=home,
                opensearch_url=sign_in(str(document["opensearch_url"])).address,
                external=bool(document["external"]),
                sidecar=str(document.get("sidecar", "")),
                sidecar_http=str(document.get("sidecar_http", "")),
                node_folder=Path(document["node_folder"]) if document["node_folder"] else None,
                opensearch_port=int(document["ports"]["opensearch"]),
                transport_port=int(document["ports"]["transport"]),
                sidecar_port=int(document["ports"]["sidecar"]),
                heap=str(document["heap"]),
                opensearch_process=processes.get("opensearch"),
                sidecar_process=processes.get("sidecar"),
                # Those before it did not write them.
                sidecar_settings=tuple(map(str, document.get("sidecar_settings", ()))),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidSettings(
                f"{file} is not what `neuralrank up` writes ({type(error).__name__}: {error}). "
                "Delete it and run `neuralrank up`; a stack that still runs is then not found any "
                "more and has to be ended by hand."
            ) from error

    def without_dead(self) -> "State":
        """The same, less the processes that ended."""
        return replace(
            self,
            opensearch_process=_living(self.opensearch_process),
            sidecar_process=_living(self.sidecar_process),
        )


def _living(process: Process | None) -> Process | None:
    return process if is_alive(process) else None


def _lock_file(home: Path) -> TextIO:
    try:
        home.mkdir(parents=True, exist_ok=True)
        return (home / "stack.lock").open("w")
    except OSError as error:
        raise Unsupported(
            f"The home folder {home} can't be written to ({error.strerror or error}). Name another "
            "one with --home or NEURALRANK_HOME."
        ) from error


@contextmanager
def locked(home: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Holds the home folder's lock: only one command at a time changes its stack."""
    with _lock_file(home) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another neuralrank command is changing this stack; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

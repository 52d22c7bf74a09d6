"""The OpenSearch node of the local stack: its folder, its installation, its start."""

import hashlib
import json
import os
import pwd
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from neuralrank.errors import Unsupported
from neuralrank.stack.artifacts import Plugin, fetch
from neuralrank.stack.ports import LOOPBACK
from neuralrank.stack.processes import Account, Process, run, start
from neuralrank.stack.toolchain import Jdk
from neuralrank.stack.versions import CHOSEN, NODE_SETTINGS, VERSIONS, release

__all__ = [
    "Node",
    "can_enter",
    "check_data",
    "check_space",
    "is_installed",
    "node_account",
    "node_folder",
]

_MARKER: Final = "neuralrank-installed.json"
_INSTALLED: Final = f"opensearch-*/{_MARKER}"
# Java takes the encoding of file names from the locale, which cron and systemd leave at C.
_UTF_8: Final = {"LC_ALL": "C.UTF-8"}

# Accounts that an OpenSearch started by root may run as, best first; the first that exists.
ACCOUNTS: Final = ("opensearch", "nobody")
# Free space below which nothing is started: the distribution takes 0.5 GB unpacked, and below
# 0.5 GB the node makes its indexes read-only (opensearch.yml).
MIN_FREE_BYTES: Final = 2 * 1024**3
FALLBACK: Final = Path("/var/tmp")


def node_account() -> Account | None:
    """Whom to run OpenSearch as: None, i.e. as oneself, except for root, which it refuses.

    Raises:
        Unsupported: this is root and there is no other account to use.
    """
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise Unsupported(
        "OpenSearch refuses to run as root, and this machine has none of the accounts "
        f"{', '.join(ACCOUNTS)}. Add one (`useradd --system opensearch`), or run this as an "
        "ordinary user."
    )


def can_enter(folder: Path, account: Account | None) -> bool:
    """Whether an account can get to a folder: it needs to pass through every parent of it.

    Folders that don't exist yet are left out. None stands for oneself.
    """
    for part in [folder, *folder.parents]:
        if not part.exists():
            continue
        if account is None:
            if not os.access(part, os.X_OK):
                return False
            continue
        about = part.stat()
        if about.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif about.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not about.st_mode & needed:
            return False
    return True


def node_folder(home: Path, account: Account | None) -> Path:
    """Where the node of a home folder lives: in it, unless its account can't get there."""
    home = home.resolve()
    if can_enter(home, account):
        return home / "opensearch"
    return FALLBACK / f"neuralrank-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"


def check_space(folder: Path) -> None:
    """Whether the disk of a folder has room for a node.

    Raises:
        Unsupported: too little.
    """
    existing = next(part for part in [folder, *folder.parents] if part.exists())
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        raise Unsupported(
            f"The disk of {folder} has {free / 1024**3:.1f} GB free; OpenSearch and its data need "
            f"at least {MIN_FREE_BYTES / 1024**3:.0f} GB. Free some, or put the stack elsewhere: "
            "`neuralrank up --home FOLDER`."
        )


def check_data(folder: Path) -> None:
    """Whether a node of the version that is wanted can read what is in a folder of `install`.

    Raises:
        Unsupported: a newer one ran there.
    """
    if not (folder / "data" / "nodes").is_dir():
        return
    ran = [path.parent.name.removeprefix("opensearch-") for path in folder.glob(_INSTALLED)]
    newest = max(ran, key=release, default="")
    if release(newest) > release(VERSIONS.opensearch):
        raise Unsupported(
            f"The data in {folder} may be of OpenSearch {newest}, which ran there, and "
            f"{VERSIONS.opensearch} can't read them. Set {CHOSEN}={newest}, or delete them: "
            "`neuralrank down --wipe`."
        )


def is_installed(folder: Path) -> bool:
    """Whether `install` has put a node there, of whichever version."""
    return any(folder.glob(_INSTALLED))


@dataclass(frozen=True)
class Node:
    """A node in a folder: the distribution by version, and its data beside it."""

    folder: Path
    account: Account | None
    jdk: Jdk

    @property
    def distribution(self) -> Path:
        return self.folder / f"opensearch-{VERSIONS.opensearch}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def _marker(self) -> Path:
        """Written last: what is installed in the distribution."""
        return self.distribution / _MARKER

    def install(self, downloads: Path, plugin: Plugin, report: Callable[[str], None]) -> None:
        """Unpacks OpenSearch, installs k-NN and our plugin.

        What is there already is left as it is; a plugin made from other sources is replaced. Must
        not be called while the node runs.
        """
        wanted = {"knn": VERSIONS.plugin, "neural_rank": plugin.hash}
        installed = self._installed()
        if installed is None or installed.get("knn") != wanted["knn"]:
            group = "org.opensearch.distribution.integ-test-zip"
            name = f"{group}:opensearch:{VERSIONS.opensearch}:zip"
            distribution = fetch(name, downloads, self.jdk, report)
            knn = f"org.opensearch.plugin:opensearch-knn:{VERSIONS.plugin}:zip"
            knn_zip = fetch(knn, downloads, self.jdk, report)
            report(f"unpacking OpenSearch {VERSIONS.opensearch} into {self.folder}")
            self._unpack(distribution)
            report("installing the k-NN plugin")
            self._plugin("install", "--batch", knn_zip.resolve().as_uri())
            installed = {}
        if installed.get("neural_rank") != wanted["neural_rank"]:
            report("installing the neural-rank plugin")
            self._marker.unlink(missing_ok=True)
            if (self.distribution / "plugins" / "neural-rank").exists():
                self._plugin("remove", "neural-rank")
            self._plugin("install", "--batch", plugin.zip.as_uri())
        for folder in (self.data, self.folder / "logs", self.folder / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        self._marker.write_text(json.dumps(wanted))
        self._give_away()

    def settings(self, port: int, transport_port: int, sidecar: str) -> str:
        """The text of opensearch.yml for this node."""
        return Template(NODE_SETTINGS.read_text()).substitute(
            NEURALRANK_NODE_HOST=LOOPBACK,
            NEURALRANK_NODE_PORT=port,
            NEURALRANK_NODE_TRANSPORT_PORT=transport_port,
            NEURALRANK_NODE_DATA=self.data,
            NEURALRANK_NODE_LOGS=self.folder / "logs",
            NEURALRANK_SIDECAR=sidecar,
        )

    def fingerprint(self, plugin: Plugin, heap: str, settings: str) -> str:
        """Changes when the running node would differ from one started now."""
        parts = [VERSIONS, plugin.hash, heap, settings]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def start(self, log: Path, heap: str, settings: str, fingerprint: str) -> Process:
        """Starts the node; the log is the caller's file, so that it may lie where the node can't
        write itself."""
        (self.distribution / "config" / "opensearch.yml").write_text(settings)
        # Its whole environment: nothing else of the caller's leaks in.
        environment = {
            name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ
        } | {
            **_UTF_8,
            "HOME": str(self.folder),
            "OPENSEARCH_JAVA_HOME": str(self.jdk.home),
            "OPENSEARCH_JAVA_OPTS": f"-Xms{heap} -Xmx{heap}",
            # From the distribution, where its script goes first. That takes the options apart at
            # blanks, so no path of the user's may be among them.
            "OPENSEARCH_TMPDIR": "../tmp",
        }
        return start(
            [self.distribution / "bin" / "opensearch"],
            log=log,
            environment=environment,
            fingerprint=fingerprint,
            folder=self.distribution,
            account=self.account,
        )

    def _installed(self) -> dict[str, str] | None:
        try:
            installed: dict[str, str] = json.loads(self._marker.read_text())
            return installed
        except (OSError, ValueError):
            return None

    def _unpack(self, archive: Path) -> None:
        incoming = self.folder / f".incoming-{os.getpid()}"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
        try:
            with zipfile.ZipFile(archive) as content:
                for entry in content.infolist():
                    path = Path(content.extract(entry, incoming))
                    # ZipFile drops permissions, and bin/opensearch must be executable.
                    mode = entry.external_attr >> 16
                    if mode and not entry.is_dir():
                        path.chmod(stat.S_IMODE(mode))
            shutil.rmtree(self.distribution, ignore_errors=True)
            (incoming / f"opensearch-{VERSIONS.opensearch}").replace(self.distribution)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _plugin(self, *arguments: str) -> None:
        run(
            [self.distribution / "bin" / "opensearch-plugin", *arguments],
            environment=os.environ | _UTF_8 | {"OPENSEARCH_JAVA_HOME": str(self.jdk.home)},
            timeout_s=300,
            failure=f"opensearch-plugin {' '.join(arguments)} failed",
        )

    def _give_away(self) -> None:
        """Everything belongs to the account that runs the node."""
        if self.account is None:
            return
        os.chown(self.folder, self.account.uid, self.account.gid)
        for parent, folders, files in os.walk(self.folder):
            for name in (*folders, *files):
                path = os.path.join(parent, name)
                os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)

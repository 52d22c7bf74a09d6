"""Real OpenSearch nodes of one distribution, each with config, keystore and data of its own."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.running import free_port
from neuralrank.stack.artifacts import build_plugin
from neuralrank.stack.node import Node, can_enter, node_account, node_folder
from neuralrank.stack.ports import LOOPBACK
from neuralrank.stack.probe import OpenSearch, opensearch_status
from neuralrank.stack.processes import Process, start, stop
from neuralrank.stack.readiness import wait_until_ready
from neuralrank.stack.toolchain import find_jdk

HEAP = "400m"


def install(home: Path) -> Node:
    """The distribution with both plugins, for all nodes of a test."""
    account = node_account()
    jdk = find_jdk(usable=lambda home: can_enter(home.resolve(), account))
    node = Node(node_folder(home, account), account, jdk)
    downloads = home / "downloads"
    node.install(downloads, build_plugin(downloads, jdk, print), print)
    return node


@dataclass
class RunningNode:
    """One node. `settings` are added to those of the local stack; None takes one away."""

    installed: Node
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    transport_port: int = field(default_factory=free_port)
    process: Process | None = None

    def __post_init__(self) -> None:
        """Its own config folder, which certificates can be put into before it starts."""
        self.folder.mkdir(parents=True)
        shutil.copytree(self.installed.distribution / "config", self.config)
        (self.config / "opensearch.keystore").unlink(missing_ok=True)
        # All would write the same file.
        options = self.config / "jvm.options"
        lines = options.read_text().splitlines(keepends=True)
        options.write_text("".join(line for line in lines if "gc.log" not in line))

    @property
    def folder(self) -> Path:
        return self.installed.folder / "nodes" / self.name

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def log(self) -> Path:
        return self.folder / "out.log"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def transport(self) -> str:
        return f"{LOOPBACK}:{self.transport_port}"

    @property
    def probe(self) -> OpenSearch:
        return OpenSearch(self.url)

    def keep(self, setting: str, secret: str) -> None:
        """Puts a secret into its keystore, as the documentation says: the node may run."""
        if not (self.config / "opensearch.keystore").exists():
            self._keystore("create")
        self._keystore("add", "--force", "--stdin", setting, secret=secret)

    def _keystore(self, *arguments: str, secret: str = "") -> None:
        run = subprocess.run(
            [str(self.installed.distribution / "bin" / "opensearch-keystore"), *arguments],
            env=os.environ | self.environment,
            input=secret,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        self.give_away()

    def give_away(self) -> None:
        """What was put into its folder belongs to the account that runs it."""
        account = self.installed.account
        if account is not None:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, account.uid, account.gid)

    def start(self) -> None:
        """Starts it, and waits for nothing: the nodes of a cluster wait for each other."""
        settings = yaml.safe_load(
            self.installed.settings(self.port, self.transport_port, "127.0.0.1:1")
        )
        settings |= {
            "node.name": self.name,
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
        } | self.settings
        if "discovery.seed_hosts" in settings:
            del settings["discovery.type"]
        given = {name: value for name, value in settings.items() if value is not None}
        (self.config / "opensearch.yml").write_text(yaml.safe_dump(given))
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.give_away()
        self.process = start(
            [self.installed.distribution / "bin" / "opensearch"],
            log=self.log,
            environment={"PATH": os.environ["PATH"], "HOME": str(self.folder)} | self.environment,
            fingerprint="",
            folder=self.installed.distribution,
            account=self.installed.account,
        )

    def wait(self, seconds: float = 150.0) -> None:
        """Until it answers as a part of a healthy cluster."""
        assert self.process is not None
        healthy = ("green", "yellow")
        wait_until_ready(
            f"Node {self.name}",
            lambda: opensearch_status(self.probe) in healthy,
            self.process,
            self.log,
            seconds,
        )

    def stop(self) -> None:
        """Ends it, if it runs."""
        if self.process is not None:
            stop(self.process)
            self.process = None

    def kill(self) -> None:
        """Ends it as a power cut does."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "OPENSEARCH_PATH_CONF": str(self.config),
            "OPENSEARCH_JAVA_HOME": str(self.installed.jdk.home),
            "OPENSEARCH_JAVA_OPTS": f"-Xms{HEAP} -Xmx{HEAP}",
            "OPENSEARCH_TMPDIR": str(self.folder / "tmp"),
        }

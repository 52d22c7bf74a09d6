"""Gets what the node is made of: OpenSearch and k-NN by Maven, our plugin from its sources."""

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.stack.processes import run
from neuralrank.stack.toolchain import Jdk, find_maven
from neuralrank.stack.versions import VERSIONS

__all__ = ["Plugin", "build_plugin", "fetch", "fingerprint"]

CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent
BUILD_TIMEOUT_S: Final = 1800
# Maven starts a JVM of its own; the machine is the user's, not only ours.
MAVEN_OPTS: Final = "-Xmx512m"


@dataclass(frozen=True)
class Plugin:
    """Our plugin as a zip, and the hash of what it was made from."""

    zip: Path
    hash: str


def fetch(artifact: str, downloads: Path, jdk: Jdk, report: Callable[[str], None]) -> Path:
    """The file of a Maven artifact in the downloads folder; got by Maven if it is not there yet.

    Args:
        artifact: GROUP:NAME:VERSION:KIND, of kind zip or jar.

    Raises:
        Unsupported: no Maven, or it could not get the artifact.
    """
    _, name, version, kind = artifact.split(":")
    file = downloads / f"{name}-{version}.{kind}"
    if file.is_file():
        return file
    report(f"getting {file.name}")
    # Into a folder of its own first, so that a half-written file never looks like a whole one.
    incoming = downloads / f".incoming-{os.getpid()}"
    goal = (
        f"org.apache.maven.plugins:maven-dependency-plugin:{VERSIONS.maven_dependency_plugin}:copy"
    )
    # Not in a project's folder: Maven would read its pom.xml.
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        _maven(
            [goal, f"-Dartifact={artifact}", f"-DoutputDirectory={incoming}"],
            jdk,
            folder=downloads,
            failure=f"could not get {artifact}. It is on Maven Central; behind a proxy or a "
            "mirror, Maven's settings.xml must name it",
        )
        (incoming / file.name).replace(file)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return file


def build_plugin(
    downloads: Path, jdk: Jdk, report: Callable[[str], None], given: Path | None = None
) -> Plugin:
    """Our plugin: the zip that was given, else built from the checkout's sources if they changed.

    It is built from a copy of the sources, so that a build that somebody runs in the checkout at
    the same time neither disturbs it nor is disturbed.

    Raises:
        InvalidSettings: the given file is not there, or is another plugin.
        Unsupported: no zip was given and there are no sources, or they don't build.
    """
    if given is not None:
        _check_zip(given)
        return Plugin(given.resolve(), hashlib.sha256(given.read_bytes()).hexdigest())
    sources = CHECKOUT / "plugin"
    name = f"neural-rank-{VERSIONS.plugin}"
    if not (sources / "pom.xml").is_file():
        raise Unsupported(
            f"The plugin's sources are not at {sources}, as this is not a checkout of neuralrank. "
            f"Give the built plugin: --plugin-zip {name}.zip."
        )
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=downloads) as folder:
        build = Path(folder)
        shutil.copytree(CHECKOUT / "protos", build / "protos")
        shutil.copytree(sources / "src" / "main", build / "plugin" / "src" / "main")
        shutil.copy(sources / "pom.xml", build / "plugin")
        # Of the copy: what is built is what was hashed, even while somebody edits.
        made_from = fingerprint([build], build)
        # Its name has what it is built for.
        made = downloads / f"{name}-{made_from[:12]}.zip"
        if not made.is_file():
            report("building the plugin")
            _maven(
                [
                    "-f",
                    str(build / "plugin" / "pom.xml"),
                    "package",
                    "-Dmaven.test.skip=true",
                    f"-Dopensearch.version={VERSIONS.opensearch}",
                ],
                jdk,
                folder=build,
                failure="could not build the plugin",
            )
            try:
                (build / "plugin" / "target" / f"{name}.zip").replace(made)
            except FileNotFoundError as error:
                raise Unsupported(f"Maven built the plugin, but not as {name}.zip.") from error
    return Plugin(made, made_from)


def _check_zip(given: Path) -> None:
    """What can't be installed is known before a node that runs is stopped for it."""
    if not given.is_file():
        raise InvalidSettings(f"--plugin-zip: {given} is not a file.")
    try:
        with zipfile.ZipFile(given) as content:
            lines = content.read("plugin-descriptor.properties").decode().splitlines()
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"--plugin-zip: {given} is no plugin of OpenSearch's.") from error
    said = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    name, version = said.get("name"), said.get("opensearch.version")
    if (name, version) != ("neural-rank", VERSIONS.opensearch):
        raise InvalidSettings(
            f"--plugin-zip: {given} is plugin {name} for OpenSearch {version}; needed is "
            f"neural-rank for {VERSIONS.opensearch}."
        )


def fingerprint(paths: Iterable[Path], root: Path, ending: str = "") -> str:
    """SHA-256 over names and contents of files, and of all files in folders, hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob(f"*{ending}"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


def _maven(arguments: list[str], jdk: Jdk, *, folder: Path, failure: str) -> None:
    environment = os.environ | {"JAVA_HOME": str(jdk.home)}
    environment.setdefault("MAVEN_OPTS", MAVEN_OPTS)
    run(
        [find_maven(), "--quiet", "--batch-mode", *arguments],
        environment=environment,
        timeout_s=BUILD_TIMEOUT_S,
        failure=f"Maven {failure}",
        folder=folder,
    )

"""Finds the JDK and Maven that the local stack needs.

The `java` on PATH may be older than OpenSearch allows while a newer JDK lies beside it, so all the
usual places are looked at and each candidate's version is read.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuralrank.errors import Unsupported
from neuralrank.stack.versions import VERSIONS

__all__ = ["Jdk", "find_jdk", "find_maven"]

# Folders that hold JDKs, one in each subfolder: Linux packages, hand-made, macOS.
JDK_FOLDERS: Final = ("/usr/lib/jvm", "/opt", "/Library/Java/JavaVirtualMachines")


@dataclass(frozen=True)
class Jdk:
    """A JDK's folder (what JAVA_HOME would be) and its feature version, e.g. 21."""

    home: Path
    version: int


def find_jdk(
    environment: Mapping[str, str] | None = None,
    folders: Iterable[str] = JDK_FOLDERS,
    usable: Callable[[Path], bool] = lambda _: True,
) -> Jdk:
    """The JDK to run OpenSearch and Maven with.

    OPENSEARCH_JAVA_HOME wins, then JAVA_HOME, if they are new enough. Of the others the oldest that
    is new enough is taken: it is the nearest to what this OpenSearch was tested with.

    Args:
        usable: whether the account that will run OpenSearch can read that folder.

    Raises:
        Unsupported: there is none; the message lists what was found.
    """
    environment = os.environ if environment is None else environment
    refused: list[str] = []

    def accept(home: Path) -> Jdk | None:
        version = _version(home)
        if version is None:
            return None
        if version < VERSIONS.jdk:
            refused.append(f"{home} is version {version}")
        elif not (home / "bin" / "javac").exists():
            refused.append(f"{home} is a runtime without a compiler")
        elif not usable(home):
            refused.append(f"{home} can't be read by the account that runs OpenSearch")
        else:
            return Jdk(home, version)
        return None

    for name in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME"):
        if environment.get(name) and (jdk := accept(Path(environment[name]))):
            return jdk
    found = [jdk for home in _candidates(environment, folders) if (jdk := accept(home))]
    if found:
        return min(found, key=lambda jdk: (jdk.version, str(jdk.home)))
    seen = f" Found: {'; '.join(dict.fromkeys(refused))}." if refused else ""
    raise Unsupported(
        f"No JDK of version {VERSIONS.jdk} or newer was found in OPENSEARCH_JAVA_HOME, JAVA_HOME, "
        f"PATH, {', '.join(folders)}.{seen} Install one (Debian, Ubuntu: apt-get install "
        f"openjdk-{VERSIONS.jdk}-jdk-headless; Fedora: dnf install java-{VERSIONS.jdk}-openjdk-"
        f"devel; macOS: brew install openjdk@{VERSIONS.jdk}), or set OPENSEARCH_JAVA_HOME to its "
        "folder."
    )


def find_maven(environment: Mapping[str, str] | None = None) -> Path:
    """The `mvn` command: from MAVEN_HOME or M2_HOME, else from PATH.

    Raises:
        Unsupported: there is none.
    """
    environment = os.environ if environment is None else environment
    for name in ("MAVEN_HOME", "M2_HOME"):
        command = Path(environment.get(name, "")) / "bin" / "mvn"
        if environment.get(name) and os.access(command, os.X_OK):
            return command
    found = shutil.which("mvn", path=environment.get("PATH", ""))
    if found is None:
        raise Unsupported(
            "Maven (`mvn`) was found neither in MAVEN_HOME nor on PATH. It fetches OpenSearch and "
            "builds the plugin. Install it (Debian, Ubuntu: apt-get install maven; Fedora: dnf "
            "install maven; macOS: brew install maven)."
        )
    return Path(found)


def _candidates(environment: Mapping[str, str], folders: Iterable[str]) -> Iterator[Path]:
    """Folders that may be a JDK, each once by its real path."""
    seen: set[Path] = set()
    homes = [home for folder in folders for home in sorted(Path(folder).glob("*"))]
    homes += [home / "Contents" / "Home" for home in homes]
    java = shutil.which("java", path=environment.get("PATH", ""))
    if java is not None:
        homes.append(Path(java).resolve().parent.parent)
    for home in homes:
        real = home.resolve()
        if real not in seen and os.access(real / "bin" / "java", os.X_OK):
            seen.add(real)
            yield real


def _version(home: Path) -> int | None:
    """The feature version of the JDK in a folder; None if there is no JDK that runs.

    The `release` file answers at once; starting a JVM, which takes a moment, is the second choice.
    """
    java = home / "bin" / "java"
    if not os.access(java, os.X_OK):
        return None
    release = home / "release"
    text = release.read_text(errors="replace") if release.is_file() else ""
    match = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    if match is None:
        try:
            run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = re.search(r'version "([^"]+)"', run.stderr)
    if match is None:
        return None
    # Up to Java 8 versions began with "1.".
    numbers = re.findall(r"\d+", match.group(1).removeprefix("1."))
    return int(numbers[0]) if numbers else None

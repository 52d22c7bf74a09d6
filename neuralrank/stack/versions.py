"""The versions that the stack runs, read from `versions.env`, which docker compose reads too.

The OpenSearch is that file's, or the one that the environment names.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuralrank.errors import Unsupported

__all__ = [
    "CHOSEN",
    "FITS",
    "NODE_SETTINGS",
    "VERSIONS",
    "VERSIONS_FILE",
    "Versions",
    "fits",
    "read_versions",
    "release",
]

VERSIONS_FILE: Final = Path(__file__).with_name("versions.env")
# The node's opensearch.yml, with ${...} for what differs between here and a container.
NODE_SETTINGS: Final = Path(__file__).with_name("opensearch.yml")
# What our plugin can be built for, in words.
FITS: Final = "OpenSearch 3.3.2 and newer of 3.x"
_LEAST: Final = (3, 3, 2)
_RELEASE: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
CHOSEN: Final = "NEURALRANK_OPENSEARCH_VERSION"


@dataclass(frozen=True)
class Versions:
    """Versions by what they are of."""

    opensearch: str
    jdk: int
    maven_dependency_plugin: str

    @property
    def plugin(self) -> str:
        """Of plugins, k-NN and ours: OpenSearch loads those of exactly its own version."""
        return f"{self.opensearch}.0"

    def check(self) -> None:
        """
        Raises:
            Unsupported: the plugin can't be built for this OpenSearch.
        """
        if not fits(self.opensearch):
            raise Unsupported(
                f"{CHOSEN}: got {self.opensearch!r}; the plugin can be built for {FITS}. Write "
                "one as 3.6.0, or leave it out."
            )


def read_versions() -> Versions:
    """Reads NAME=value lines; blank lines and lines that begin with # are left out."""
    lines = (line.strip() for line in VERSIONS_FILE.read_text().splitlines())
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return Versions(
        opensearch=os.environ.get(CHOSEN) or values["OPENSEARCH_VERSION"],
        jdk=int(values["JDK_VERSION"]),
        maven_dependency_plugin=values["MAVEN_DEPENDENCY_PLUGIN_VERSION"],
    )


def release(version: object) -> tuple[int, ...]:
    """The numbers of a release such as 3.6.0; of anything else, none."""
    found = _RELEASE.fullmatch(version) if isinstance(version, str) else None
    return tuple(map(int, found.groups())) if found else ()


def fits(version: object) -> bool:
    """Whether our plugin can be built for a release of OpenSearch."""
    return _LEAST <= release(version) < (4,)


VERSIONS: Final = read_versions()

"""The versions that the stack runs, read from `versions.env`, which docker compose reads too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["NODE_SETTINGS", "VERSIONS", "VERSIONS_FILE", "Versions"]

VERSIONS_FILE: Final = Path(__file__).with_name("versions.env")
# The node's opensearch.yml, with ${...} for what differs between here and a container.
NODE_SETTINGS: Final = Path(__file__).with_name("opensearch.yml")


@dataclass(frozen=True)
class Versions:
    """Versions by what they are of; plugin versions are exact, as OpenSearch demands."""

    opensearch: str
    knn_plugin: str
    neural_rank_plugin: str
    jdk: int
    maven_dependency_plugin: str


def _read_versions() -> Versions:
    """Reads NAME=value lines; blank lines and lines that begin with # are left out."""
    lines = (line.strip() for line in VERSIONS_FILE.read_text().splitlines())
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return Versions(
        opensearch=values["OPENSEARCH_VERSION"],
        knn_plugin=values["KNN_PLUGIN_VERSION"],
        neural_rank_plugin=values["NEURAL_RANK_PLUGIN_VERSION"],
        jdk=int(values["JDK_VERSION"]),
        maven_dependency_plugin=values["MAVEN_DEPENDENCY_PLUGIN_VERSION"],
    )


VERSIONS: Final = _read_versions()

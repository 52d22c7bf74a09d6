"""What `up` is asked for."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from neuralrank.errors import InvalidSettings

__all__ = ["HEAP", "OPENSEARCH_PORT", "SIDECAR_PORT", "Report", "UpOptions", "pick_port"]

# Told in words what is being done.
Report = Callable[[str], None]

OPENSEARCH_PORT: Final = 9200
SIDECAR_PORT: Final = 50051
HEAP: Final = "1g"


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
    # Whether a node of this stack's own is asked for, whatever it used before.
    own_node: bool = False
    # An OpenSearch that is there already, to be used instead of starting one.
    opensearch_url: str | None = None
    opensearch_user: str = ""
    opensearch_password: str = field(default="", repr=False)
    opensearch_verify_certs: bool = True
    # PEM file of the authorities of its certificate. Empty: the machine's own.
    opensearch_ca: str = ""
    # Whether the sidecar is started too.
    sidecar: bool = True
    # The built plugin, where there is no checkout to build it from.
    plugin_zip: Path | None = None
    # How long each part may take to become healthy.
    timeout_s: float = 180.0

    def __post_init__(self) -> None:
        if self.heap is not None and not re.fullmatch(r"[1-9]\d*[mMgG]", self.heap):
            raise InvalidSettings(f"--heap: got {self.heap!r}; write it as 512m or 2g.")


def pick_port(asked: int | None, current: int | None, default: int) -> int:
    """The port to use: what was asked for, else what it has, else the default. Asking for any
    free port (0) is met by the one it has."""
    if asked is None or asked == 0:
        return current or (default if asked is None else 0)
    return asked

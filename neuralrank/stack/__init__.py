"""The local stack: a real OpenSearch node with both plugins, and the sidecar beside it.

What `neuralrank up | down | status` do. Versions and the node's settings are files in this folder
that docker-compose.yml uses as well.
"""

from neuralrank.stack.lifecycle import down, status, up
from neuralrank.stack.options import Report, UpOptions
from neuralrank.stack.probe import OpenSearch
from neuralrank.stack.state import State
from neuralrank.stack.versions import NODE_SETTINGS, VERSIONS, VERSIONS_FILE

__all__ = [
    "NODE_SETTINGS",
    "VERSIONS",
    "VERSIONS_FILE",
    "OpenSearch",
    "Report",
    "State",
    "UpOptions",
    "down",
    "status",
    "up",
]

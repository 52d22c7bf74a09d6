"""A vector as text that costs nothing to read: base64 of packed float32.

As decimal numbers it is half of what reading a document costs, whether they are shown or not. So
the indexer writes vectors in this form, which our plugin indexes
(docs/decisions/033-vectors-once.md), and for a cluster without it as numbers too.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from neuralrank.errors import NeuralrankError

__all__ = [
    "IMAGE_PACKED",
    "IMAGE_VECTOR",
    "PACKED",
    "VECTOR",
    "are_indexed_packed",
    "pack",
    "unpack",
]

# The field that holds the vector of `headline`, and the one that holds it packed.
VECTOR: Final = "text_vector"
PACKED: Final = "text_vector_packed"
# The same of an item's photo.
IMAGE_VECTOR: Final = "image_vector"
IMAGE_PACKED: Final = "image_vector_packed"

# Of nodes whose plugin does that.
_ATTRIBUTE: Final = "neural_rank_packed_vectors"


def are_indexed_packed(client: OpenSearch, body: Mapping[str, Any]) -> bool:
    """Whether the vectors of documents need no numbers in an index: its mapping names their packed
    form, and on all nodes that hold data the plugin indexes that.

    Args:
        body: settings and mappings of the index.
    """
    noted = body.get("mappings", {}).get("_meta", {}).get("neuralrank", {})
    if not noted.get("packed_vectors"):
        return False
    try:
        answer = client.nodes.info(
            node_id="data:true", params={"filter_path": "_nodes.failed,nodes.*.attributes"}
        )
    except NeuralrankError:  # such as of who may not look at nodes
        return False
    nodes = answer.get("nodes", {}).values()
    # One that does not answer in time may be without the plugin.
    silent = answer.get("_nodes", {}).get("failed", 0)
    return (
        bool(nodes)
        and not silent
        and all(node.get("attributes", {}).get(_ATTRIBUTE) == "true" for node in nodes)
    )


def pack(vector: NDArray[np.float32]) -> str:
    """Base64 of the numbers as little-endian float32."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()


def unpack(value: Any) -> NDArray[np.float32] | None:
    """float32 [d]; None where the value is no such text."""
    if not isinstance(value, str) or not value:
        return None
    try:
        raw = base64.b64decode(value, validate=True)
        return np.frombuffer(raw, "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        return None

"""How documents hold their vectors: packed, and as numbers too where a search needs those.

docs/decisions/033-vectors-once.md has why.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from neuralrank.encoders.matryoshka import cut
from neuralrank.errors import NeuralrankError
from neuralrank.opensearch.generation import noted
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, PACKED, VECTOR, pack

__all__ = ["are_indexed_packed", "photo_fields", "text_fields"]

# Of nodes whose plugin indexes vectors from their packed form.
_ATTRIBUTE: Final = "neural_rank_packed_vectors"


def are_indexed_packed(client: OpenSearch, body: Mapping[str, Any]) -> bool:
    """Whether the vectors of documents need no numbers in an index: its mapping names their packed
    form, and on all nodes that hold data the plugin indexes that.

    Args:
        body: settings and mappings of the index.
    """
    if not noted(body.get("mappings", {})).get("packed_vectors"):
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


def text_fields(vector: NDArray[np.float32], width: int, *, packed: bool) -> dict[str, Any]:
    """The fields of a document's vector. One that is searched shorter than it is packed can't be
    indexed from there, and has its numbers in any case.

    Args:
        vector: float32 [d].
        width: of what is searched; at most d.
        packed: as of `are_indexed_packed`.
    """
    is_cut = width != len(vector)
    fields: dict[str, Any] = {PACKED: pack(vector)}
    if is_cut or not packed:
        fields[VECTOR] = cut(vector, width) if is_cut else vector
    return fields


def photo_fields(vector: NDArray[np.float32], *, packed: bool) -> dict[str, Any]:
    """The fields of the vector of a document's photo, as `text_fields`; it is never cut."""
    return {IMAGE_PACKED: pack(vector), **({} if packed else {IMAGE_VECTOR: vector})}

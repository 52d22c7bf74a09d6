"""Vectors as text and back."""

from typing import Any

import numpy as np
import pytest

from neuralrank.errors import Unavailable
from neuralrank.opensearch.packing import PACKED, VECTOR, are_indexed_packed, pack, unpack
from opensearch_config import product_index


def test_a_vector_comes_back_bit_for_bit() -> None:
    vector = np.random.default_rng(0).normal(size=384).astype(np.float32)
    text = pack(vector)
    assert len(text) == 2_048
    back = unpack(text)
    assert back is not None
    assert back.tolist() == vector.tolist()


@pytest.mark.parametrize("value", [None, "", [0.1, 0.2], 7, "AAA", "!!!!", "AAAAAAA=", "文字"])
def test_what_is_no_packed_vector_is_none(value: object) -> None:
    assert unpack(value) is None


class Nodes:
    """An OpenSearch that says what its nodes are like."""

    def __init__(self, *attributes: dict[str, str], refused: bool = False, silent: int = 0) -> None:
        self.nodes = self
        self.silent = silent
        self.attributes = attributes
        self.refused = refused

    def info(self, node_id: str, params: dict[str, str]) -> dict[str, Any]:
        assert node_id == "data:true"
        assert params == {"filter_path": "_nodes.failed,nodes.*.attributes"}
        if self.refused:
            raise Unavailable("403")
        named = {str(n): {"attributes": each} for n, each in enumerate(self.attributes)}
        return {"_nodes": {"failed": self.silent}} | ({"nodes": named} if named else {})


OURS = {"neural_rank_packed_vectors": "true", "zone": "a"}
NOTED = {"mappings": {"_meta": {"neuralrank": {"packed_vectors": {VECTOR: PACKED}}}}}


@pytest.mark.parametrize(
    ("nodes", "body", "expected"),
    [
        (Nodes(OURS, OURS), NOTED, True),
        (Nodes(OURS, {"zone": "b"}), NOTED, False),
        (Nodes(OURS, {}), NOTED, False),
        (Nodes(), NOTED, False),
        (Nodes(OURS, refused=True), NOTED, False),
        (Nodes(OURS, silent=1), NOTED, False),
        (Nodes(OURS), {"mappings": {}}, False),
        (Nodes(OURS), product_index(), False),
        (Nodes(OURS), product_index("e@0123456789ab", 384), True),
    ],
)
def test_numbers_are_left_out_where_every_node_with_data_indexes_packed_vectors(
    nodes: Any, body: dict[str, Any], expected: bool
) -> None:
    assert are_indexed_packed(nodes, body) is expected

"""Which vectors documents hold as numbers."""

from typing import Any

import numpy as np
import pytest

from neuralrank.errors import Unavailable
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, PACKED, VECTOR, pack
from neuralrank.opensearch.vectors import are_indexed_packed, photo_fields, text_fields
from opensearch_config import product_index

WHOLE = np.array([0.6, 0.0, 0.8, 0.0], np.float32)


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


@pytest.mark.parametrize(
    ("packed", "width", "numbers"),
    [(True, 4, None), (False, 4, WHOLE), (True, 2, [1, 0]), (False, 2, [1, 0])],
)
def test_numbers_are_for_who_needs_them_and_for_what_is_cut(
    packed: bool, width: int, numbers: Any
) -> None:
    written = text_fields(WHOLE, width, packed=packed)
    assert written.pop(PACKED) == pack(WHOLE)
    assert written.keys() == (set() if numbers is None else {VECTOR})
    if numbers is not None:
        np.testing.assert_allclose(written[VECTOR], numbers, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_photos_are_never_cut(packed: bool) -> None:
    written = photo_fields(WHOLE, packed=packed)
    assert written.pop(IMAGE_PACKED) == pack(WHOLE)
    assert written.keys() == (set() if packed else {IMAGE_VECTOR})
    if not packed:
        np.testing.assert_array_equal(written[IMAGE_VECTOR], WHOLE)

"""A copy of an index that lost its vectors takes no index's place."""

from typing import Any

import pytest

from neuralrank.errors import Unsupported
from neuralrank.opensearch.packing import IMAGE_VECTOR, VECTOR
from opensearch_config import product_index
from opensearch_config.renewal import _check_vectors

BODY = product_index(
    "e@0123456789ab", 4, image_encoder="i@0123456789ab", image_dimensions=2
)  # fmt: skip


class Counting:
    """An OpenSearch that counts documents with a vector, once the copy can be searched."""

    def __init__(self, counts: dict[tuple[str, str], int]) -> None:
        self.counts = counts
        self.refreshed: list[str] = []
        self.indices = self

    def refresh(self, index: str) -> None:
        self.refreshed.append(index)

    def count(self, index: str, body: dict[str, Any]) -> dict[str, Any]:
        assert self.refreshed == ["copy"]
        field = body["query"]["exists"]["field"]
        return {"count": self.counts[index, field], "_shards": {"failed": 0, "total": 1}}


@pytest.mark.parametrize(("texts", "photos"), [(5, 3), (6, 3)])
def test_a_copy_with_all_vectors_is_taken(texts: int, photos: int) -> None:
    counts = {
        ("old", VECTOR): 5, ("copy", VECTOR): texts,
        ("old", IMAGE_VECTOR): 3, ("copy", IMAGE_VECTOR): photos,
    }  # fmt: skip
    client: Any = Counting(counts)
    _check_vectors(client, "old", "copy", BODY)


@pytest.mark.parametrize("lost", [VECTOR, IMAGE_VECTOR])
def test_one_that_lost_some_is_refused(lost: str) -> None:
    counts = {(index, field): 5 for index in ("old", "copy") for field in (VECTOR, IMAGE_VECTOR)}
    client: Any = Counting({**counts, ("copy", lost): 4})
    with pytest.raises(Unsupported, match=f"5 documents of old have a {lost}, of its copy 4"):
        _check_vectors(client, "old", "copy", BODY)


def test_an_index_without_vectors_has_none_to_lose() -> None:
    client: Any = Counting({})
    _check_vectors(client, "old", "copy", product_index())

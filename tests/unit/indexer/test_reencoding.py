"""What becomes of photos' vectors when texts are encoded anew."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from indexer.reencoding import _Copy
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, pack

WHOLE = np.array([0.6, 0.0, 0.8, 0.0], np.float32)


class Wide:
    """An encoder of four dimensions."""

    ref = "wide@0123456789ab"
    dimensions = 4


def copy(*, packed: bool) -> _Copy:
    nothing: Any = None
    target: Any = SimpleNamespace(index="shop-2")
    encoder: Any = Wide()
    return _Copy(nothing, "shop-1", target, encoder, 0, None, packed=packed)


def test_photos_keep_their_numbers_or_get_them_where_they_are_needed() -> None:
    photo = {IMAGE_PACKED: pack(WHOLE)}
    assert copy(packed=True)._photo(photo) == {}
    np.testing.assert_array_equal(copy(packed=False)._photo(photo)[IMAGE_VECTOR], WHOLE)
    assert copy(packed=False)._photo({**photo, IMAGE_VECTOR: [1]}) == {}
    assert copy(packed=False)._photo({"title": "a"}) == {}

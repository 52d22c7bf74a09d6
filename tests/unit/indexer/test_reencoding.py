"""Which vectors a reencoded document has as numbers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from indexer.reencoding import _Copy
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, PACKED, VECTOR, pack

WHOLE = np.array([0.6, 0.0, 0.8, 0.0], np.float32)


class Wide:
    """An encoder of four dimensions."""

    ref = "wide@0123456789ab"
    dimensions = 4


def copy(*, packed: bool, dimensions: int = 0) -> _Copy:
    nothing: Any = None
    target: Any = SimpleNamespace(index="shop-2")
    encoder: Any = Wide()
    return _Copy(nothing, "shop-1", target, encoder, dimensions, None, packed=packed)


@pytest.mark.parametrize(
    ("packed", "dimensions", "numbers"),
    [(True, 0, None), (True, 4, None), (False, 0, WHOLE), (True, 2, [1, 0]), (False, 2, [1, 0])],
)
def test_numbers_are_for_who_needs_them_and_for_what_is_cut(
    packed: bool, dimensions: int, numbers: Any
) -> None:
    written = copy(packed=packed, dimensions=dimensions)._written(WHOLE)
    assert written.pop(PACKED) == pack(WHOLE)
    assert written.keys() == (set() if numbers is None else {VECTOR})
    if numbers is not None:
        np.testing.assert_allclose(written[VECTOR], numbers, atol=1e-6)


def test_photos_keep_their_numbers_or_get_them_where_they_are_needed() -> None:
    photo = {IMAGE_PACKED: pack(WHOLE)}
    assert copy(packed=True)._photo(photo) == {}
    np.testing.assert_array_equal(copy(packed=False)._photo(photo)[IMAGE_VECTOR], WHOLE)
    assert copy(packed=False)._photo({**photo, IMAGE_VECTOR: [1]}) == {}
    assert copy(packed=False)._photo({"title": "a"}) == {}

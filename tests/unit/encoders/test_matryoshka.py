"""Vectors that are cut have length 1 again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuralrank.bundles.bundle import Manifest, content_hash
from neuralrank.encoders.matryoshka import cut


@given(arrays(np.float32, (3, 6), elements=st.floats(-1, 1, width=16)), st.integers(1, 6))
def test_what_is_left_keeps_its_direction_and_has_length_1(vectors: np.ndarray, width: int) -> None:
    found = cut(vectors, width)
    assert found.shape == (3, width)
    for before, after in zip(vectors[:, :width], found, strict=True):
        length = float(np.linalg.norm(before))
        assert float(np.linalg.norm(after)) == pytest.approx(1.0 if length else 0.0, abs=1e-5)
        assert after * length == pytest.approx(before, abs=1e-5)


def test_a_bundle_that_says_nothing_of_it_keeps_its_hash() -> None:
    fields = {"name": "e", "kind": "encoder", "dimensions": 8, "files": {"model.onnx": "0" * 64}}
    plain = Manifest.model_validate(fields)
    # Before there was such a field.
    assert content_hash(plain) == "d88775f93417"
    assert content_hash(plain.model_copy(update={"matryoshka": (4,)})) != "d88775f93417"
    with pytest.raises(ValueError, match="each must be below dimensions, 8"):
        Manifest.model_validate({**fields, "matryoshka": [8]})

"""Vectors as text and back."""

import numpy as np
import pytest

from neuralrank.opensearch.packing import pack, unpack


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

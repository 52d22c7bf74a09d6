"""Recorded candidates as the sidecar scores them."""

from pathlib import Path

import numpy as np

from bench.blended import Texts, pages
from bench.candidates import Found, Recorded
from neuralrank.encoders.encoder import Encoder
from tests.unit.conftest import tiny_bundle


def test_models_read_the_query_without_what_it_excludes(tmp_path: Path) -> None:
    candidates = (("a", 2.0), ("b", None), ("c", 1.0))
    data = Recorded(
        {
            "plain": Found("laptop", candidates),
            "excluding": Found("laptop without kettle", candidates),
        },
        {},
    )
    texts = {"a": "apple laptop", "b": "kettle", "c": "phone"}
    encoder = Encoder.load(tiny_bundle(tmp_path / "encoder", "encoder"))
    found = dict(pages(data, Texts(texts, texts), encoder, tmp_path / "vectors"))
    assert found["excluding"].query == "laptop"
    np.testing.assert_array_equal(found["excluding"].match, found["plain"].match)

"""What an encoder reads of a text, and what its cosines are mapped to."""

from pathlib import Path

import numpy as np
import pytest

from neuralrank.encoders.encoder import Encoder
from tests.unit.conftest import tiny_bundle


def encoder(folder: Path, low: float, high: float) -> Encoder:
    return Encoder.load(
        tiny_bundle(folder, "encoder", item_similarity={"low": low, "high": high}), threads=1
    )


def test_queries_and_passages_are_read_after_the_prefix_of_their_own(tmp_path: Path) -> None:
    plain = Encoder.load(tiny_bundle(tmp_path / "plain", "encoder"), threads=1)
    prefixes = {"query_prefix": "query ", "passage_prefix": "passage "}
    prefixed = Encoder.load(tiny_bundle(tmp_path / "prefixed", "encoder", **prefixes), threads=1)
    expected = plain.encode_passages(["query red", "passage red"])
    assert prefixed.encode_queries(["red"])[0] == pytest.approx(expected[0], abs=1e-6)
    assert prefixed.encode_passages(["red"])[0] == pytest.approx(expected[1], abs=1e-6)


def test_items_are_told_apart_up_to_the_very_same(tmp_path: Path) -> None:
    cosines = np.array([-1.0, 0.8, 0.85, 0.9, 0.92, 0.98, 1.0], np.float32)
    found = encoder(tmp_path, 0.8, 1.0 - 0.1).calibrate_item(cosines)
    # Half of the range is half; the other half goes on to 1.
    assert found == pytest.approx(
        [0, 0, 0.5, 0.5 + 0.05 / 0.3, 0.5 + 0.07 / 0.3, 0.9333, 1], abs=1e-4
    )
    assert (np.diff(found[1:]) > 0).all()


def test_what_is_near_a_centroid_is_told_apart_up_to_1_alike(tmp_path: Path) -> None:
    cosines = np.array([-1.0, 0.8, 0.85, 0.9, 0.95, 1.0], np.float32)
    found = encoder(tmp_path, 0.8, 0.9).calibrate_centroid(cosines)
    assert found == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1], abs=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, 1.5), (0.9, 1.9), (-1.0, 1.0)])
def test_every_range_maps_into_0_to_1_and_never_falls(
    tmp_path: Path, low: float, high: float
) -> None:
    cosines = np.linspace(-1, 1, 101, dtype=np.float32)
    found = encoder(tmp_path, low, high).calibrate_item(cosines)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()
    assert np.isnan(encoder(tmp_path, low, high).calibrate_item(np.array([np.nan], np.float32)))

"""What a cross-encoder makes of a text by itself."""

from pathlib import Path

import numpy as np

from neuralrank.encoders.cross_encoder import CrossEncoder
from tests.unit.conftest import tiny_bundle


def test_models_of_one_vocabulary_make_the_same_of_a_text_and_others_have_another(
    tmp_path: Path,
) -> None:
    """By it tokens are kept for whichever model comes next."""

    def load(name: str, most: int) -> CrossEncoder:
        bundle = tiny_bundle(tmp_path / name, "cross_encoder", name=name, max_tokens=most)
        return CrossEncoder.load(bundle, threads=1)

    model, alike, shorter = load("model", 64), load("alike", 64), load("shorter", 16)
    (whole,), (same,), (cut,) = (
        each.tokenise(["red " * 1_000]) for each in (model, alike, shorter)
    )
    assert alike.ref != model.ref
    assert alike.vocabulary == model.vocabulary
    np.testing.assert_array_equal(same, whole)
    assert shorter.vocabulary != model.vocabulary
    assert len(cut) < len(whole)

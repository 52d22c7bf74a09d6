"""Image encoders: loading, checks, and vectors that depend on their own photo alone."""

from pathlib import Path

import numpy as np
import pytest

from neuralrank.bundles.bundle import Bundle, Manifest
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.errors import InvalidBundle
from tests.unit.conftest import tiny_bundle, tiny_image_bundle
from tests.unit.encoders.test_pictures import GREEN, RED, file, plain


@pytest.fixture
def encoder(tmp_path: Path) -> ImageEncoder:
    return ImageEncoder.load(tiny_image_bundle(tmp_path / "bundle"), threads=1)


def test_vectors_have_length_1_and_say_how_alike_photos_are(encoder: ImageEncoder) -> None:
    reddish = (230, 60, 20)
    seen: list[int] = []
    photos = [file(plain(colour=colour)) for colour in (RED, reddish, GREEN)]
    vectors = encoder.encode(encoder.read(photos), seen.append)
    assert vectors.shape == (3, 3)
    assert sum(seen) == 3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.9 > vectors[0] @ vectors[2]


def test_a_vector_does_not_depend_on_who_shares_its_batch(encoder: ImageEncoder) -> None:
    random = np.random.default_rng(3)
    pictures = encoder.read(
        [file(plain(colour=tuple(random.integers(1, 256, 3).tolist()))) for _ in range(20)]
    )
    together = encoder.encode(pictures)
    alone = np.concatenate([encoder.encode([picture]) for picture in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_another_kind_of_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="of kind encoder, not image_encoder"):
        ImageEncoder.load(tiny_bundle(tmp_path, "encoder"))


def changed(bundle: Bundle, **fields: object) -> Bundle:
    return Bundle(bundle.path, bundle.manifest.model_copy(update=fields))


def test_other_vectors_than_it_was_made_with_are_refused(tmp_path: Path) -> None:
    bundle = tiny_image_bundle(tmp_path)
    (golden,) = bundle.manifest.golden
    other = golden.model_copy(update={"values": tuple(-value for value in golden.values)})
    with pytest.raises(InvalidBundle, match=r"golden picture .* but was published with"):
        ImageEncoder.load(changed(bundle, golden=(other,)))


def test_a_wrong_shape_and_nan_are_refused(tmp_path: Path) -> None:
    bundle = tiny_image_bundle(tmp_path / "good")
    with pytest.raises(InvalidBundle, match=r"shape \[1, 3\]; .* says \[1, 7"):
        ImageEncoder.load(changed(bundle, dimensions=7))
    with pytest.raises(InvalidBundle, match="not finite"):
        # Zero by zero.
        ImageEncoder.load(tiny_image_bundle(tmp_path / "nan", scale=0.0))


def test_its_manifest_says_what_it_reads() -> None:
    said = {"name": "a", "kind": "image_encoder", "files": {"model.onnx": "0" * 64}}
    with pytest.raises(ValueError, match="image is missing; kind image_encoder must have it"):
        Manifest.model_validate(said)
    image = {"size": 16, "mean": (0, 0, 0), "std": (1, 0, 1)}
    with pytest.raises(ValueError, match="each must be above 0"):
        Manifest.model_validate({**said, "image": image})
    with pytest.raises(ValueError, match="image is given; kind image_encoder must have it and"):
        Manifest.model_validate({**said, "kind": "encoder", "image": {**image, "std": (1, 1, 1)}})

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from neuralrank.bundles.bundle import (
    MANIFEST,
    MODEL,
    Bundle,
    Manifest,
    content_hash,
    parse_ref,
    write_bundle,
)
from neuralrank.errors import InvalidBundle


def test_a_bundle_opens_as_it_was_written(encoder_bundle: Bundle) -> None:
    opened = Bundle.open(encoder_bundle.path)
    assert opened == encoder_bundle
    assert opened.ref == f"tiny-encoder@{opened.hash}"
    assert len(opened.hash) == 12


def test_a_changed_file_is_refused(encoder_bundle: Bundle) -> None:
    data = bytearray(encoder_bundle.model.read_bytes())
    data[-1] ^= 1
    encoder_bundle.model.write_bytes(data)
    with pytest.raises(InvalidBundle, match=r"model\.onnx has SHA-256 .* damaged or was changed"):
        Bundle.open(encoder_bundle.path)


def test_a_missing_file_is_named(encoder_bundle: Bundle) -> None:
    encoder_bundle.tokenizer.unlink()
    with pytest.raises(InvalidBundle, match=r"tokenizer\.json is missing"):
        Bundle.open(encoder_bundle.path)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="it is not a bundle"):
        Bundle.open(tmp_path)


def test_a_manifest_can_not_name_files_outside(encoder_bundle: Bundle) -> None:
    manifest = json.loads((encoder_bundle.path / MANIFEST).read_text())
    manifest["files"]["../secret"] = "0" * 64
    (encoder_bundle.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InvalidBundle, match="outside the bundle"):
        Bundle.open(encoder_bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "oracle"}, "kind"),
        ({"name": "Not A Name"}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_a_manifest_says_what_is_wrong(
    encoder_bundle: Bundle, change: dict[str, object], message: str
) -> None:
    fields = encoder_bundle.manifest.model_dump(exclude={"files"})
    with pytest.raises(InvalidBundle, match=message):
        write_bundle(encoder_bundle.path, {**fields, **change})


def test_the_hash_is_of_what_is_served(encoder_bundle: Bundle) -> None:
    fields = encoder_bundle.manifest.model_dump(exclude={"files"})
    same = write_bundle(encoder_bundle.path, {**fields, "metrics": {"nDCG@10": 0.7}})
    assert same.ref == encoder_bundle.ref
    other = write_bundle(encoder_bundle.path, {**fields, "query_prefix": "query: "})
    assert other.ref != encoder_bundle.ref


def test_a_photo_that_is_not_resized_before_it_is_cut_leaves_the_hash_as_it_was() -> None:
    image = {"size": 16, "mean": (0.0,) * 3, "std": (1.0,) * 3, "fit": "crop"}
    fields = {
        "name": "photos", "kind": "image_encoder", "dimensions": 3, "files": {MODEL: "0" * 64},
    }  # fmt: skip
    before = Manifest.model_validate({**fields, "image": image})
    resized = Manifest.model_validate({**fields, "image": {**image, "resize": 20}})
    assert content_hash(before) == "86fd41ba50b7" != content_hash(resized)
    for wrong in ({"resize": 15}, {"resize": 20, "fit": "pad"}):
        with pytest.raises(ValidationError, match=r"at least size, and fit crop|greater than"):
            Manifest.model_validate({**fields, "image": {**image, **wrong}})


def test_refs() -> None:
    assert parse_ref("e5@abc") == ("e5", "abc")
    assert parse_ref("e5") == ("e5", "")
    assert MODEL == "model.onnx"

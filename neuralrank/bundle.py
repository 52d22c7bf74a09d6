"""A model bundle: a folder that holds a model and all that is needed to serve it.

    manifest.json    what it is (see `Manifest`), with the SHA-256 of every other file
    model.onnx       the graph
    tokenizer.json   as the library `tokenizers` reads it

A bundle is never changed: another content is another hash. No pickle is ever loaded. Read one with
`Bundle.open`, which verifies it; make one with `write_bundle`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuralrank.errors import InvalidBundle

__all__ = ["Bundle", "Calibration", "Golden", "Kind", "Manifest", "parse_ref", "write_bundle"]

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"

Kind = Literal["encoder", "cross_encoder", "image_encoder", "personal_ranker"]
_HASH_DIGITS = 12
# What may differ between two bundles that serve the same: left out of the content hash.
_NOT_CONTENT = {"created", "golden", "metrics", "source"}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(_Model):
    """Maps a model's raw number to [0, 1]: (raw - low) / (high - low), clipped.

    For cosines: `low` is what unrelated texts typically have, `high` what near duplicates have.
    Encoders differ much in this (E5 gives unrelated texts 0.75), so it belongs to the bundle.
    """

    low: float
    high: float


class Golden(_Model):
    """An input with the output that it had when the bundle was made; checked before serving.

    `texts` is one passage for an encoder and (query, text) for a cross-encoder; `values` are the
    first dimensions of the vector, or the logit.
    """

    texts: tuple[str, ...]
    values: tuple[float, ...]


class Manifest(_Model):
    """What a bundle says of itself."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    kind: Kind
    # BCP 47 primary subtags; empty means any.
    languages: tuple[str, ...] = ()
    # Longest input; what is longer is cut.
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 512
    # Length of the vectors; 0 for models that give a score.
    dimensions: Annotated[int, Field(ge=0)] = 0
    # Whether vectors have length 1, so that a dot product is a cosine.
    normalized: bool = False
    precision: str = "fp32"
    # What an encoder was trained to find before a query and before a passage.
    query_prefix: str = ""
    passage_prefix: str = ""
    # An encoder's cosines between query and item, and between items; a cross-encoder's logit.
    query_similarity: Calibration = Calibration(low=0.0, high=1.0)
    item_similarity: Calibration = Calibration(low=0.0, high=1.0)
    logit: Calibration = Calibration(low=-10.0, high=10.0)
    golden: tuple[Golden, ...] = ()
    golden_tolerance: float = 0.02
    # Where it comes from, and under which licence.
    source: str = ""
    licence: str = ""
    # The bundle that it was trained from, as name@hash, and the period of the feedback.
    parent: str = ""
    training_window: str = ""
    # Metrics at publication, by name and data set.
    metrics: dict[str, float] = {}
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    # SHA-256 by file name, of every file but this one.
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on the local disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Reads and verifies the bundle in a folder.

        Raises:
            InvalidBundle: the manifest is missing or not understood, or a file is missing or has
                another content than the manifest says.
        """
        manifest = read_manifest(path)
        for name, expected in manifest.files.items():
            file = path / name
            if Path(name).name != name:
                raise InvalidBundle(
                    f"{path}: the manifest names a file outside the bundle: {name!r}."
                )
            if not file.is_file():
                raise InvalidBundle(f"{path}: {name} is missing. Add the bundle anew.")
            actual = _sha256(file)
            if actual != expected:
                raise InvalidBundle(
                    f"{path}: {name} has SHA-256 {actual[:12]}…, the manifest says "
                    f"{expected[:12]}…: "
                    "it is damaged or was changed. Add the bundle anew; bundles are never edited."
                )
        for name in (MODEL, TOKENIZER):
            if name not in manifest.files:
                raise InvalidBundle(f"{path}: the manifest does not list {name}.")
        return cls(path, manifest)

    @cached_property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the content."""
        return content_hash(self.manifest)

    @property
    def ref(self) -> str:
        """`name@hash`: this bundle and no other."""
        return f"{self.manifest.name}@{self.hash}"

    @property
    def model(self) -> Path:
        return self.path / MODEL

    @property
    def tokenizer(self) -> Path:
        return self.path / TOKENIZER


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle in a folder, without verifying the files.

    Raises:
        InvalidBundle: it is missing or not understood.
    """
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise InvalidBundle(f"{path} has no {MANIFEST}: it is not a bundle.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidBundle(f"{path / MANIFEST}: {where}: {first['msg']}.") from error


def content_hash(manifest: Manifest) -> str:
    content = manifest.model_dump(mode="json", exclude=_NOT_CONTENT)
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_HASH_DIGITS]


def write_bundle(path: Path, fields: Mapping[str, Any]) -> Bundle:
    """Writes the manifest for the files that are in a folder, and opens it as a bundle.

    Args:
        fields: the manifest's fields, without `files`.

    Raises:
        InvalidBundle: the fields are not those of a manifest.
    """
    files = {file.name: _sha256(file) for file in sorted(path.iterdir()) if file.name != MANIFEST}
    try:
        manifest = Manifest.model_validate({**fields, "files": files})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidBundle(
            f"Manifest: {where}: got {first['input']!r}: {first['msg']}."
        ) from error
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return Bundle.open(path)


def parse_ref(ref: str) -> tuple[str, str]:
    """`name` or `name@hash` as (name, hash), the hash empty where none is given."""
    name, _, digits = ref.partition("@")
    return name, digits


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

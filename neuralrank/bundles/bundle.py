"""A model bundle: a folder that holds a model and all that is needed to serve it.

    manifest.json    what it is (see `Manifest`), with the SHA-256 of every other file
    model.onnx       the graph
    tokenizer.json   as the library `tokenizers` reads it; of models that read text
    items.json       ids of the items that a personal ranker knows, if it knows any
    item_knn.*       what users had together, by item, if a personal ranker knows

A bundle is never changed: another content is another hash. No pickle is ever loaded. Read one with
`Bundle.open`, which verifies it; make one with `write_bundle`.

A bundle may come from anywhere, so what it says is not believed: files are plain names in its own
folder (no path, no link), external data of the graph is one of them, and everything has a limit.
"""

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from neuralrank.bundles.onnx_references import external_locations
from neuralrank.errors import InvalidBundle, InvalidInput
from neuralrank.validation import first_problem

__all__ = [
    "Bundle", "Calibration", "Golden", "ImageInputs", "Kind", "Manifest", "PersonalInputs",
    "calibrated", "most_languages_first", "parse_ref", "require_name", "write_bundle",
]  # fmt: skip

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"

Kind = Literal["encoder", "cross_encoder", "image_encoder", "personal_ranker"]
_HASH_DIGITS = 12
# The most bytes of a manifest, a tokenizer, and all files of a bundle. The largest vocabularies in
# use (250,000 pieces) take 20 MB, the largest graphs that one machine ranks with a few GB.
_MANIFEST_BYTES: Final = 2**20
_TOKENIZER_BYTES: Final = 128 * 2**20
_BUNDLE_BYTES: Final = 16 * 2**30
_NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# Formats that are read by running what they hold. Nothing here reads them; a bundle has none.
_PICKLES: Final = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"})
# What may differ between two bundles that serve the same: left out of the content hash.
_NOT_CONTENT = {"created", "golden", "metrics", "source"}
# Fields that format 1 did not begin with. Empty, they leave the hash of older bundles as it was.
_LATER: Final = ("matryoshka", "personal", "image", "item_knn")
# Kinds whose models read texts, and so have a tokenizer.
_READ_TEXT: Final = ("encoder", "cross_encoder")


_Text = Annotated[str, Field(max_length=4_096)]
_Language = Annotated[str, Field(max_length=35)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Calibration(_Model):
    """Maps a model's raw number to [0, 1]: (raw - low) / (high - low), clipped.

    For cosines: `low` is what unrelated texts typically have, `high` what near duplicates have.
    Encoders differ much in this (E5 gives unrelated texts 0.75), so it belongs to the bundle.
    """

    low: float
    high: float

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low}, high {self.high}; low must be below high")
        return self


def calibrated(values: NDArray[np.float32], to: Calibration) -> NDArray[np.float32]:
    """A model's raw numbers, mapped to [0, 1]; NaN stays."""
    scaled = (values - to.low) / (to.high - to.low)
    return np.asarray(np.minimum(np.maximum(scaled, 0.0), 1.0), np.float32)


class Golden(_Model):
    """An input with the output that it had when the bundle was made; checked before serving.

    `texts` is one passage for an encoder, (query, text) for a cross-encoder, the name of a head for
    a personal ranker and that of the picture for an image encoder, whose inputs are always the same
    (`neuralrank.personal.ranker`, `neuralrank.encoders.image_encoder`); `values` are the first
    dimensions of the vector, the logit, or the scores.
    """

    texts: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=2)]
    values: Annotated[tuple[float, ...], Field(min_length=1, max_length=8_192)]


# A length of vectors.
_Cut = Annotated[int, Field(ge=1)]


_Names = Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=64)]


class PersonalInputs(_Model):
    """What a personal ranker reads; `neuralrank.personal.inputs` knows the names."""

    # Whose vectors of items and queries it was trained with, as name@hash.
    encoder: Annotated[str, Field(min_length=1, max_length=128)]
    # The most events of a user that it reads, the newest ones.
    events: Annotated[int, Field(ge=1, le=1_024)]
    # What its columns are: outputs, kinds of events, of a candidate, of an event with a candidate.
    heads: Annotated[_Names, Field(min_length=1)]
    actions: Annotated[_Names, Field(min_length=1)]
    features: _Names
    pairs: _Names


class KnnShare(_Model):
    """What users had together beside the network, of one head: score + weight × closeness, of which
    `low` becomes 0 and `high` 1."""

    weight: Annotated[float, Field(ge=0, le=100)]
    low: float
    high: float

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g}, which is not below high {self.high:g}")
        return self


_Colours = tuple[float, float, float]


class ImageInputs(_Model):
    """What an image encoder reads of a photo."""

    # Pixels of a side; photos are square to it.
    size: Annotated[int, Field(ge=16, le=1_024)]
    # Taken off each of red, green and blue in [0, 1], and what the rest is divided by.
    mean: _Colours
    std: _Colours
    # How a photo that is not square becomes so: white at its sides, cut at its sides, or stretched.
    fit: Literal["pad", "crop", "stretch"] = "pad"
    # Pixels that the shorter side is first made, of which the middle `size` are cut out; only where
    # `fit` is crop. None: `size`, so that nothing of the shorter side is cut off.
    resize: Annotated[int, Field(ge=16, le=2_048)] | None = None

    @model_validator(mode="after")
    def _cuts_from_what_is_larger(self) -> Self:
        if self.resize is not None and (self.fit != "crop" or self.resize < self.size):
            raise ValueError(
                f"resize is {self.resize} with fit {self.fit} and size {self.size}; it must be at "
                "least size, and fit crop"
            )
        return self

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std is {list(self.std)}; each must be above 0")
        return self


def most_languages_first(languages: Collection[str]) -> float:
    """Sorts encoders in the order in which they answer who names none: a text may be in any
    language. None named means that all are known."""
    return -(len(languages) or math.inf)


class Manifest(_Model):
    """What a bundle says of itself."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=_NAME)]
    kind: Kind
    # BCP 47 primary subtags; empty means any.
    languages: Annotated[tuple[_Language, ...], Field(max_length=256)] = ()
    # Longest input; what is longer is cut.
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 512
    # Length of the vectors; 0 for models that give a score.
    dimensions: Annotated[int, Field(ge=0, le=65_536)] = 0
    # Lengths below `dimensions` to which vectors may be cut, because the model was trained for it.
    matryoshka: Annotated[tuple[_Cut, ...], Field(max_length=64)] = ()
    # Whether vectors have length 1, so that a dot product is a cosine.
    normalized: bool = False
    precision: Annotated[str, Field(max_length=64)] = "fp32"
    # What an encoder was trained to find before a query and before a passage.
    query_prefix: _Text = ""
    passage_prefix: _Text = ""
    # An encoder's cosines between query and item, and between items; a cross-encoder's logit.
    query_similarity: Calibration = Calibration(low=0.0, high=1.0)
    item_similarity: Calibration = Calibration(low=0.0, high=1.0)
    logit: Calibration = Calibration(low=-10.0, high=10.0)
    golden: Annotated[tuple[Golden, ...], Field(max_length=64)] = ()
    golden_tolerance: Annotated[float, Field(ge=0)] = 0.02
    # Of a personal ranker, and of no other kind.
    personal: PersonalInputs | None = None
    # Of an image encoder, and of no other kind.
    image: ImageInputs | None = None
    # Of a personal ranker's heads. Empty: its scores are the network's.
    item_knn: Annotated[tuple[KnnShare, ...], Field(max_length=64)] = ()
    # Where it comes from, and under which licence.
    source: _Text = ""
    licence: _Text = ""
    # The bundle that it was trained from, as name@hash, and the period of the feedback, an interval
    # of ISO 8601: SINCE/UNTIL.
    parent: _Text = ""
    training_window: _Text = ""
    # Metrics at publication, by name and data set.
    metrics: Annotated[dict[_Text, float], Field(max_length=1_024)] = {}
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    # SHA-256 by file name, of every file but this one.
    files: Annotated[dict[str, _Digest], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _cuts_are_shorter(self) -> Self:
        if any(cut >= self.dimensions for cut in self.matryoshka):
            raise ValueError(
                f"matryoshka is {list(self.matryoshka)}; each must be below dimensions, "
                f"{self.dimensions}"
            )
        return self

    @model_validator(mode="after")
    def _has_a_share_for_each_head(self) -> Self:
        heads = len(self.personal.heads) if self.personal else 0
        if self.item_knn and len(self.item_knn) != heads:
            raise ValueError(f"item_knn has {len(self.item_knn)} entries for {heads} heads")
        return self

    @model_validator(mode="after")
    def _says_what_it_reads(self) -> Self:
        for kind, name, given in (
            ("personal_ranker", "personal", self.personal),
            ("image_encoder", "image", self.image),
        ):
            if (self.kind == kind) != (given is not None):
                raise ValueError(
                    f"{name} is {'given' if given else 'missing'}; kind {kind} must have it and "
                    f"others must not; this is of kind {self.kind}"
                )
        return self

    @model_validator(mode="after")
    def _golden_fits(self) -> Self:
        texts, width = {
            "encoder": (1, self.dimensions), "cross_encoder": (2, 1), "personal_ranker": (1, 64),
            "image_encoder": (1, self.dimensions),
        }.get(self.kind, (0, 0))  # fmt: skip
        for golden in self.golden if texts else ():
            if len(golden.texts) != texts or len(golden.values) > width:
                raise ValueError(
                    f"golden has {len(golden.texts)} texts with {len(golden.values)} values; for "
                    f"kind {self.kind} it must have {texts} with at most {width}"
                )
        return self


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
        for name in (MODEL, TOKENIZER) if manifest.kind in _READ_TEXT else (MODEL,):
            if name not in manifest.files:
                raise InvalidBundle(f"{path}: the manifest does not list {name}.")
        total = 0
        for name, expected in manifest.files.items():
            file = path / name
            total += _size(file)
            if total > _BUNDLE_BYTES:
                raise InvalidBundle(
                    f"{path} has more than {_BUNDLE_BYTES >> 30} GiB, the most that is allowed."
                )
            actual = _sha256(file)
            if actual != expected:
                raise InvalidBundle(
                    f"{path}: {name} has SHA-256 {actual[:12]}…, the manifest says "
                    f"{expected[:12]}…: "
                    "it is damaged or was changed. Add the bundle anew; bundles are never edited."
                )
        for location in sorted(external_locations(path / MODEL)):
            if location not in manifest.files:
                raise InvalidBundle(
                    f"{path}: {MODEL} keeps data in {location!r}, which is no file of the "
                    "manifest. External data must lie in the bundle, under a plain name."
                )
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

    @property
    def vocabulary(self) -> str:
        """SHA-256 of the tokenizer's file: bundles with the same one split texts alike."""
        return self.manifest.files[TOKENIZER]


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle in a folder, without verifying the files.

    Raises:
        InvalidBundle: it is missing or not understood.
    """
    file = path / MANIFEST
    if not file.is_file() and not file.is_symlink():
        raise InvalidBundle(f"{path} has no {MANIFEST}: it is not a bundle.")
    _size(file)
    return parse_manifest(file.read_bytes(), str(file))


def parse_manifest(data: bytes, origin: str) -> Manifest:
    """A manifest from its JSON.

    Args:
        origin: where it comes from, for the message.

    Raises:
        InvalidBundle: it is not understood, or names a file that can't be one of a bundle.
    """
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise InvalidBundle(f"{origin}: {first_problem(error)}.") from error
    _check_names(manifest, origin)
    return manifest


def _check_names(manifest: Manifest, origin: str) -> None:
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise InvalidBundle(
                f"{origin} names a file outside the bundle: {name[:80]!r}. Allowed are plain names "
                "of letters, digits, dot, minus and underscore."
            )
        if Path(name).suffix.lower() in _PICKLES:
            raise InvalidBundle(
                f"{origin} lists {name!r}: a pickle is never loaded, and a bundle holds none. Save "
                "the model as ONNX."
            )


def _size(file: Path) -> int:
    """Bytes of a file of a bundle.

    Raises:
        InvalidBundle: it is missing, no regular file, or larger than it may be.
    """
    if file.is_symlink():
        raise InvalidBundle(f"{file} is a link. A bundle holds its files itself; add it anew.")
    if not file.is_file():
        raise InvalidBundle(f"{file.parent}: {file.name} is missing. Add the bundle anew.")
    size = file.stat().st_size
    limits = {MANIFEST: _MANIFEST_BYTES, TOKENIZER: _TOKENIZER_BYTES}
    limit = limits.get(file.name, _BUNDLE_BYTES)
    if size > limit:
        raise InvalidBundle(f"{file} has {size} bytes; allowed are {limit}.")
    return size


def content_hash(manifest: Manifest) -> str:
    content = manifest.model_dump(mode="json", exclude=_NOT_CONTENT)
    for name in _LATER:
        if not content[name]:
            del content[name]
    if (image := content.get("image")) and image["resize"] is None:
        del image["resize"]  # which format 1 did not begin with either
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
        raise InvalidBundle(f"Manifest: {first_problem(error)}.") from error
    _check_names(manifest, "Manifest")
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=2, exclude_none=True) + "\n")
    return Bundle.open(path)


def require_name(name: str) -> None:
    """Sees that a bundle can have the name that somebody gave, before the work that makes one; ""
    is none given.

    Raises:
        InvalidInput: it can't.
    """
    if name and not re.fullmatch(_NAME, name):
        raise InvalidInput(
            f"--name is {name!r}; allowed are up to 64 of a to z, 0 to 9, dot, minus and "
            "underscore, the first of them a letter or a digit."
        )


def parse_ref(ref: str) -> tuple[str, str]:
    """`name` or `name@hash` as (name, hash), the hash empty where none is given."""
    name, _, digits = ref.partition("@")
    return name, digits


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

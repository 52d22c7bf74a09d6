"""Checks that a loaded model computes what it computed when its bundle was made.

A checksum says that the files are right; only a run says that this machine and this runtime make
the same numbers of them. Golden outputs are recorded by `neuralrank.models.measured`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from neuralrank.bundles.bundle import Bundle, Golden
from neuralrank.errors import InvalidBundle, NeuralrankError

__all__ = ["check_cross_encoder", "check_encoder", "require_same", "require_shape", "running"]

# Read by every model, with golden outputs or without: two scripts, and two lengths in one batch.
_QUERY: Final = "wireless headphones 降噪耳机"
_TEXTS: Final = ("Over-ear headphones with noise cancelling 头戴式无线降噪耳机", "kettle")
# How far from 1 the length of a vector may be that is said to be normalised.
_LENGTH_TOLERANCE: Final = 0.01


class _Encoder(Protocol):
    bundle: Bundle

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class _CrossEncoder(Protocol):
    bundle: Bundle

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]: ...


def check_encoder(encoder: _Encoder) -> None:
    """Runs the encoder.

    Raises:
        InvalidBundle: its vectors are not finite, not of length 1 though the manifest says so, or
            not those that it was published with; or it can't run at all.
    """
    manifest, ref = encoder.bundle.manifest, encoder.bundle.ref
    with running(ref):
        vectors = encoder.encode_passages(_TEXTS)
        if not np.isfinite(vectors).all():
            raise InvalidBundle(f"{ref} gives vectors with NaN or infinity. It is not served.")
        lengths = np.linalg.norm(vectors, axis=1)
        if manifest.normalized and not np.allclose(lengths, 1.0, atol=_LENGTH_TOLERANCE):
            raise InvalidBundle(
                f"{ref} gives vectors of length {lengths.max():.3f}; its manifest says that they "
                "are normalised to 1. It is not served."
            )
        for golden in manifest.golden:
            vector = encoder.encode_passages(golden.texts)[0]
            require_same(encoder.bundle, golden, vector, f"encodes {golden.texts[0]!r} as")


def check_cross_encoder(model: _CrossEncoder) -> None:
    """Runs the cross-encoder.

    Raises:
        InvalidBundle: its scores are not finite, or not those that it was published with; or it
            can't run at all.
    """
    manifest, ref = model.bundle.manifest, model.bundle.ref
    with running(ref):
        if not np.isfinite(model.score(_QUERY, _TEXTS)).all():
            raise InvalidBundle(f"{ref} gives scores that are NaN or infinite. It is not served.")
        for golden in manifest.golden:
            query, text = golden.texts
            require_same(
                model.bundle, golden, model.score(query, [text]), f"scores {golden.texts} with"
            )


def require_same(bundle: Bundle, golden: Golden, found: NDArray[np.float32], does: str) -> None:
    """A golden input gives what it gave when the bundle was made.

    Args:
        found: float32 [n]; the first numbers of a vector are compared, as many as were recorded.
        does: what the model does with the input, for the message: "encodes 'kettle' as".

    Raises:
        InvalidBundle: it gives something else.
    """
    expected = np.array(golden.values, np.float32)
    found = found[: len(expected)]
    if found.shape != expected.shape or not np.allclose(
        found, expected, rtol=0.0, atol=bundle.manifest.golden_tolerance
    ):
        raise InvalidBundle(
            f"{bundle.ref} {does} {found}, but was published with {expected}: this machine or "
            "runtime computes something else. It is not served; add the bundle anew or report this."
        )


def require_shape(ref: str, what: str, found: NDArray[Any], *wanted: int) -> None:
    """
    Args:
        what: the array is, for the message: "vectors".

    Raises:
        InvalidBundle: it has another shape than the manifest says.
    """
    if found.shape != wanted:
        raise InvalidBundle(
            f"{ref} gives {what} of shape {list(found.shape)}; its manifest says {list(wanted)}."
        )


@contextmanager
def running(ref: str) -> Iterator[None]:
    """Whatever a graph or a tokenizer raises is the bundle's fault here: the input is ours."""
    try:
        yield
    except NeuralrankError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:500]
        raise InvalidBundle(f"{ref} can't be run ({reason}). Add the bundle anew.") from error

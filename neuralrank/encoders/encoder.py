"""The bi-encoder: texts to vectors whose cosine says how near they are in meaning.

Reimers and Gurevych, "Sentence-BERT" (2019).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends.choice import Choice
from neuralrank.backends.fallback import Backend, check_loaded
from neuralrank.backends.loading import load_backend
from neuralrank.bundles.bundle import Bundle, Calibration, calibrated
from neuralrank.bundles.golden import check_encoder, require_shape
from neuralrank.errors import InvalidBundle
from neuralrank.text.tokens import Tokens, beginning, load_tokenizer, padded, tokens_of

__all__ = ["Encoder", "alike"]

Vectors = NDArray[np.float32]


class Encoder:
    """A loaded encoder bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self._backend = backend
        self._tokenizer = load_tokenizer(bundle)

    @classmethod
    def load(cls, bundle: Bundle, threads: int = 0, choice: Choice | None = None) -> "Encoder":
        """Loads a bundle and checks its golden vectors; the model is then warm.

        Args:
            threads: how many threads one call may use; 0 means one a core.
            choice: of the backend; by default ONNX Runtime.

        Raises:
            InvalidBundle: it is of another kind, can't be loaded, or gives other vectors than when
                it was made, vectors of a wrong shape or none that are finite.
        """
        if bundle.manifest.kind != "encoder":
            raise InvalidBundle(f"{bundle.ref} is of kind {bundle.manifest.kind}, not encoder.")
        backend = load_backend(bundle, threads, choice)
        encoder = cls(bundle, backend)
        check_loaded(backend, lambda: check_encoder(encoder))
        return encoder

    @property
    def ref(self) -> str:
        return self.bundle.ref

    @property
    def dimensions(self) -> int:
        return self.bundle.manifest.dimensions

    @property
    def matryoshka(self) -> tuple[int, ...]:
        """Lengths to which its vectors may be cut (`neuralrank.encoders.matryoshka`)."""
        return self.bundle.manifest.matryoshka

    @property
    def backend_name(self) -> str:
        return self._backend.name

    def tokenise_queries(self, texts: Sequence[str]) -> list[Tokens]:
        """What the model reads of search queries."""
        return self._tokenise(self.bundle.manifest.query_prefix, texts)

    def tokenise_passages(self, texts: Sequence[str]) -> list[Tokens]:
        """What the model reads of texts to be found."""
        return self._tokenise(self.bundle.manifest.passage_prefix, texts)

    def run(self, batch: Sequence[Tokens]) -> Vectors:
        """Vectors of what was tokenised, float32 [batch, dimensions], of length 1, in one run
        padded to the longest. Each depends on its own text alone.

        Raises:
            InvalidBundle: the graph gives another shape.
        """
        result = self._backend.run(padded(batch, self._backend.inputs))
        require_shape(self.ref, "vectors", result, len(batch), self.dimensions)
        return result

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of search queries, float32 [texts, dimensions], of length 1."""
        return self._encode(self.tokenise_queries(texts))

    def encode_passages(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors of texts to be found, float32 [texts, dimensions], of length 1.

        Args:
            progress: called with the number of texts done since the last call.
        """
        return self._encode(self.tokenise_passages(texts), progress)

    def calibrate_query(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines between queries and passages, mapped to [0, 1]."""
        return calibrated(cosines, self.bundle.manifest.query_similarity)

    def calibrate_item(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines between passages, mapped to [0, 1] (`alike`)."""
        return alike(cosines, self.bundle.manifest.item_similarity)

    def calibrate_centroid(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines to a centroid of passages, mapped to [0, 1]; they reach up to 1 itself."""
        low = self.bundle.manifest.item_similarity.low
        return calibrated(cosines, Calibration(low=low, high=1.0))

    def _tokenise(self, prefix: str, texts: Sequence[str]) -> list[Tokens]:
        longest = self.bundle.manifest.max_tokens
        encodings = self._tokenizer.encode_batch_fast(
            [prefix + beginning(text, longest) for text in texts]
        )
        return [tokens_of(encoding) for encoding in encodings]

    def _encode(
        self, texts: Sequence[Tokens], progress: Callable[[int], None] | None = None
    ) -> Vectors:
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for rows in self._backend.batches([len(tokens) for tokens in texts]):
            vectors[rows] = self.run([texts[row] for row in rows])
            if progress:
                progress(len(rows))
        return vectors


def alike(cosines: NDArray[np.float32], to: Calibration) -> NDArray[np.float32]:
    """Cosines between items, mapped to [0, 1]: by a manifest's `item_similarity` up to its middle,
    which is 0.5, and from there more slowly up to 1 itself; NaN stays.

    Items of one shop are nearer to each other than those that the range was measured on, and above
    a bound nothing would be told apart any more (docs/decisions/004-blend.md).
    """
    middle = (to.low + to.high) / 2
    lower = Calibration(low=to.low, high=middle)
    upper = Calibration(low=middle, high=max(1.0, middle + 1e-6))
    # Two ramps, of which the second begins where the first has ended.
    return np.asarray((calibrated(cosines, lower) + calibrated(cosines, upper)) / 2, np.float32)

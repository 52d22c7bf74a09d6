"""The cross-encoder: reads query and text together and says how relevant the text is.

Nogueira and Cho, "Passage Re-ranking with BERT" (2019).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends import Backend, load_backend
from neuralrank.batching import token_batches
from neuralrank.bundle import Bundle
from neuralrank.errors import InvalidBundle
from neuralrank.golden import check_cross_encoder
from neuralrank.tokens import load_tokenizer, padded

__all__ = ["CrossEncoder"]


class CrossEncoder:
    """A loaded cross-encoder bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self._backend = backend
        self._tokenizer = load_tokenizer(bundle)

    @classmethod
    def load(cls, bundle: Bundle, threads: int = 0) -> "CrossEncoder":
        """Loads a bundle and checks its golden scores; the model is then warm.

        Raises:
            InvalidBundle: it is of another kind, can't be loaded, or gives other scores than when
                it was made, scores of a wrong shape or none that are finite.
        """
        if bundle.manifest.kind != "cross_encoder":
            raise InvalidBundle(
                f"{bundle.ref} is of kind {bundle.manifest.kind}, not cross_encoder."
            )
        model = cls(bundle, load_backend(bundle, threads))
        check_cross_encoder(model)
        return model

    @property
    def ref(self) -> str:
        return self.bundle.ref

    @property
    def backend_name(self) -> str:
        return self._backend.name

    def supports(self, language: str) -> bool:
        """Whether the manifest names the language; an empty list there means any."""
        languages = self.bundle.manifest.languages
        return not languages or language in languages

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Relevance logits, float32 [texts]. Each depends on its own pair alone."""
        encodings = self._tokenizer.encode_batch_fast([(query, text) for text in texts])
        logits = np.empty(len(texts), np.float32)
        for rows in token_batches([len(encoding) for encoding in encodings]):
            result = self._backend.run(padded(encodings, rows, self._backend.inputs))
            if result.shape != (len(rows), 1):
                raise InvalidBundle(
                    f"{self.ref} gives scores of shape {list(result.shape)} for {len(rows)} pairs; "
                    f"a cross-encoder gives [{len(rows)}, 1]: one logit a pair."
                )
            logits[rows] = result[:, 0]
        return logits

    def probability(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits mapped linearly to [0, 1] by the manifest's calibration.

        Linear and not a sigmoid: a sigmoid is flat where this model's logits mostly are, so that
        in a blend the order among the best would be lost.
        """
        to = self.bundle.manifest.logit
        return np.asarray(np.clip((logits - to.low) / (to.high - to.low), 0.0, 1.0), np.float32)

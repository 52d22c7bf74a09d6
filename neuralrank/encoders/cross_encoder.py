"""The cross-encoder: reads query and text together and says how relevant the text is.

Nogueira and Cho, "Passage Re-ranking with BERT" (2019).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends.choice import Choice
from neuralrank.backends.fallback import Backend, check_loaded
from neuralrank.backends.loading import load_backend
from neuralrank.bundles.bundle import Bundle, calibrated
from neuralrank.bundles.golden import check_cross_encoder, require_shape
from neuralrank.encoders.pairs import PairTemplate
from neuralrank.errors import InvalidBundle
from neuralrank.text.tokens import Ids, Tokens, beginning, load_tokenizer, padded

__all__ = ["CrossEncoder"]


class CrossEncoder:
    """A loaded cross-encoder bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self._backend = backend
        # Texts are cut when they are joined, and not before: what is kept of one depends on the
        # length of the other.
        self._tokenizer = load_tokenizer(bundle, cutting=False)
        self._template = PairTemplate.learn(self._tokenizer, bundle.manifest.max_tokens)

    @classmethod
    def load(cls, bundle: Bundle, threads: int = 0, choice: Choice | None = None) -> "CrossEncoder":
        """Loads a bundle and checks its golden scores; the model is then warm.

        Raises:
            InvalidBundle: it is of another kind, can't be loaded, or gives other scores than when
                it was made, scores of a wrong shape or none that are finite.
        """
        if bundle.manifest.kind != "cross_encoder":
            raise InvalidBundle(
                f"{bundle.ref} is of kind {bundle.manifest.kind}, not cross_encoder."
            )
        backend = load_backend(bundle, threads, choice)
        model = cls(bundle, backend)
        check_loaded(backend, lambda: check_cross_encoder(model))
        return model

    @property
    def ref(self) -> str:
        return self.bundle.ref

    @property
    def vocabulary(self) -> str:
        """Two models with the same one make the same of a text in `tokenise`."""
        return f"{self.bundle.vocabulary} {self.bundle.manifest.max_tokens}"

    @property
    def backend_name(self) -> str:
        return self._backend.name

    def supports(self, language: str) -> bool:
        """Whether the manifest names the language; an empty list there means any."""
        languages = self.bundle.manifest.languages
        return not languages or language in languages

    def tokenise(self, texts: Sequence[str]) -> list[Ids]:
        """The tokens of queries or texts by themselves, int32 [n] each: one half of a pair."""
        longest = self.bundle.manifest.max_tokens
        encodings = self._tokenizer.encode_batch_fast(
            [beginning(text, longest) for text in texts], add_special_tokens=False
        )
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def pair(self, query: Ids, text: Ids) -> Tokens:
        """What the model reads, of a query and a text from `tokenise`; the longer one is cut where
        both are longer than the bundle's `max_tokens`."""
        return self._template.join(query, text)

    def run(self, batch: Sequence[Tokens]) -> NDArray[np.float32]:
        """Relevance logits of pairs, float32 [batch, 1], in one run padded to the longest. Each
        depends on its own pair alone.

        Raises:
            InvalidBundle: the graph gives another shape.
        """
        result = self._backend.run(padded(batch, self._backend.inputs))
        require_shape(self.ref, "scores", result, len(batch), 1)
        return result

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Relevance logits, float32 [texts]: tokenised, sorted by length, run in batches."""
        first, *others = self.tokenise([query, *texts])
        pairs = [self.pair(first, text) for text in others]
        logits = np.empty(len(texts), np.float32)
        for rows in self._backend.batches([len(pair) for pair in pairs]):
            logits[rows] = self.run([pairs[row] for row in rows])[:, 0]
        return logits

    def probability(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits mapped linearly to [0, 1] by the manifest's calibration.

        Linear and not a sigmoid: a sigmoid is flat where this model's logits mostly are, so that
        in a blend the order among the best would be lost.
        """
        return calibrated(logits, self.bundle.manifest.logit)

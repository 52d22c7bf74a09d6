"""Scores of a query against stored token vectors, with ONNX Runtime and numpy alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends.onnxruntime import OnnxRuntime
from neuralrank.bundles.bundle import MODEL, TOKENIZER
from neuralrank.errors import NotFound
from neuralrank.text.tokens import Tokens, padded
from trainer.recipes.late_interaction.reading import Reading

__all__ = ["FACTS", "Kept", "LateInteraction", "best"]

# What the graph does not say: `max_tokens`, `scale`, `offset`, and what is known of the training.
FACTS: Final = "late.json"
# How numbers are stored. An int8 of 127 is 1.0: of vectors of length 1 no number is larger.
Kept = Literal["float32", "float16", "int8"]
_ONE: Final = 127

Floats = NDArray[np.float32]
# Of one item, [tokens, width].
Stored = NDArray[Any]


class LateInteraction:
    """What a run of the recipe made. Safe to call from several threads."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: with graph, tokenizer and `late.json`.

        Raises:
            NotFound: it is not there.
            InvalidBundle: it can't be loaded.
        """
        if not (folder / FACTS).is_file():
            raise NotFound(
                f"There is no {folder / FACTS}. Name the folder `late` of a run of "
                "`python -m trainer.recipes.late_interaction`."
            )
        self.facts = json.loads((folder / FACTS).read_text("utf-8"))
        self._reading = Reading((folder / TOKENIZER).read_bytes(), self.facts["max_tokens"])
        self._backend = OnnxRuntime(folder / MODEL)

    def query(self, text: str) -> Floats:
        """Vectors of a query's tokens, float32 [tokens, width]."""
        return self._run(self._reading.queries([text]))[0]

    def items(self, texts: Sequence[str], kept: Kept) -> list[Stored]:
        """What is stored of each item."""
        tokens = self._reading.items(texts)
        found: list[Stored] = [np.empty(0)] * len(texts)
        for rows in self._backend.batches([len(each) for each in tokens]):
            for row, vectors in zip(rows, self._run([tokens[r] for r in rows]), strict=True):
                found[row] = _stored(vectors, kept)
        return found

    def score(self, query: Floats, items: Sequence[Stored]) -> Floats:
        """Logits, float32 [items], on the scale of the cross-encoder's.

        Args:
            query: of `query`.
            items: some of `items`, stored alike.
        """
        apart = best(query, items) - np.float32(self.facts["offset"])
        return np.asarray(np.float32(self.facts["scale"]) * apart, np.float32)

    def _run(self, batch: Sequence[Tokens]) -> list[Floats]:
        """Vectors of the tokens that count, [tokens, width] of each text."""
        vectors = self._backend.run(padded(batch, self._backend.inputs))
        return [
            vectors[row, : len(tokens)][self._reading.counted(tokens)]
            for row, tokens in enumerate(batch)
        ]


def best(query: Floats, items: Sequence[Stored]) -> Floats:
    """The mean over a query's tokens of the best cosine to each item's, float32 [items]."""
    vectors = np.concatenate(items)  # [tokens of all, width]
    lengths = np.fromiter(map(len, items), np.int64, len(items))
    sought = query / np.float32(_ONE) if vectors.dtype == np.int8 else query
    # Queries are short: [of the query, tokens of all] has the long side in one piece of memory.
    cosines = sought @ vectors.astype(np.float32, copy=False).T
    found = np.maximum.reduceat(cosines, np.cumsum(lengths) - lengths, axis=1)
    return np.asarray(found.mean(axis=0), np.float32)


def _stored(vectors: Floats, kept: Kept) -> Stored:
    if kept == "int8":
        return np.rint(vectors * _ONE).astype(np.int8)
    return vectors.astype(kept)

"""Texts to tokens: a query's are of type 0, an item's of type 1. Nothing else tells them apart."""

import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from neuralrank.text.cleaning import clean
from neuralrank.text.tokens import Tokens, read_tokenizer

__all__ = ["QUERY_TOKENS", "Reading"]

# Where queries are cut; what is longer is a pasted title.
QUERY_TOKENS: Final = 32


class Reading:
    """The tokenizer of a checkpoint."""

    def __init__(self, tokenizer: bytes, max_tokens: int) -> None:
        """
        Args:
            tokenizer: `tokenizer.json`.
            max_tokens: where items are cut.

        Raises:
            InvalidBundle: the tokenizer can't be used.
        """
        self._asking, self._telling = (
            read_tokenizer(tokenizer, "tokenizer.json") for _ in range(2)
        )
        self._asking.enable_truncation(min(QUERY_TOKENS, max_tokens))
        self._telling.enable_truncation(max_tokens)
        self._counts = _counting(self._asking)

    def queries(self, texts: Sequence[str]) -> list[Tokens]:
        return self._read(self._asking, texts, 0)

    def items(self, texts: Sequence[str]) -> list[Tokens]:
        return self._read(self._telling, texts, 1)

    def counted(self, tokens: Tokens) -> NDArray[np.bool_]:
        """Which tokens are compared, [tokens]: the first one, which stands for the whole text, and
        words. The last one and punctuation are read, but match too much."""
        return self._counts[tokens.ids]

    @staticmethod
    def _read(tokenizer: Tokenizer, texts: Sequence[str], of_type: int) -> list[Tokens]:
        encodings = tokenizer.encode_batch_fast([clean(text) for text in texts])
        return [
            Tokens(np.array(each.ids, np.int32), np.full(len(each.ids), of_type, np.int8))
            for each in encodings
        ]


def _counting(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """bool [vocabulary]."""
    counts = np.ones(tokenizer.get_vocab_size(), bool)
    for piece, token in tokenizer.get_vocab().items():
        word = piece.strip("▁")
        counts[token] = any(unicodedata.category(letter)[0] not in "PSZ" for letter in word)
    first, *_, last = tokenizer.encode("").ids
    counts[last], counts[first] = False, True
    return counts

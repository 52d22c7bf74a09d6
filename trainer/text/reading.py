"""Texts to tensors, exactly as they are read when a model serves."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neuralrank.encoders.pairs import PairTemplate
from neuralrank.models import Checkpoint
from neuralrank.text.cleaning import clean
from neuralrank.text.exclusions import as_read
from neuralrank.text.tokens import Ids, Tokens, padded, read_tokenizer, tokens_of

__all__ = ["Reader"]

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class Reader:
    """The tokenizer of a checkpoint."""

    def __init__(self, tokenizer: bytes, max_tokens: int) -> None:
        """
        Args:
            tokenizer: `tokenizer.json`.
            max_tokens: where inputs are cut.

        Raises:
            InvalidBundle: the tokenizer can't be used.
        """
        self.max_tokens = max_tokens
        self._tokenizer = read_tokenizer(tokenizer, "tokenizer.json")
        self._template = PairTemplate.learn(self._tokenizer, max_tokens)

    @classmethod
    def of(cls, checkpoint: Checkpoint, max_tokens: int = 0) -> "Reader":
        """The reader of a checkpoint; without `max_tokens` it cuts where that says."""
        wanted = max_tokens or int(checkpoint.fields.get("max_tokens", checkpoint.positions))
        return cls(checkpoint.tokenizer, min(wanted, checkpoint.positions))

    def queries(self, texts: Sequence[str]) -> list[Ids]:
        """Queries by themselves, as `halves`; no model is asked for what they exclude."""
        return self.halves([as_read(text) for text in texts])

    def halves(self, texts: Sequence[str]) -> list[Ids]:
        """Texts by themselves, int32 [n] each: one half of a pair."""
        encodings = self._tokenizer.encode_batch_fast(
            [clean(text) for text in texts], add_special_tokens=False
        )
        return [tokens_of(encoding).ids for encoding in encodings]

    def pair(self, query: Ids, text: Ids) -> Tokens:
        """What a cross-encoder reads of two halves; the longer is cut where both are too long."""
        return self._template.join(query, text)

    def whole(self, texts: Sequence[str], prefix: str = "") -> list[Tokens]:
        """What an encoder reads of texts by themselves, cut at `max_tokens`."""
        self._tokenizer.enable_truncation(self.max_tokens)
        try:
            encodings = self._tokenizer.encode_batch_fast([prefix + clean(t) for t in texts])
        finally:
            self._tokenizer.no_truncation()
        return [tokens_of(encoding) for encoding in encodings]

    @staticmethod
    def tensors(batch: Sequence[Tokens]) -> dict[str, Tensor]:
        """What a `TextModel` takes: int64 [batch, longest] each, padded."""
        return {name: torch.from_numpy(a) for name, a in padded(batch, _INPUTS).items()}

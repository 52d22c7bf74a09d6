"""Weights with their tokenizer, before they become a graph."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neuralrank.models.bert import BertConfig, Head, Weights

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A BERT's weights by Hugging Face name (without `bert.`), its sizes and its tokenizer."""

    weights: Weights
    config: BertConfig
    # What it was made for: pooling of an encoder, or a score.
    head: Head
    # `tokenizer.json`.
    tokenizer: bytes = field(repr=False)
    # Of a bundle's manifest, as far as the source knows them.
    fields: dict[str, Any]

    @property
    def positions(self) -> int:
        """The most tokens that it can read."""
        table = self.weights["embeddings.position_embeddings.weight"]
        return len(table) - self.config.first_position

    def digest(self) -> str:
        """Of all that its outputs hang on, 16 hexadecimal digits: what has the same name elsewhere,
        such as a folder that was written anew, may be another model."""
        found = hashlib.sha256(repr((self.config, self.head)).encode() + self.tokenizer)
        for name in sorted(self.weights):
            weight = self.weights[name]
            found.update(f"{name} {weight.dtype} {weight.shape}".encode())
            found.update(np.ascontiguousarray(weight).data)
        return found.hexdigest()[:16]

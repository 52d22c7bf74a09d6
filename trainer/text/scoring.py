"""Runs a text model over many texts, in batches of like lengths."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from neuralrank.text.batching import token_batches
from neuralrank.text.tokens import Tokens
from trainer.text.reading import Reader

__all__ = ["encode", "run", "score_pairs"]

_PADDED_TOKENS = 4096


def run(
    model: nn.Module, inputs: Sequence[Tokens], done: Callable[[int], None] = lambda _: None
) -> NDArray[np.float32]:
    """What the model gives for each input, in their order: float32 [inputs] or [inputs, hidden].

    Args:
        model: in the mode that is wanted; evaluation, as a rule, without gradients.
        done: called with the number of inputs done since the last call.
    """
    device = next(model.parameters()).device
    results: NDArray[np.float32] | None = None
    for rows in token_batches([len(tokens) for tokens in inputs], _PADDED_TOKENS):
        batch = Reader.tensors([inputs[row] for row in rows])
        found = model(**{name: tensor.to(device) for name, tensor in batch.items()})
        values = found.detach().float().cpu().numpy()
        if results is None:
            results = np.empty((len(inputs), *values.shape[1:]), np.float32)
        results[rows] = values
        done(len(rows))
    return np.empty(0, np.float32) if results is None else results


def score_pairs(
    model: nn.Module, reader: Reader, pairs: Sequence[tuple[str, str]]
) -> NDArray[np.float32]:
    """A cross-encoder's logits of (query, text) pairs, float32 [pairs]."""
    queries = reader.halves([query for query, _ in pairs])
    texts = reader.halves([text for _, text in pairs])
    return run(model, [reader.pair(q, t) for q, t in zip(queries, texts, strict=True)])


def encode(
    model: nn.Module, reader: Reader, texts: Sequence[str], prefix: str = ""
) -> NDArray[np.float32]:
    """An encoder's vectors of texts, float32 [texts, hidden]."""
    return run(model, reader.whole(texts, prefix))

"""Late interaction before it has learnt anything: the cross-encoder's body, and a projection of
each token onto the directions in which tokens differ most."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from neuralrank.models import Checkpoint
from neuralrank.models.bert_matches import MATCHES
from neuralrank.text.tokens import Tokens
from trainer.recipes.late_interaction.reading import Reading
from trainer.text import Reader, TextModel

__all__ = ["DIMENSIONS", "project"]

DIMENSIONS: Final = 96
_BATCH: Final = 32


def project(student: Checkpoint, reading: Reading, tokens: Sequence[Tokens]) -> Checkpoint:
    """The checkpoint with `projection.*`, and without the marks of matches, which need both texts.

    Tokens of this encoder lie close together: their mean is taken out, and of the rest the
    first principal directions are kept, so that cosines tell tokens apart from the first step.

    Args:
        student: a cross-encoder's checkpoint without a head.
        tokens: of queries and items, as an example of what will be read.
    """
    weights = {name: weight for name, weight in student.weights.items() if name != MATCHES}
    body = TextModel(replace(student, weights=weights), "mean", dropout=0.0).eval()
    found = _outputs(body, reading, tokens)
    middle = found.mean(axis=0)
    _, _, directions = np.linalg.svd(found - middle, full_matrices=False)
    onto = np.ascontiguousarray(directions[:DIMENSIONS], np.float32)
    projection = {"projection.weight": onto, "projection.bias": -onto @ middle}
    return replace(student, weights={**weights, **projection}, head="tokens")


def _outputs(model: TextModel, reading: Reading, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
    """The body's outputs of all tokens that count, float32 [tokens, hidden]."""
    found = []
    with torch.no_grad():
        for start in range(0, len(tokens), _BATCH):
            batch = tokens[start : start + _BATCH]
            states = model.bert(**Reader.tensors(batch)).last_hidden_state.numpy()
            found += [
                states[row, : len(one)][reading.counted(one)] for row, one in enumerate(batch)
            ]
    return np.concatenate(found)

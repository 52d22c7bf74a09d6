"""What is to be learnt: one number a pair, of what a search by words and larger models say of it.

The English cross-encoder counts little: on products it orders worse than words and vectors together
(decision 019). Where it does not know the language, they are all there is.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.files.whole import whole_file
from neuralrank.progress import tracked
from trainer.recipes.small_reranker.lists import Floats, Lists

__all__ = ["read_pairs", "targets"]

# What words, vectors, context and the cross-encoder count.
_ENGLISH: Final = (0.45, 0.25, 0.2, 0.1)
_CHINESE: Final = (0.5, 0.4, 0.1)
# From an unrelated pair's logit to a very good one's, about.
_LOGITS: Final = (-11.0, 11.0)
# The sum lies in [0, 1]; logits are to be around 0 and as far apart as other cross-encoders'.
_UNRELATED: Final = 0.4
_SPREAD: Final = 12.0
# Queries whose pairs are in one file.
_SHARD: Final = 64


def targets(lists: Lists, logits: Floats | None) -> Floats:
    """What the student is to give, float32 [queries, ITEMS].

    Args:
        logits: of the cross-encoder, [queries, ITEMS]; None where it does not know the language.
    """
    parts = [lists.words, lists.vectors, lists.context]
    weights: tuple[float, ...] = _CHINESE
    if logits is not None:
        low, high = _LOGITS
        parts.append((logits - low) / (high - low))
        weights = _ENGLISH
    total = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    return np.asarray((total - _UNRELATED) * _SPREAD, np.float32)


def read_pairs(lists: Lists, model: CrossEncoder, folder: Path) -> Floats:
    """The cross-encoder's logits, float32 [queries, ITEMS].

    They are kept in the folder, so that an interrupted run goes on and the next one of the same
    pairs has them at once.
    """
    kept = folder / _key(lists, model)
    shards = range(0, len(lists), _SHARD)
    for start in tracked(list(shards), "Asking the teacher"):
        file = kept / f"{start:06d}.npy"
        if not file.is_file():
            with whole_file(file) as unfinished:
                np.save(unfinished, _read(lists, model, range(start, start + _SHARD)))
    return np.concatenate([np.load(kept / f"{at:06d}.npy", allow_pickle=False) for at in shards])


def _read(lists: Lists, model: CrossEncoder, rows: Sequence[int]) -> Floats:
    return np.array(
        [
            model.score(lists.queries[row], [lists.goods[at].passage for at in lists.items[row]])
            for row in rows
            if row < len(lists)
        ],
        np.float32,
    )


def _key(lists: Lists, model: CrossEncoder) -> str:
    digest = hashlib.sha256(model.ref.encode())
    digest.update("\0".join(lists.queries).encode())
    digest.update("\0".join(good.passage for good in lists.goods).encode())
    digest.update(lists.items.tobytes())
    return digest.hexdigest()[:16]

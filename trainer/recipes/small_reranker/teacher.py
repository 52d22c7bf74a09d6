"""What is to be learnt: one number a pair, of what several larger models and plain words say of it.

English has a cross-encoder to learn from; Chinese has none, so there it is the multilingual encoder
and the words alone. Each part is brought to mean 0 and spread 1 first, so that both languages are
on one scale.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from neuralrank.cross_encoder import CrossEncoder
from neuralrank.progress import tracked
from neuralrank.whole_file import whole_file
from trainer.recipes.small_reranker.lists import Floats, Lists

__all__ = ["read_pairs", "targets"]

# What the cross-encoder, the encoder's cosine and the covered words count.
_ENGLISH: Final = (0.5, 0.25, 0.25)
_CHINESE: Final = (0.0, 0.4, 0.6)
# Of the sum: about that of other cross-encoders' logits.
_SPREAD: Final = 3.0
# Queries whose pairs are in one file.
_SHARD: Final = 64


def targets(lists: Lists, logits: Floats | None) -> Floats:
    """What the student is to give, float32 [queries, ITEMS].

    Args:
        logits: of the cross-encoder, [queries, ITEMS]; None where it does not know the language.
    """
    parts = [logits, lists.cosines, lists.coverage]
    weights = _CHINESE if logits is None else _ENGLISH
    given = [
        weight * _standard(part)
        for weight, part in zip(weights, parts, strict=True)
        if part is not None
    ]
    return np.asarray(_SPREAD * _standard(np.sum(given, axis=0)), np.float32)


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


def _standard(part: Floats) -> Floats:
    return (part - part.mean()) / max(float(part.std()), 1e-6)


def _key(lists: Lists, model: CrossEncoder) -> str:
    digest = hashlib.sha256(model.ref.encode())
    digest.update("\0".join(lists.queries).encode())
    digest.update("\0".join(good.passage for good in lists.goods).encode())
    digest.update(lists.items.tobytes())
    return digest.hexdigest()[:16]

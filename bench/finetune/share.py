"""How much of an order a fine-tuned model decides, and whether it has earned that.

With some 50 queries a model learns its queries by heart and does harm elsewhere (trainer/LOG.md,
2026-11-25). So its share is chosen on queries that it was not trained on, out of its own training
queries, with nothing among the choices, and something only where the gain is more than chance.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.evaluation import judge

__all__ = ["METRIC", "SHARES", "earned", "gains", "mixed", "ndcg"]

METRIC: Final = "nDCG@10"

SHARES: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)

Floats = NDArray[np.float64]


def mixed(scores: Floats, logits: Floats, share: float) -> Floats:
    """Scores of which the model has a share: its order, with the scores' own mean and spread, as
    the ranking service mixes a cross-encoder in (`sidecar.ranking.blend`).

    Args:
        scores, logits: float64 [items], of the same items.
    """
    spread = float(logits.std())
    standard = (logits - logits.mean()) / spread if spread > 0 else np.zeros_like(logits)
    return (1 - share) * scores + share * (scores.mean() + standard * scores.std())


def ndcg(order: Sequence[str], grades: Mapping[str, int]) -> float:
    """nDCG@10 of one query's order, as `neuralrank evaluate` has it."""
    run = {item: -float(place) for place, item in enumerate(order)}
    return judge({"query": grades}, {"query": run}, (METRIC,)).mean(METRIC)


def gains(
    items: Sequence[str], scores: Floats, logits: Floats, grades: Mapping[str, int]
) -> list[float]:
    """What each of SHARES changes in nDCG@10 of these items' order."""
    values = []
    for share in SHARES:
        by = np.argsort(-mixed(scores, logits, share), kind="stable")
        values.append(ndcg([items[place] for place in by], grades))
    return [value - values[0] for value in values]


def earned(found: Sequence[Sequence[float]]) -> float:
    """The share with the highest mean gain, if that is more than its standard error; else 0.

    Args:
        found: `gains` of each query, [queries][shares].
    """
    table = np.array(found, np.float64)
    if len(table) < 2:
        return 0.0
    means = table.mean(axis=0)
    best = int(means.argmax())
    error = table[:, best].std(ddof=1) / np.sqrt(len(table))
    return SHARES[best] if means[best] > error else 0.0

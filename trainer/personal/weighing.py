"""What a list's items score by the code that serves, and what counting who has them adds to it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuralrank.bundles.bundle import KnnShare, Manifest
from neuralrank.evaluation import ndcg
from neuralrank.personal.inputs import ACTIONS, HEADS, Event
from neuralrank.personal.item_knn import ItemKnn
from neuralrank.personal.ranker import PersonalRanker
from trainer.personal.lists import List, Lists

__all__ = ["counted", "ends", "served_scores", "weighed"]

Floats = NDArray[np.float32]

# Percent of the scores of what was not chosen that are below 0 when it serves, and of those of what
# was chosen that are above 1.
_TAIL: Final = 5.0
# How the manifest's metrics call a head's nDCG@10.
_ALONE: Final = "dev nDCG@10 {}, network alone"
_COUNTED: Final = "dev nDCG@10 {}, with item-kNN"
# What closeness may weigh. A score of 1 is nearly what was chosen, a closeness of 5 a common pair.
_WEIGHTS: Final = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)


def ends(gains: Floats, scores: Floats) -> tuple[float, float]:
    """The scores that become 0 and 1, so that few of what was not chosen are below and few of what
    was chosen above.

    Args:
        gains: float32 [n], above 0 where chosen; some are and some are not.
        scores: float32 [n].
    """
    low = float(np.percentile(scores[gains == 0], _TAIL))
    high = float(np.percentile(scores[gains > 0], 100.0 - _TAIL))
    return low, max(high, low + 1e-3)


def served_scores(served: PersonalRanker, lists: Lists, one: List) -> Floats:
    """Of a list's items by the code that serves, float32 [n]."""
    shop = lists.behaviour.shop
    events = [
        Event(shop.ids[item], ACTIONS[action])
        for item, action in zip(one.history.items, one.history.actions, strict=True)
    ]
    return served.score(
        events,
        shop.vectors[one.history.items],
        shop.columns[one.history.items],
        [shop.ids[item] for item in one.items],
        shop.vectors[one.items],
        shop.columns[one.items],
        lists.behaviour.queries[one.query] if one.query >= 0 else None,
        one.retrieval,
    )


def weighed(
    network: PersonalRanker, knn: ItemKnn, lists: Lists, dev: Sequence[List]
) -> tuple[list[KnnShare], dict[str, float]]:
    """What closeness weighs in each head: what orders the dev part's lists best, nothing among the
    choices. One number a head, so that there is little to be learned by heart.

    Args:
        network: the bundle without what users had together.
        knn: what they had, the steps that the lists ask for not counted in.

    Returns:
        A share for each head, and nDCG@10 of the lists without and with it.
    """
    ids, personal = lists.behaviour.shop.ids, network.bundle.manifest.personal
    assert personal is not None  # no other bundle is loaded as a ranker
    shares: list[KnnShare] = []
    metrics: dict[str, float] = {}
    for head in personal.heads:
        rows = [
            _Scores(
                one.gains,
                served_scores(network, lists, one),
                knn.closeness(
                    [ids[item] for item in one.history.items[-network.events :]],
                    [ids[item] for item in one.items],
                ),
            )
            for one in dev
            if HEADS[one.head] == head
        ]
        found = {weight: _mean_ndcg(rows, weight) for weight in _WEIGHTS}
        # Of equals the first, which weighs least.
        weight = max(found, key=lambda weight: found[weight])
        if weight:
            metrics |= {_ALONE.format(head): found[0.0], _COUNTED.format(head): found[weight]}
        shares.append(_share(rows, weight))
    return shares, metrics


def counted(manifest: Manifest) -> dict[str, dict[str, float]]:
    """By head, what closeness weighs in a bundle, and nDCG@10 without and with it, as `weighed` has
    found; heads in which it weighs nothing are left out."""
    heads = manifest.personal.heads if manifest.personal else ()
    return {
        head: {
            "weight": share.weight,
            "network alone": manifest.metrics[_ALONE.format(head)],
            "with item-kNN": manifest.metrics[_COUNTED.format(head)],
        }
        for head, share in zip(heads, manifest.item_knn, strict=False)
        if share.weight
    }


class _Scores(NamedTuple):
    """Of a list: gains, the network's scores and closeness, float32 [n] each."""

    gains: Floats
    network: Floats
    near: Floats

    def blended(self, weight: float) -> Floats:
        return self.network + np.float32(weight) * self.near


def _mean_ndcg(rows: Sequence[_Scores], weight: float) -> float:
    return float(np.mean([ndcg(row.gains, row.blended(weight)) for row in rows])) if rows else 0.0


def _share(rows: Sequence[_Scores], weight: float) -> KnnShare:
    """The weight, with what becomes 0 and 1 of the sum; as the network has it where it is 0."""
    if not weight:
        return KnnShare(weight=0.0, low=0.0, high=1.0)
    gains = np.concatenate([row.gains for row in rows])
    low, high = ends(gains, np.concatenate([row.blended(weight) for row in rows]))
    return KnnShare(weight=weight, low=low, high=high)

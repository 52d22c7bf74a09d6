"""What serves users where there is no personal ranker, on a list's items."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.encoders.encoder import alike
from neuralrank.personal.affinity import action_weight, affinity, interest
from neuralrank.personal.inputs import ACTIONS, PAIRS, pairs
from trainer.personal.behaviour import History
from trainer.personal.sequences import Numbers
from trainer.personal.shop import Shop

__all__ = ["affinity_of"]

Floats = NDArray[np.float32]

# As many as the sidecar reads of a user by default (`profile_events`).
_EVENTS: Final = 100
_BRAND, _CATEGORY = PAIRS.index("same brand"), PAIRS.index("shared categories")


def affinity_of(shop: Shop, history: History, items: Numbers) -> Floats:
    """Affinity of items to what a user did, float32 [n] in [0, 1]: by the formulas of the sidecar
    (docs/decisions/004-blend.md).

    Each step weighs what its action says. The sidecar lets older ones weigh less, by their time;
    histories have none.

    Args:
        history: of one step or more.
        items: int64 [n].
    """
    done = history.items[-_EVENTS:]
    weights = np.array([action_weight(ACTIONS[n]) for n in history.actions[-_EVENTS:]], np.float32)
    shares = weights / weights.sum()
    near = alike(shop.vectors[done] @ shop.vectors[items].T, shop.similarity)  # [l, n]
    events, candidates = shop.columns[done], shop.columns[items]
    common = np.tensordot(shares, pairs(events, candidates), 1)  # [n, pairs]
    known = bool((events.brand >= 0).any() or (events.categories >= 0).any())
    category = np.where(known & (candidates.categories >= 0).any(1), common[:, _CATEGORY], np.nan)
    brand = np.where(known & (candidates.brand >= 0), common[:, _BRAND], np.nan)
    return affinity(interest(near, weights), category, brand)

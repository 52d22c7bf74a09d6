"""From clicks to labels.

Of a pair of query and item, looks are Σ θ over the positions at which it was shown, how often it
was looked at in all likelihood, and its gain is the sum of what users did, a click as 1 over the
highest outcome that the train part holds (with purchases 1/3). The label is gain over looks, the
maximum likelihood estimate of how much it is liked when it is looked at (for θ·γ small), drawn to
the mean of all by as much as one look: a pair that was looked at half a time and clicked once is no
sure thing. Without correction θ is 1 everywhere, and the label is the click rate.

What was shown and brought nothing has the label 0, if it was looked at once at least; less says
nothing of it. The weight of an example is how many looks its label rests on, over the mean of all.

Inverse propensity scoring (Joachims, Swaminathan and Schnabel, "Unbiased Learning-to-Rank with
Biased Feedback", 2017) takes the mean of clicks / θ instead. Both tend to the same; the ratio of
sums, as self-normalised estimators have it, varies less where θ is small, and stays within [0, 1].
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Labelled", "label"]

# Looks that the mean of all counts for.
_PRIOR: Final = 1.0
# Looks from which on it says something that a pair brought nothing.
_LEAST_LOOKS: Final = 1.0
_WEIGHTS: Final = (0.1, 10.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """Of each pair: float64 [pairs]."""

    label: Floats
    weight: Floats
    # Whether it is known enough to be an example: bool [pairs].
    usable: NDArray[np.bool_]


def label(looks: Floats, gain: Floats, train: NDArray[np.bool_]) -> Labelled:
    """
    Args:
        looks: Σ θ of each pair, above 0.
        gain: what users did with it, Σ outcome in [0, 1].
        train: of which pairs means are taken.
    """
    mean = float(gain[train].sum() / looks[train].sum())
    found = np.minimum((gain + _PRIOR * mean) / (looks + _PRIOR), 1.0)
    labels = np.where(gain > 0, found, 0.0)
    usable = (gain > 0) | (looks >= _LEAST_LOOKS)
    scale = float(looks[usable & train].mean()) if (usable & train).any() else 1.0
    return Labelled(labels, np.clip(looks / scale, *_WEIGHTS), usable)

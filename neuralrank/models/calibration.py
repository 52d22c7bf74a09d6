"""Measures what a model's numbers mean: what it gives unrelated texts, and what related ones.

The blend of scores needs numbers on one scale. Encoders differ much (E5 gives unrelated texts a
cosine of 0.75, others 0.1), so every bundle is measured when it is made, on the pairs of
`neuralrank.text.sample_pairs`.
"""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from neuralrank.bundles.bundle import Calibration
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.text.sample_pairs import read_pairs

__all__ = ["calibrate_cross_encoder", "calibrate_encoder"]


def _range(related: NDArray[np.float32], unrelated: NDArray[np.float32]) -> Calibration:
    """From what an unrelated pair typically has to what a very good one has."""
    low = round(float(np.median(unrelated)), 4)
    high = round(float(np.quantile(related, 0.9)), 4)
    if not high > low:
        # A model that can't tell them apart. Any range will do: its numbers mean nothing here.
        high = low + 1.0
    return Calibration(low=low, high=high)


def calibrate_encoder(encoder: Encoder) -> tuple[Calibration, Calibration]:
    """The ranges of the cosines between query and item, and between items."""
    pairs = read_pairs(encoder.bundle.manifest.languages)
    queries = encoder.encode_queries([pair.query for pair in pairs])
    first = encoder.encode_passages([pair.item for pair in pairs])
    second = encoder.encode_passages([pair.other_item for pair in pairs])
    apart = ~np.eye(len(pairs), dtype=bool)
    by_query, by_item = queries @ first.T, first @ second.T
    return (
        _range(np.diag(by_query), by_query[apart]),
        _range(np.diag(by_item), by_item[apart]),
    )


def calibrate_cross_encoder(model: CrossEncoder) -> Calibration:
    """The range of the logits."""
    pairs = read_pairs(model.bundle.manifest.languages)
    related = [model.score(pair.query, [pair.item, pair.other_item]) for pair in pairs]
    apart = list(permutations(pairs, 2))[::5]  # a fifth of all is plenty
    unrelated = [model.score(one.query, [other.item]) for one, other in apart]
    return _range(np.concatenate(related), np.concatenate(unrelated))

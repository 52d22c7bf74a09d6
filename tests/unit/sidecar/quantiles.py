"""Quantiles of histograms as Prometheus tells them, which knows the buckets only."""

import math
from collections.abc import Mapping
from itertools import pairwise

from sidecar.telemetry.metrics import Metrics


def buckets(metrics: Metrics, name: str, **labels: str) -> dict[float, float]:
    """Of a histogram, how many were at most that, by upper bound, in their order."""
    return {
        float(sample.labels["le"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"{name}_bucket"
        and {key: value for key, value in sample.labels.items() if key != "le"} == labels
    }


def quantile(share: float, counts: Mapping[float, float]) -> float:
    """`histogram_quantile`: within a bucket all are taken to lie evenly, from 0 in the first."""
    rank = share * counts[math.inf]
    first = next(iter(counts))
    # Of a first bucket that does not begin above 0 nothing is known but where it ends.
    below = [(0.0, 0.0)] if first > 0 else [(-math.inf, 0.0)]
    for (low, before), (high, count) in pairwise([*below, *counts.items()]):
        if count < rank:
            continue
        if math.isinf(high):
            return low
        return high if math.isinf(low) else low + (high - low) * (rank - before) / (count - before)
    raise AssertionError("unreachable: the last bucket holds all")

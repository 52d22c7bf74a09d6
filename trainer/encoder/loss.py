"""The contrastive loss of the bi-encoder, and the same for several lengths of vector at once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["info_nce", "matryoshka", "truncated"]


def info_nce(
    queries: Tensor,
    items: Tensor,
    positives: Tensor,
    allowed: Tensor,
    temperature: float,
    weights: Tensor,
) -> Tensor:
    """How unlikely the right item is among all items of the batch, as a weighted mean.

    For query i: −log( exp(s_ip / τ) / Σ_j exp(s_ij / τ) ), where s are cosines, p is its positive
    and j runs over the items that are allowed: its positive, the positives of others (in-batch
    negatives) and hard negatives, without those that are known to answer query i too (false
    negatives). van den Oord et al., "Representation Learning with Contrastive Predictive Coding"
    (2018); Karpukhin et al., "Dense Passage Retrieval" (2020) for in-batch and hard negatives.

    Args:
        queries: [q, d] of length 1.
        items: [n, d] of length 1.
        positives: int64 [q], the column of each query's positive.
        allowed: bool [q, n]; true at each positive.
        temperature: τ, above 0.
        weights: [q], above 0.

    Example: one query, its positive at cosine 1, a negative at 0, τ = 1: log(1 + e⁻¹) = 0.3133.
    """
    scores = queries @ items.T / temperature  # [q, n]
    scores = scores.masked_fill(~allowed, -torch.inf)
    losses = functional.cross_entropy(scores, positives, reduction="none")  # [q]
    return (losses * weights).sum() / weights.sum()


def matryoshka(
    queries: Tensor,
    items: Tensor,
    positives: Tensor,
    allowed: Tensor,
    temperature: float,
    weights: Tensor,
    dimensions: Sequence[int],
) -> Tensor:
    """The mean of `info_nce` over vectors cut to their first so many dimensions, so that one model
    serves every one of these lengths.

    Kusupati et al., "Matryoshka Representation Learning" (2022), with equal weights.

    Args:
        dimensions: each from 1 to d; the others are as in `info_nce`.
    """
    losses = [
        info_nce(
            truncated(queries, count),
            truncated(items, count),
            positives,
            allowed,
            temperature,
            weights,
        )
        for count in dimensions
    ]
    return torch.stack(losses).mean()


def truncated(vectors: Tensor, dimensions: int) -> Tensor:
    """The first dimensions of vectors [.., d], again of length 1."""
    return functional.normalize(vectors[..., :dimensions], dim=-1)

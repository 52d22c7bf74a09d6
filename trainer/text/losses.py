"""Losses of a cross-encoder over judged pairs and lists.

Lists are padded: scores, labels and weights are float [lists, items] and `mask` is bool, true where
an item is. Labels are grades in [0, 1], higher is more relevant. Weights are above 0: 1 for
judgments, the inverse propensity for clicks, so that a loss over clicks is in expectation the loss
over what users find relevant (Joachims, Swaminathan and Schnabel, "Unbiased Learning-to-Rank with
Biased Feedback", 2017). Where a loss is over pairs, the weight is that of the better item: it is
the one that was clicked.

Each gives the mean over pairs (`bce`) or lists, so that the mean over shares of a batch is that of
the batch.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["bce", "lambda_loss", "margin_mse", "pairwise"]

# Weight of the term of NDCG-Loss2 in NDCG-Loss2++, as in the paper.
_MU: Final = 10.0


def bce(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Pointwise: cross-entropy of the label and the score's sigmoid.

    Args:
        scores, labels, weights: [pairs].
    """
    each = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return (weights * each).mean()


def pairwise(scores: Tensor, labels: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """log(1 + exp(s_worse - s_better)), mean over each list's pairs with different labels.

    Burges et al., "Learning to Rank using Gradient Descent" (2005): RankNet.
    """
    better = _better(labels, mask)
    losses = functional.softplus(-_differences(scores))
    return _mean(losses * weights.unsqueeze(2), better)


def lambda_loss(scores: Tensor, labels: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """NDCG-Loss2++: pairs weigh what swapping them would change in nDCG, with its bound.

    Σ over pairs with y_i > y_j of (ρ_ij + μ δ_ij) |G_i - G_j| log2(1 + exp(-(s_i - s_j))), where
    G is the label divided by the best DCG (gains are grades themselves, as in
    `neuralrank.evaluation`), ρ_ij = |1/D_i - 1/D_j| and δ_ij = |1/D_|i-j| - 1/D_(|i-j|+1)| with
    D_i = log2(1 + rank i) of the present scores.

    Wang, Li, Golbandi, Bendersky and Najork, "The LambdaLoss Framework for Ranking Metric
    Optimization" (2018).
    """
    with torch.no_grad():
        ranks = _ranks(scores, mask)  # from 1
        ideal = (labels * mask).sort(dim=1, descending=True).values
        places = torch.arange(1, labels.shape[1] + 1, device=labels.device, dtype=labels.dtype)
        best = (ideal / torch.log2(1.0 + places)).sum(dim=1, keepdim=True)  # [lists, 1]
        gains = labels * mask / best.clamp(min=1e-12)
        discounts = 1.0 / torch.log2(1.0 + ranks)
        rho = _differences(discounts).abs()
        apart = _differences(ranks).abs().clamp(min=1.0)
        delta = 1.0 / torch.log2(1.0 + apart) - 1.0 / torch.log2(2.0 + apart)
        swap = (rho + _MU * delta) * _differences(gains).abs()
    losses = functional.softplus(-_differences(scores)) / math.log(2.0)
    better = _better(labels, mask)
    total = (swap * losses * weights.unsqueeze(2) * better).sum(dim=(1, 2))
    return total.mean()


def margin_mse(
    scores: Tensor, teacher: Tensor, labels: Tensor, weights: Tensor, mask: Tensor
) -> Tensor:
    """((s_i - s_j) - (t_i - t_j))², mean over each list's pairs with different labels; over all its
    pairs where the labels are all the same.

    Hofstätter, Althammer, Schröder, Sertkan and Hanbury, "Improving Efficient Neural Ranking Models
    with Cross-Architecture Knowledge Distillation" (2020).

    Args:
        teacher: the teacher's scores [lists, items].
    """
    better = _better(labels, mask)
    both = mask.unsqueeze(1) & mask.unsqueeze(2)
    any_order = both & torch.ones_like(both[0]).triu(1)
    pairs = torch.where(better.any(dim=(1, 2), keepdim=True), better, any_order)
    losses = (_differences(scores) - _differences(teacher)).square()
    return _mean(losses * weights.unsqueeze(2), pairs)


def _differences(values: Tensor) -> Tensor:
    """[lists, i, j]: value i less value j."""
    return values.unsqueeze(2) - values.unsqueeze(1)


def _better(labels: Tensor, mask: Tensor) -> Tensor:
    """bool [lists, i, j]: item i has a higher label than item j, and both are there."""
    return (_differences(labels) > 0) & mask.unsqueeze(1) & mask.unsqueeze(2)


def _mean(losses: Tensor, pairs: Tensor) -> Tensor:
    """Over the pairs of each list, then over lists; a list without pairs counts as 0."""
    total = (losses * pairs).sum(dim=(1, 2))
    return (total / pairs.sum(dim=(1, 2)).clamp(min=1)).mean()


def _ranks(scores: Tensor, mask: Tensor) -> Tensor:
    """Ranks by score, from 1, float [lists, items]; padding comes last."""
    order = scores.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) + 1).to(scores.dtype)

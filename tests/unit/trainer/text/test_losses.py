"""Losses against numbers worked out by hand, and against references."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.text.losses import bce, lambda_loss, margin_mse, pairwise  # noqa: E402

T = torch.tensor


def full(rows: int, columns: int) -> "torch.Tensor":
    return torch.ones(rows, columns, dtype=torch.bool)


def test_bce_by_hand() -> None:
    # Score 0: ln 2 whatever the label; score ln 3 is probability 3/4.
    scores, labels = T([0.0, math.log(3)]), T([0.5, 1.0])
    found = bce(scores, labels, T([1.0, 1.0]))
    assert float(found) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    # A click seen with probability 1/4 weighs four times.
    weighed = bce(scores, labels, T([1.0, 4.0]))
    assert float(weighed) == pytest.approx((math.log(2) + 4 * math.log(4 / 3)) / 2)


def test_bce_is_the_log_loss_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    scores = random.normal(size=50)
    labels = random.integers(0, 2, 50)
    weights = random.uniform(0.5, 5, 50)
    wanted = metrics.log_loss(labels, 1 / (1 + np.exp(-scores)), sample_weight=weights)
    found = bce(T(scores), T(labels, dtype=torch.float64), T(weights))
    # scikit-learn divides by the sum of the weights, we by the number of pairs.
    assert float(found) * 50 / weights.sum() == pytest.approx(wanted)


def test_pairwise_by_hand() -> None:
    # One list, labels 1 > 0.5 > 0, scores 1, 2, 0: three pairs with differences -1, 1, 2.
    losses = [math.log1p(math.exp(1)), math.log1p(math.exp(-1)), math.log1p(math.exp(-2))]
    scores, labels = T([[1.0, 2.0, 0.0]]), T([[1.0, 0.5, 0.0]])
    found = pairwise(scores, labels, torch.ones(1, 3), full(1, 3))
    assert float(found) == pytest.approx(sum(losses) / 3)
    # The better item's weight counts: the first item's pairs are the first two of (1>2), (1>3).
    weighed = pairwise(scores, labels, T([[3.0, 1.0, 7.0]]), full(1, 3))
    assert float(weighed) == pytest.approx((3 * losses[0] + 3 * losses[1] + losses[2]) / 3)


def test_padding_and_ties_count_for_nothing() -> None:
    scores, labels = T([[1.0, 2.0, 9.0], [5.0, 1.0, 0.0]]), T([[1.0, 0.0, 0.5], [0.5, 0.5, 0.5]])
    mask = T([[True, True, False], [True, True, True]])
    # The second list has no pair: it counts as 0 in the mean over lists.
    wanted = math.log1p(math.exp(1)) / 2
    assert float(pairwise(scores, labels, torch.ones(2, 3), mask)) == pytest.approx(wanted)
    assert float(lambda_loss(scores[1:], labels[1:], torch.ones(1, 3), mask[1:])) == 0.0


def reference(scores: list[float], labels: list[float], weights: list[float], mu: float) -> float:
    """NDCG-Loss2++ as the paper writes it, pair by pair."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    rank = {item: place + 1 for place, item in enumerate(order)}
    best = sum(
        label / math.log2(1 + place)
        for place, label in enumerate(sorted(labels, reverse=True), start=1)
    )
    total = 0.0
    for i, better in enumerate(labels):
        for j, worse in enumerate(labels):
            if better <= worse:
                continue
            rho = abs(1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j]))
            apart = abs(rank[i] - rank[j])
            delta = abs(1 / math.log2(1 + apart) - 1 / math.log2(2 + apart))
            gain = (better - worse) / best
            loss = math.log2(1 + math.exp(-(scores[i] - scores[j])))
            total += weights[i] * (rho + mu * delta) * gain * loss
    return total


def test_lambda_loss_by_hand() -> None:
    # Two items, the relevant one second: ρ = δ = 1 - 1/log2(3), ΔG = 1, log2(1 + e).
    gap = 1 - 1 / math.log2(3)
    wanted = 11 * gap * math.log2(1 + math.e)
    scores, labels = T([[0.0, 1.0]]), T([[1.0, 0.0]])
    found = lambda_loss(scores, labels, torch.ones(1, 2), full(1, 2))
    assert float(found) == pytest.approx(wanted, rel=1e-6)


def test_lambda_loss_is_the_papers() -> None:
    random = np.random.default_rng(1)
    scores = random.normal(size=(4, 6))
    labels = random.choice([0.0, 0.1, 0.3, 1.0], size=(4, 6))
    labels[:, 0] = 1.0
    weights = random.uniform(1, 4, (4, 6))
    lengths = [6, 5, 3, 2]
    mask = np.arange(6) < np.array(lengths)[:, None]
    found = lambda_loss(T(scores), T(labels), T(weights), T(mask))
    wanted = np.mean(
        [
            reference(scores[i, :n].tolist(), labels[i, :n].tolist(), weights[i, :n].tolist(), 10.0)
            for i, n in enumerate(lengths)
        ]
    )
    assert float(found) == pytest.approx(wanted, rel=1e-9)


def test_lambda_loss_draws_the_top_together_first() -> None:
    # Swapping places 1 and 2 changes nDCG more than places 4 and 5: its gradient is larger.
    scores = torch.tensor([[5.0, 4.9, 3.0, 2.0, 1.9]], requires_grad=True)
    top = lambda_loss(scores, T([[0.0, 1.0, 0.0, 0.0, 0.0]]), torch.ones(1, 5), full(1, 5))
    bottom = lambda_loss(scores, T([[0.0, 0.0, 0.0, 0.0, 1.0]]), torch.ones(1, 5), full(1, 5))
    (first,) = torch.autograd.grad(top, scores)
    (last,) = torch.autograd.grad(bottom, scores)
    assert first[0, 1] < 0 < first[0, 0]
    assert abs(float(first[0, 0])) > abs(float(last[0, 3]))


def test_margin_mse_by_hand() -> None:
    scores, teacher = T([[2.0, 0.0, 1.0]]), T([[5.0, 1.0, 4.0]])
    # Labels 1 > 0, 0: margins 2 and 1 against 4 and 1.
    found = margin_mse(scores, teacher, T([[1.0, 0.0, 0.0]]), torch.ones(1, 3), full(1, 3))
    assert float(found) == pytest.approx(((2 - 4) ** 2 + (1 - 1) ** 2) / 2)
    # Without labels all three pairs: also (0 - 1) against (1 - 4).
    found = margin_mse(scores, teacher, torch.zeros(1, 3), torch.ones(1, 3), full(1, 3))
    assert float(found) == pytest.approx((4 + 0 + (-1 + 3) ** 2) / 3)


def test_margin_mse_is_zero_for_the_teachers_own_margins() -> None:
    teacher = T([[3.0, -1.0, 0.5]])
    labels = T([[1.0, 0.0, 0.0]])
    assert float(margin_mse(teacher + 7, teacher, labels, torch.ones(1, 3), full(1, 3))) == 0.0


@pytest.mark.parametrize("loss", [pairwise, lambda_loss])
def test_a_mean_over_shares_is_the_mean_over_the_batch(loss) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(2)
    scores, labels = T(random.normal(size=(4, 5))), T(random.choice([0.0, 1.0], size=(4, 5)))
    weights, mask = torch.ones(4, 5), full(4, 5)
    whole = loss(scores, labels, weights, mask)
    shares = [loss(scores[i::2], labels[i::2], weights[i::2], mask[i::2]) for i in (0, 1)]
    assert float(sum(shares)) / 2 == pytest.approx(float(whole))

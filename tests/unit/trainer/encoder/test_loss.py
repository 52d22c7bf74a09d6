"""The contrastive loss against numbers worked out by hand."""

import math

import pytest
import torch

from trainer.encoder.loss import info_nce, matryoshka, truncated

# Two queries, three items in the plane.
QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
ITEMS = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
POSITIVES = torch.tensor([0, 1])
ALL = torch.ones(2, 3, dtype=torch.bool)
EVEN = torch.ones(2)


def log_share(scores: list[float], right: int) -> float:
    return -math.log(math.exp(scores[right]) / sum(map(math.exp, scores)))


def test_each_query_is_a_choice_among_all_items_of_the_batch() -> None:
    first = log_share([1.0 / 0.5, 0.6 / 0.5, 0.0], 0)
    second = log_share([0.0, 0.8 / 0.5, -1.0 / 0.5], 1)
    loss = info_nce(QUERIES, ITEMS, POSITIVES, ALL, 0.5, EVEN)
    assert float(loss) == pytest.approx((first + second) / 2)


def test_a_false_negative_does_not_count() -> None:
    allowed = torch.tensor([[True, False, True], [True, True, True]])
    first = log_share([1.0, 0.0], 0)  # without the item at 0.6
    second = log_share([0.0, 0.8, -1.0], 1)
    loss = info_nce(QUERIES, ITEMS, POSITIVES, allowed, 1.0, EVEN)
    assert float(loss) == pytest.approx((first + second) / 2)
    items = ITEMS.clone().requires_grad_()
    info_nce(QUERIES[:1], items, POSITIVES[:1], allowed[:1], 1.0, EVEN[:1]).backward()
    assert items.grad is not None
    assert not items.grad[1].any()  # it is not pushed away
    assert items.grad[2].any()


def test_weights_are_shares_of_the_mean() -> None:
    first = log_share([1.0, 0.6, 0.0], 0)
    second = log_share([0.0, 0.8, -1.0], 1)
    loss = info_nce(QUERIES, ITEMS, POSITIVES, ALL, 1.0, torch.tensor([3.0, 1.0]))
    assert float(loss) == pytest.approx((3 * first + second) / 4)


def test_the_example_of_the_docstring() -> None:
    loss = info_nce(
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([0]),
        torch.ones(1, 2, dtype=torch.bool),
        1.0,
        torch.ones(1),
    )
    assert float(loss) == pytest.approx(0.3133, abs=1e-4)


def test_truncated_vectors_have_length_one_again() -> None:
    vectors = torch.tensor([[3.0, 4.0, 12.0]]) / 13
    assert truncated(vectors, 2).tolist() == [pytest.approx([0.6, 0.8])]
    assert truncated(vectors, 1).tolist() == [[1.0]]
    assert truncated(vectors, 3).tolist() == [pytest.approx([3 / 13, 4 / 13, 12 / 13])]


def test_matryoshka_is_the_mean_over_the_lengths() -> None:
    loss = matryoshka(QUERIES, ITEMS, POSITIVES, ALL, 1.0, EVEN, (1, 2))
    whole = info_nce(QUERIES, ITEMS, POSITIVES, ALL, 1.0, EVEN)
    # In one dimension: queries 1 and 0; items 1, 1 (0.6 of length 1 again) and 0.
    first = log_share([1.0, 1.0, 0.0], 0)
    second = log_share([0.0, 0.0, 0.0], 1)
    assert float(loss) == pytest.approx((float(whole) + (first + second) / 2) / 2)

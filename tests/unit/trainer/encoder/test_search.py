"""Exact search, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from tests.unit.trainer.encoder.shop import shop
from trainer.encoder.search import Search, measured

# Two queries, three items.
SEARCH = Search(("a", "b"), ("x", "y", "z"), {"0": {"0": 1000, "1": 500}, "1": {"2": 1000}})


def unit(*rows: list[float]) -> np.ndarray:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# In two dimensions the first query is nearest to x, in three to y.
QUERIES = unit([1, 0.2, 1], [0, 1, 0])
ITEMS = unit([1, 0, 0.1], [0.9, 0.5, 0.5], [0, 1, 0])


def test_ndcg_and_recall_are_means_over_queries() -> None:
    found = measured(SEARCH, QUERIES, ITEMS, ())
    # The first query finds y (0.5) before x (1.0); the second finds z first.
    first = (0.5 + 1 / math.log2(3)) / (1 + 0.5 / math.log2(3))
    assert found == {"nDCG@10": pytest.approx((first + 1) / 2), "R@100": 1.0}


def test_shorter_vectors_are_measured_as_they_would_be_served() -> None:
    found = measured(SEARCH, QUERIES, ITEMS, (3, 2))
    assert found["nDCG@10 of 2 dimensions"] == pytest.approx(1.0)
    assert found["nDCG@10"] < 0.99
    assert "nDCG@10 of 3 dimensions" not in found


def test_what_is_searched_holds_all_that_is_judged_and_the_same_others() -> None:
    data = shop()
    search = Search.of(data, "dev", 4)
    assert search.query_texts == ("笔记本",)
    assert search.item_texts[:2] == ("笔记本电脑\n华为", "phone")
    assert len(set(search.item_texts)) == 4
    assert search.qrels == {"0": {"0": 1000, "1": 0}}
    assert Search.of(data, "dev", 4) == search
    assert len(Search.of(data, "dev", 1).item_texts) == 2
    assert len(Search.of(data, "dev", 99).item_texts) == 6

"""Exact search, against numbers worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.trainer.encoder.shop import shop
from trainer import dataset
from trainer.encoder import search as module
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


def test_of_many_queries_some_are_searched_with_what_is_judged_for_them() -> None:
    queries = [
        {"query_id": f"q{n}", "text": f"query {n}", "language": "", "split": "dev", "segment": ""}
        for n in range(30)
    ]
    examples = [
        {"query_id": f"q{n}", "item_id": str(1 + n % 6), "label": 1.0, "weight": 1.0,
         "source": "judgment", "negative": "", "split": "dev"}
        for n in range(30)
    ]  # fmt: skip
    data = replace(
        shop(),
        queries=pa.Table.from_pylist(queries, dataset.QUERIES),
        examples=pa.Table.from_pylist(examples, dataset.EXAMPLES),
    )
    some = Search.of(data, "dev", 0, most_queries=2)
    assert len(some.query_texts) == 2
    assert Search.of(data, "dev", 0, most_queries=2) == some
    assert len(some.item_texts) <= 2
    assert [list(grades.values()) for grades in some.qrels.values()] == [[1000], [1000]]
    assert len(Search.of(data, "dev", 0, most_queries=30).query_texts) == 30
    # Some of everywhere, and not the first.
    wide = Search.of(data, "dev", 0, most_queries=10).query_texts
    assert set(wide) != {f"query {n}" for n in range(10)}


def test_many_queries_are_scored_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(SEARCH, QUERIES, ITEMS, (2,))
    monkeypatch.setattr(module, "_BLOCK", 1)
    assert measured(SEARCH, QUERIES, ITEMS, (2,)) == pytest.approx(whole)

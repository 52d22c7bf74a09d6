"""What a bi-encoder learns from, of a dataset with three queries."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from neuralrank.errors import InvalidInput
from tests.unit.trainer.encoder.shop import shop
from trainer.dataset import EXAMPLES
from trainer.encoder.examples import Examples, _by_query


@pytest.fixture(scope="module")
def examples() -> Examples:
    return Examples.of(shop(), "train", positive_from=0.5)


def test_pairs_are_the_right_items_with_their_weights(examples: Examples) -> None:
    pairs = [
        (examples.query_texts[q], examples.item_texts[i], float(w))
        for q, i, w in zip(examples.query, examples.item, examples.weight, strict=True)
    ]
    assert pairs == [
        ("kettle", "red kettle\nBosch", 1.0),
        ("kettle", "blue kettle\nBosch", 2.0),
        ("laptop", "laptop\nDell", 1.0),
    ]
    # "teapot" answers a kettle a little: neither right nor wrong.
    known = [sorted(examples.item_texts[i] for i in items) for items in examples.known]
    assert known == [["blue kettle\nBosch", "red kettle\nBosch", "teapot"], ["laptop\nDell"]]
    wrong = [sorted(examples.item_texts[i] for i in items) for items in examples.negatives]
    assert wrong == [["phone"], []]


def test_clicks_are_right_by_the_best_of_their_query() -> None:
    """Of 1,000 looks, 300 clicks; 130; 30; of one look, one click; of many, none."""
    clicked = [("1", 0.3, 10.0), ("2", 0.13, 10.0), ("3", 0.03, 10.0), ("4", 0.7, 0.1)]
    rows = [
        {"query_id": "k", "item_id": item, "label": label, "weight": weight, "source": "click",
         "negative": "", "split": "train"}
        for item, label, weight in [*clicked, ("5", 0.0, 10.0)]
    ]  # fmt: skip
    data = replace(shop(), examples=pa.Table.from_pylist(rows, EXAMPLES))

    def right(positive_from: float) -> list[str]:
        made = Examples.of(data, "train", positive_from)
        return [made.item_texts[item].split("\n")[0] for item in made.item]

    assert right(0.5) == ["red kettle"]
    assert right(0.4) == ["red kettle", "blue kettle", "laptop"]
    assert right(0.0) == ["red kettle", "blue kettle", "teapot", "laptop"]  # "phone" never


def test_in_a_batch_only_what_is_not_known_to_be_right_stands_against_a_query(
    examples: Examples,
) -> None:
    batch = examples.batch(np.arange(3), 2, np.random.default_rng(0))
    assert batch.queries.tolist() == [0, 0, 1]
    assert batch.weights.tolist() == [1.0, 2.0, 1.0]
    assert len(set(batch.items.tolist())) == len(batch.items)
    assert batch.items[batch.positives].tolist() == examples.item.tolist()
    for row, query in enumerate(batch.queries.tolist()):
        for column, item in enumerate(batch.items.tolist()):
            own = column == batch.positives[row]
            assert batch.allowed[row, column] == (own or item not in examples.known[query])
    # The judged negative of "kettle" is always there; random ones fill up.
    phone = examples.item_texts.index("phone")
    for seed in range(20):
        assert phone in examples.batch(np.array([0]), 1, np.random.default_rng(seed)).items


def test_without_negatives_others_positives_are_enough(examples: Examples) -> None:
    batch = examples.batch(np.array([0, 2]), 0, np.random.default_rng(0))
    assert sorted(batch.items.tolist()) == sorted(examples.item[[0, 2]].tolist())
    assert batch.allowed.all()


def test_the_same_generator_gives_the_same_batch(examples: Examples) -> None:
    first, second = (examples.batch(np.arange(3), 2, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.items, second.items)


def test_a_part_without_right_items_is_said() -> None:
    with pytest.raises(InvalidInput, match=r"The part test has no example with a label of 0\.5"):
        Examples.of(shop(), "test", positive_from=0.5)


def test_items_are_grouped_by_query_each_once_and_queries_without_any_have_none() -> None:
    random = np.random.default_rng(0)
    query, item = random.integers(1, 40, 200), random.integers(0, 9, 200)
    query[query == 7] = 8
    found = _by_query(query, item, 42)
    assert [each.tolist() for each in found] == [
        np.unique(item[query == place]).tolist() for place in range(42)
    ]
    none = np.empty(0, np.int64)
    assert [each.tolist() for each in _by_query(none, none, 2)] == [[], []]
    assert _by_query(none, none, 1)[0].dtype == np.int64

"""What is read in pretraining."""

import pyarrow as pa
import pytest

from neuralrank.catalogue.product import Product
from neuralrank.errors import InvalidInput
from trainer.dataset import EXAMPLES, ITEMS, QUERIES, Dataset, Description
from trainer.pretrain.texts import Pair, from_dataset, from_products, split_off


def products(*rows: dict[str, object]) -> list[Product]:
    return [Product.from_row({"id": n, **row}) for n, row in enumerate(rows)]


def test_a_title_goes_with_what_else_is_said_or_is_halved() -> None:
    pairs = from_products(
        products(
            {"title": "Red kettle", "brand": "Bosch", "description": "Boils water."},
            {"title": "wireless mouse for laptops"},
            {"title": "笔记本电脑双肩包"},
            {"title": "sofa"},
            {"title": "sofa"},
        ),
        ["水壶", "ＫＥＴＴＬＥ"],
    )
    assert pairs == [
        Pair("Red kettle", "Bosch\nBoils water."),
        Pair("wireless mouse", "for laptops"),
        Pair("笔记本电", "脑双肩包"),
        Pair("sofa"),
        Pair("水壶"),
        Pair("KETTLE"),
    ]


def test_a_query_goes_with_the_titles_of_what_answers_it_best() -> None:
    """Labels of clicks are shares of looks: none is the scale's highest."""
    labels = {"q0": {"0": 0.3, "1": 0.2, "2": 0.3}, "q1": {"2": 1.0, "1": 0.5}, "q2": {"0": 0.0}}
    titles = ["red kettle", "laptop", "green tea"]
    texts = {"q0": "kettle", "q1": "tea", "q2": "lamp"}
    items = [
        {"item_id": str(n), "title": title, "text": title, "brand": "", "category": "",
         "language": "", "price": None}
        for n, title in enumerate(titles)
    ]  # fmt: skip
    queries = [
        {"query_id": name, "text": text, "language": "", "split": "train", "segment": ""}
        for name, text in texts.items()
    ]
    examples = [
        {"query_id": name, "item_id": item, "label": label, "weight": 1.0, "source": "click",
         "negative": "", "split": "train"}
        for name, of in labels.items() for item, label in of.items()
    ]  # fmt: skip
    data = Dataset(
        Description(source="clicks", created="1970-01-05T00:00:00Z"),
        items=pa.Table.from_pylist(items, ITEMS),
        queries=pa.Table.from_pylist(queries, QUERIES),
        examples=pa.Table.from_pylist(examples, EXAMPLES),
    )
    assert [pair for pair in from_dataset(data) if pair.first in texts.values()] == [
        Pair("kettle", "red kettle"),
        Pair("kettle", "green tea"),
        Pair("tea", "green tea"),
        Pair("lamp"),
    ]


def test_the_part_that_is_held_back_is_not_learned_from() -> None:
    pairs = [Pair(f"title {n}", f"about {n}") for n in range(100)]
    corpus = split_off(pairs, seed=1)
    assert len(corpus.dev) == 5
    assert sorted([*corpus.train, *corpus.dev], key=str) == sorted(pairs, key=str)
    assert split_off(pairs, seed=1) == corpus
    assert split_off(pairs, seed=2) != corpus
    held = {pair.first for pair in corpus.dev} | {pair.second for pair in corpus.dev}
    assert not held & set(corpus.texts())


def test_too_little_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too few"):
        split_off([Pair("a", "b"), Pair("query")], seed=0)

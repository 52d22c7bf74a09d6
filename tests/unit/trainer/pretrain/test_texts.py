"""What is read in pretraining."""

import pytest

from neuralrank.errors import InvalidInput
from neuralrank.product import Product
from trainer.pretrain.texts import Pair, from_products, split_off


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

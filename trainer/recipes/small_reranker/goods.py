"""What the small cross-encoder learns from: real products whose licences allow it, and Chinese ones
that are made up, since the real ones are few."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from neuralrank.catalogue.product import Product, headline, passage
from neuralrank.catalogue.reading import Catalogue
from neuralrank.text.cleaning import clean
from neuralrank.text.language import detect

__all__ = ["CHARACTERS", "Good", "made_up", "read_goods"]

# Of a passage; what the sidecar gives a cross-encoder to read by default is about this long.
CHARACTERS: Final = 160
# Of one category, by chance: most of the real Chinese goods are milk powder.
_OF_A_CATEGORY: Final = 200
# Made-up goods of each noun.
_OF_A_NOUN: Final = 8
_SYLLABLES: Final = "优美佳乐康达森沃尚雅诺奇威宝莱格欧亿朗晨思博凯维"
_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Good:
    """A product, as much of it as queries and models look at. `headline` is what an encoder reads,
    `passage` what a cross-encoder reads, `text` what is searched by words; `category` is the most
    special one; "" for unknown."""

    title: str
    headline: str
    passage: str
    text: str
    category: str
    brand: str
    color: str
    language: str

    @classmethod
    def of(cls, product: Product) -> "Good":
        return cls(
            title=clean(product.title),
            headline=headline(product),
            passage=passage(product, CHARACTERS),
            text=passage(product),
            category=product.category[-1] if product.category else "",
            brand=product.brand or "",
            color=product.color or "",
            language="zh" if detect(product.title) == "zh" else "en",
        )


def read_goods(catalogue: Path, seed: int = 0) -> list[Good]:
    """The products of a catalogue; of a very large share in one category, some.

    Raises:
        NotFound, InvalidInput: it can't be read.
    """
    products = [Product.from_row(row.value) for row in Catalogue(catalogue).rows()]
    random = np.random.default_rng([seed, 1])
    taken: dict[tuple[str, ...], int] = {}
    goods = []
    for place in random.permutation(len(products)):
        product = products[place]
        taken[product.category] = taken.get(product.category, 0) + 1
        if not product.category or taken[product.category] <= _OF_A_CATEGORY:
            goods.append(Good.of(product))
    return goods


def made_up(seed: int = 0) -> list[Good]:
    """Chinese goods of many categories: a noun with some of its category's properties before it, at
    times a brand and a model number, none of which exists."""
    random = np.random.default_rng([seed, 2])
    return list(dict.fromkeys(_made_up(random)))


def _made_up(random: np.random.Generator) -> Iterator[Good]:
    table = (files(__package__) / "goods_zh.tsv").read_text("utf-8")
    for line in table.splitlines():
        category, nouns, properties = line.split("\t")
        known = properties.split()
        for noun in nouns.split():
            for _ in range(_OF_A_NOUN):
                chosen = list(random.permutation(known)[: random.integers(2, 6)])
                brand = "".join(random.choice(list(_SYLLABLES), 2)) if random.random() < 0.4 else ""
                code = _code(random) if random.random() < 0.3 else ""
                before = chosen[: random.integers(0, len(chosen) + 1)]
                after = chosen[len(before) :]
                glue = " " if random.random() < 0.4 else ""
                parts = [brand, code, glue.join([*before, noun]), *after]
                title = " ".join(part for part in parts if part)
                yield Good.of(Product(id="-", title=title, category=(category,), brand=brand))


def _code(random: np.random.Generator) -> str:
    """A model number, such as XK-240."""
    letters = "".join(random.choice(list(_LETTERS), int(random.integers(1, 4))))
    return f"{letters}{random.choice(['', '-'])}{int(random.integers(2, 9999))}"

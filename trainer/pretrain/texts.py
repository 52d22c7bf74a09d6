"""What is read in pretraining: products and queries as pairs of texts, or alone.

BERT's second task asks whether one sentence followed another. A catalogue has no running text; what
belongs together in it is a title and what else is said of the product, and a query and the title
of a product that answers it. So "next" means: is this *its* description, or another's? A product
of which nothing but a title is known gives the two halves of the title.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuralrank.catalogue.product import Product, passage
from neuralrank.errors import InvalidInput
from neuralrank.text.cleaning import clean
from trainer.dataset import Dataset

__all__ = ["Corpus", "Pair", "from_dataset", "from_products", "split_off"]

# A part of one in so many is held back, to measure with.
_DEV_PART: Final = 20
_DEV_MOST: Final = 1_000
# Shorter titles have no two halves.
_LEAST_TITLE: Final = 8


@dataclass(frozen=True)
class Pair:
    """Two texts that belong together; `second` is empty for a text alone, such as a query without
    a known answer."""

    first: str
    second: str = ""


@dataclass(frozen=True)
class Corpus:
    """What is learned from, and what it is measured with."""

    train: tuple[Pair, ...]
    dev: tuple[Pair, ...]

    def texts(self) -> Iterable[str]:
        """Every text that is learned from, for a vocabulary."""
        for pair in self.train:
            yield pair.first
            if pair.second:
                yield pair.second


def from_products(products: Iterable[Product], queries: Iterable[str] = ()) -> list[Pair]:
    """A pair for each product, and each query alone; texts that come twice, once."""
    pairs = [_halves(clean(p.title), _beyond(clean(p.title), passage(p))) for p in products]
    return list(dict.fromkeys([*pairs, *(Pair(clean(query)) for query in queries)]))


def from_dataset(data: Dataset) -> list[Pair]:
    """A pair for each product; each query of the train part with the titles of what answers it
    best, or alone. Queries of dev and test are not read."""
    titles = dict(
        zip(data.items["item_id"].to_pylist(), data.items["title"].to_pylist(), strict=True)
    )
    texts = data.texts()
    pairs = [_halves(clean(t), _beyond(clean(t), texts[i])) for i, t in titles.items()]
    # Of each query its own best: of clicks, hardly any label is the scale's highest.
    answers: dict[str, tuple[float, list[str]]] = {}
    examples = data.of("examples", "train")
    for query, item, label in zip(
        *(examples[name].to_pylist() for name in ("query_id", "item_id", "label")), strict=True
    ):
        best, found = answers.get(query, (data.description.labels.min, []))
        if label > best:
            answers[query] = label, [item]
        elif label == best:
            found.append(item)
    queries = data.of("queries", "train")
    for query, text in zip(
        queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True
    ):
        _, found = answers.get(query, (0.0, []))
        pairs += [Pair(clean(text), clean(titles[item])) for item in found] or [Pair(clean(text))]
    return list(dict.fromkeys(pairs))


def split_off(pairs: Sequence[Pair], seed: int) -> Corpus:
    """Holds a part back.

    Raises:
        InvalidInput: there are fewer than four pairs of two texts.
    """
    if sum(bool(pair.second) for pair in pairs) < 4:
        raise InvalidInput(
            f"There are {len(pairs)} texts to pretrain on; that is too few. Give a catalogue with "
            "--catalogue, or a dataset with --dataset."
        )
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    count = min(max(len(pairs) // _DEV_PART, 2), _DEV_MOST)
    chosen = [pairs[place] for place in order]
    return Corpus(tuple(chosen[count:]), tuple(chosen[:count]))


def _beyond(title: str, text: str) -> str:
    """What a passage says after the title that it begins with."""
    return text[len(title) :].strip() if text.startswith(title) else ""


def _halves(title: str, rest: str) -> Pair:
    if rest or len(title) < _LEAST_TITLE:
        return Pair(title, rest)
    middle = len(title) // 2
    # At a blank, where one is near; Chinese has none.
    blanks = [place for place, character in enumerate(title) if character == " "]
    nearest = min(blanks, key=lambda place: abs(place - middle), default=middle)
    cut = nearest if abs(nearest - middle) <= len(title) // 4 else middle
    return Pair(title[:cut].strip(), title[cut:].strip())

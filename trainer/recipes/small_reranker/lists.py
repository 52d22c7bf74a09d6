"""For each query a list of items: its own, what a search would find beside it, and chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.encoders.encoder import Encoder
from neuralrank.progress import tracked
from trainer.dataset.finding import Bm25, best
from trainer.recipes.small_reranker.goods import Good
from trainer.recipes.small_reranker.queries import Cut, make_query
from trainer.recipes.small_reranker.words import ByWords

__all__ = ["ITEMS", "Lists", "make_lists"]

# Of one list: its own item, of the best by words, of the nearest by vectors, and any.
_BY_WORDS: Final = 3
_BY_VECTORS: Final = 2
_BY_CHANCE: Final = 2
ITEMS: Final = 1 + _BY_WORDS + _BY_VECTORS + _BY_CHANCE
# The first ranking, as the sidecar has it before feedback (decision 004): what words count in it
# beside vectors, and how many of its best are what the query is about.
_FIRST: Final = 0.6
_FEEDBACK: Final = 5
# They are taken by chance from so many of the best.
_DEEP: Final = 24

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lists:
    """Queries with items of one language. `items` are places in `goods`, int64 [queries, ITEMS],
    each its query's own first. In [0, 1], float32 [queries, ITEMS]: `words`, what a search by words
    says; `vectors`, the cosine of query and item; `context`, the cosine of the item and the best of
    a first ranking by both."""

    queries: list[str]
    goods: list[Good]
    items: NDArray[np.int64]
    words: Floats
    vectors: Floats
    context: Floats

    def __len__(self) -> int:
        return len(self.queries)


def make_lists(
    goods: Sequence[Good],
    encoder: Encoder,
    item_vectors: Floats,
    cut: Cut,
    count: int,
    seed: int = 0,
) -> Lists:
    """So many different queries with their items.

    Args:
        goods: of one language.
        encoder: which encodes the queries.
        item_vectors: of the goods' headlines, float32 [goods, d] of length 1.
        count: fewer come out where the goods have no words for more.
    """
    random = np.random.default_rng([seed, 3])
    asked: dict[str, int] = {}
    for _ in range(3 * count):
        if len(asked) == count:
            break
        own = int(random.integers(0, len(goods)))
        if query := make_query(goods[own], cut, random):
            asked.setdefault(query, own)
    queries = list(asked)
    titles = Bm25([good.headline for good in goods])
    by_words = ByWords(goods)
    near = encoder.encode_queries(queries)
    items = np.empty((len(queries), ITEMS), np.int64)
    words, vectors, context = (np.empty(items.shape, np.float32) for _ in range(3))
    for row, (query, own) in enumerate(tracked(list(asked.items()), "Making lists")):
        cosines = item_vectors @ near[row]
        chosen = [own]
        for found, wanted in (
            (best(titles.scores(query), _DEEP), _BY_WORDS),
            (best(cosines, _DEEP), _BY_VECTORS),
            (random.integers(0, len(goods), _DEEP), ITEMS - 1),
        ):
            others = [int(at) for at in random.permutation(found) if at not in chosen]
            chosen += list(dict.fromkeys(others))[: min(wanted, ITEMS - len(chosen))]
        items[row] = chosen
        found_words = by_words.scores(query)
        match = encoder.calibrate_query(cosines)
        first = best(_FIRST * found_words + (1 - _FIRST) * match, _FEEDBACK)
        centroid = item_vectors[first].mean(axis=0)
        centroid /= np.linalg.norm(centroid)
        words[row], vectors[row] = found_words[chosen], match[chosen]
        context[row] = encoder.calibrate_centroid(item_vectors[chosen] @ centroid)
    return Lists(queries, list(goods), items, words, vectors, context)

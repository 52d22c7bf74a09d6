"""For each query a list of items: its own, what a search would find beside it, and chance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.dataset.finding import Bm25, best
from trainer.recipes.small_reranker.goods import Good
from trainer.recipes.small_reranker.queries import Cut, make_query

__all__ = ["ITEMS", "Lists", "make_lists"]

# Of one list: its own item, of the best by words, of the nearest by vectors, and any.
_BY_WORDS: Final = 3
_BY_VECTORS: Final = 2
_BY_CHANCE: Final = 2
ITEMS: Final = 1 + _BY_WORDS + _BY_VECTORS + _BY_CHANCE
# They are taken by chance from so many of the best.
_DEEP: Final = 24

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lists:
    """Queries with items of one language. `items` are places in `goods`, int64 [queries, ITEMS],
    each its query's own first; `cosines` of the encoder and `coverage` (the share of the query's
    words that the item has, the rare ones counting more) are float32 [queries, ITEMS]."""

    queries: list[str]
    goods: list[Good]
    items: NDArray[np.int64]
    cosines: Floats
    coverage: Floats

    def __len__(self) -> int:
        return len(self.queries)


def make_lists(
    goods: Sequence[Good],
    vectors: Floats,
    encode: Callable[[list[str]], Floats],
    cut: Cut,
    count: int,
    seed: int = 0,
) -> Lists:
    """So many different queries with their items.

    Args:
        goods: of one language.
        vectors: of their headlines, float32 [goods, d] of length 1.
        encode: vectors of queries, float32 [queries, d].
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
    passages = Bm25([good.passage for good in goods])
    near = encode(queries)
    items = np.empty((len(queries), ITEMS), np.int64)
    cosines, coverage = (np.empty(items.shape, np.float32) for _ in range(2))
    for row, (query, own) in enumerate(asked.items()):
        by_words = titles.scores(query)
        by_vectors = vectors @ near[row]
        chosen = [own]
        for found, wanted in (
            (best(by_words, _DEEP), _BY_WORDS),
            (best(by_vectors, _DEEP), _BY_VECTORS),
            (random.integers(0, len(goods), _DEEP), ITEMS - 1),
        ):
            others = [int(at) for at in random.permutation(found) if at not in chosen]
            chosen += list(dict.fromkeys(others))[: min(wanted, ITEMS - len(chosen))]
        items[row] = chosen
        cosines[row] = by_vectors[chosen]
        # Lucene's BM25 over texts of like lengths is near to the covered share of the words' idf;
        # titles count more than what follows them.
        both = 0.7 * by_words[chosen] + 0.3 * passages.scores(query)[chosen]
        coverage[row] = both / max(float(both.max()), 1e-6)
    return Lists(queries, list(goods), items, cosines, coverage)

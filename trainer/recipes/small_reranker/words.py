"""What a search by words says of a product, near to what `opensearch_config/queries/product.json`
says in OpenSearch: BM25 over all fields, the title counting four times, and for Chinese both single
characters and neighbouring ones."""

import re
from collections.abc import Sequence
from typing import Final

import bm25s
import numpy as np

from neuralrank.text.cleaning import clean
from trainer.recipes.small_reranker.goods import Good

__all__ = ["ByWords"]

_RUN: Final = re.compile(r"[a-z]+|[0-9]+|[\u4e00-\u9fff]+|[^\W_a-z0-9\u4e00-\u9fff]+")
_SMALL_WORDS: Final = frozenset(
    [
        *("a", "an", "and", "are", "as", "at", "be", "by", "for", "if", "in", "into", "is", "it"),
        *("no", "not", "of", "on", "or", "such", "that", "the", "this", "to", "was", "with"),
    ]
)
# What the second analysis, with pairs of characters, counts beside the first.
_PAIRS: Final = 0.5

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


class ByWords:
    """An index of goods."""

    def __init__(self, goods: Sequence[Good]) -> None:
        singles, pairs = [], []
        for good in goods:
            weighted = ((good.title, 4), (good.brand, 2), (good.category, 2), (good.text, 1))
            both = [(_terms(text), times) for text, times in weighted]
            singles.append([term for (found, _), times in both for term in found * times])
            pairs.append([term for (_, found), times in both for term in found * times])
        self._indexes = [bm25s.BM25(method="lucene", k1=1.2, b=0.75) for _ in range(2)]
        for index, texts in zip(self._indexes, (singles, pairs), strict=True):
            index.index(texts, show_progress=False)
        self._count = len(goods)

    def scores(self, query: str) -> Floats:
        """Of all goods, float32 [goods], divided by the best one's; 0 where no word is shared."""
        total = np.zeros(self._count, np.float32)
        for index, terms, weight in zip(self._indexes, _terms(query), (1.0, _PAIRS), strict=True):
            known = [term for term in terms if term in index.vocab_dict]
            if known:
                total += np.float32(weight) * np.asarray(index.get_scores(known), np.float32)
        return total / max(float(total.max()), 1e-6)


def _terms(text: str) -> tuple[list[str], list[str]]:
    """Words in lower case without the plural's s, numbers apart from letters; Chinese as single
    characters in the first list and as pairs in the second."""
    singles: list[str] = []
    pairs: list[str] = []
    for run in _RUN.findall(clean(text).casefold()):
        if "\u4e00" <= run[0] <= "\u9fff":
            singles += run
            pairs += [run[at : at + 2] for at in range(len(run) - 1)] or [run]
        elif run not in _SMALL_WORDS:
            plural = len(run) > 3 and run.endswith("s") and not run.endswith("ss")
            singles.append(run[:-1] if plural else run)
            pairs.append(singles[-1])
    return singles, pairs

"""Whom a ranking shows: popular items, brands, how much of the catalogue, how varied a page.

Exposure of place k is 1 / log2(1 + k), over the first ten places of every judged query. It is
compared with merit, the relevance of what could have been shown: Singh and Joachims, "Fairness of
Exposure in Rankings" (2018), who call a ranking fair whose groups get exposure as they merit it.
Popularity: Abdollahpouri, Burke and Mobasher, "Managing Popularity Bias in Recommender Systems with
Personalized Re-Ranking" (2019). Diversity: Ziegler et al., "Improving Recommendation Lists Through
Topic Diversification" (2005), with categories and brands as topics.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from trainer.evaluation.held_back import Item, Judged
from trainer.evaluation.scoring import Scores

__all__ = ["Exposure", "exposed", "exposure"]

_PLACES: Final = 10
# The most used fifth of the items is popular; the share is Abdollahpouri's.
_POPULAR: Final = 0.2
_GROUPS: Final = 20
_NOBODY: Final = "(not known)"


@dataclass(frozen=True)
class Exposure:
    """`brands`: share of exposure and of merit by brand, the most exposed first.

    `brand_gap`: half the sum of the differences of all brands' shares of exposure and merit; 0: as
    merited, 1: only what has no merit. `popular_exposure` and `popular_merit`: the shares of the
    popular items; None where nobody used anything. `gini`: of exposure over the items that could be
    shown, 0 for equal shares. `coverage`: the share of the whole catalogue that some page shows;
    `shown_coverage`: of the items that could be shown. `diversity`: the share of pairs of a page
    that differ in category, and in brand; None where too few have one.
    """

    brands: tuple[tuple[str, float, float], ...]
    brand_gap: float
    popular_exposure: float | None
    popular_merit: float | None
    gini: float
    coverage: float
    shown_coverage: float
    category_diversity: float | None
    brand_diversity: float | None

    def numbers(self) -> dict[str, Any]:
        def short(value: float | None) -> float | None:
            return None if value is None else round(value, 4)

        return {
            "brands": [
                {"brand": name, "exposure": round(e, 4), "merit": round(m, 4)}
                for name, e, m in self.brands
            ],
            "brand_exposure_gap": short(self.brand_gap),
            "popular_exposure": short(self.popular_exposure),
            "popular_merit": short(self.popular_merit),
            "exposure_gini": short(self.gini),
            "catalogue_coverage": short(self.coverage),
            "candidate_coverage": short(self.shown_coverage),
            "category_diversity": short(self.category_diversity),
            "brand_diversity": short(self.brand_diversity),
        }


def exposure(judged: Judged, scores: Scores, items: Mapping[str, Item]) -> Exposure:
    """What the first ten places of every judged query show."""
    pages = {query: _page(scores[query], judged.labels[query]) for query in judged.labels}
    return exposed(pages, judged.labels, {i for row in judged.labels.values() for i in row}, items)


def exposed(
    pages: Mapping[str, Sequence[str]],
    labels: Mapping[str, Mapping[str, float]],
    everything: set[str],
    items: Mapping[str, Item],
) -> Exposure:
    """
    Args:
        pages: what is shown, the first ten places at most, by name.
        labels: by page and item; of each page one above 0 at least.
        everything: that could have been shown.
    """
    gets: dict[str, float] = {}
    merits: dict[str, float] = {}
    for query, page in pages.items():
        for place, item in enumerate(page, start=1):
            gets[item] = gets.get(item, 0.0) + 1 / math.log2(1 + place)
        # A query's merit is as much as its exposure: long pools weigh no more than short ones.
        total = sum(labels[query].values())
        given = sum(1 / math.log2(1 + place) for place in range(1, len(page) + 1))
        for item, label in labels[query].items():
            merits[item] = merits.get(item, 0.0) + given * label / total
    by_brand = _shares(gets, items), _shares(merits, items)
    brands = sorted(by_brand[0] | by_brand[1], key=lambda name: -by_brand[0].get(name, 0.0))
    rows = [(name, by_brand[0].get(name, 0.0), by_brand[1].get(name, 0.0)) for name in brands]
    popular = _popular(items)
    return Exposure(
        brands=tuple(rows[:_GROUPS]),
        brand_gap=sum(abs(e - m) for _, e, m in rows) / 2,
        popular_exposure=_share(gets, popular) if popular else None,
        popular_merit=_share(merits, popular) if popular else None,
        gini=_gini([gets.get(item, 0.0) for item in everything]),
        coverage=len(gets) / len(items),
        shown_coverage=len(gets) / len(everything),
        category_diversity=_diversity([[items[i].department for i in p] for p in pages.values()]),
        brand_diversity=_diversity([[items[i].brand for i in p] for p in pages.values()]),
    )


def _page(scores: Mapping[str, float], pool: Mapping[str, float]) -> list[str]:
    # Of equal scores the last id first, as trec_eval, and so every metric of order, has it.
    return sorted(pool, key=lambda item: (scores[item], item), reverse=True)[:_PLACES]


def _shares(amounts: Mapping[str, float], items: Mapping[str, Item]) -> dict[str, float]:
    """By brand, adding up to 1."""
    found: dict[str, float] = {}
    for item, amount in amounts.items():
        brand = items[item].brand or _NOBODY
        found[brand] = found.get(brand, 0.0) + amount
    total = sum(amounts.values())
    return {name: amount / total for name, amount in found.items()}


def _share(amounts: Mapping[str, float], of: set[str]) -> float:
    return sum(amount for item, amount in amounts.items() if item in of) / sum(amounts.values())


def _popular(items: Mapping[str, Item]) -> set[str]:
    used = sorted((i for i in items.values() if i.popularity), key=lambda i: (-i.popularity, i.id))
    return {item.id for item in used[: max(1, round(_POPULAR * len(items)))]} if used else set()


def _gini(amounts: Sequence[float]) -> float:
    """Of amounts of which at least one is above 0."""
    ordered = np.sort(np.asarray(amounts, np.float64))
    ranks = np.arange(1, len(ordered) + 1)
    return float((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def _diversity(pages: Sequence[Sequence[str]]) -> float | None:
    """The mean over pages of the share of pairs that differ, of those where both are known."""
    known = [[value for value in page if value] for page in pages]
    shares = [
        float(np.mean([one != two for one, two in combinations(page, 2)]))
        for page in known
        if len(page) > 1
    ]
    return float(np.mean(shares)) if shares else None

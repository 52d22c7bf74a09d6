"""What users would have clicked, had another ranking been shown: estimates from logged pages.

A page was ordered by what served then, and users look less at what stands lower. Two click models
turn that into weights:

- *position-based*: an item is clicked if its place is looked at (probability p(k), from the logs)
  and it attracts. Where the logs looked at it with ρ on average over the query's pages that had
  it, and the new ranking puts it at k', its click weighs p(k') / ρ. Every page has support.
  Joachims, Swaminathan and Schnabel, "Unbiased Learning-to-Rank with Biased Feedback" (2017); ρ of
  the policy and not of the one page: Oosterhuis and de Rijke, "Policy-Aware Unbiased Learning to
  Rank for Top-k Rankings" (2020).
- *item-position*: a click depends on the item and its place, in whatever way. A shown item counts
  where the new ranking leaves it, by 1 / (how often the query's pages had it there). Li, Abbasi-
  Yadkori, Kveton, Muthukrishnan, Vinay and Wen, "Offline Evaluation of Ranking Policies with Click
  Models" (2018). Only places that the logs have seen the item at have support.

And three estimators of the clicks a page, each row of a page with its weight w, click c, and the
click that a model of the past predicts where it stood (ĉ) and where it would stand (ĉ'):

- IPS: Σ w·c. Horvitz and Thompson (1952); unbiased where p is right.
- SNIPS: Σ w·c / Σ w for each place. Swaminathan and Joachims, "The Self-Normalized Estimator for
  Counterfactual Learning" (2015). For item-position weights only: those have the mean 1 that it
  divides by.
- DR: Σ ĉ' + w·(c − ĉ). Dudík, Langford and Li, "Doubly Robust Policy Evaluation and Learning"
  (2011); with position-based weights Oosterhuis, "Doubly Robust Estimation for Correcting Position
  Bias in Click Feedback for Unbiased Learning to Rank" (2023). Right where either w or ĉ is. The
  weights here are frequencies of the same logs, which makes IPS as exact as it can be (Hirano,
  Imbens and Ridder, 2003): what ĉ adds is where weights are cut, and where support is missing.

Weights above `clip` are cut to it: less variance, some bias (Ionides, "Truncated Importance
Sampling", 2008). Intervals are 95% percentile bootstraps over pages. Not modelled: that users trust
a place (trust bias), and that one item changes the click on another.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLIP", "Attraction", "Estimate", "Logged", "cross_fitted", "estimates", "reranked"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLIP: Final = 10.0
_RESAMPLES: Final = 1_000
_SEED: Final = 20_110
# So many looks at the average of what is above it a pair starts with: item of all, pair of item.
_PRIOR_LOOKS: Final = 10.0


@dataclass(frozen=True)
class Logged:
    """What was shown, one row for each item of each page: arrays [rows].

    `page` numbers the pages from 0 without a gap; `position` counts from 1; `propensity` is the
    probability that the place was looked at, above 0, of which only ratios matter; `examination`
    float64 [places] is the same by place.
    """

    page: Ints
    query: Sequence[str]
    item: Sequence[str]
    position: Ints
    clicked: Floats
    propensity: Floats
    examination: Floats

    def __len__(self) -> int:
        return len(self.page)

    @property
    def pages(self) -> int:
        return int(self.page.max()) + 1 if len(self.page) else 0

    def rows(self, which: Bools) -> "Logged":
        """Whole pages, by their rows, bool [rows]; numbered anew."""
        kept = np.flatnonzero(which).tolist()
        return Logged(
            page=np.unique(self.page[which], return_inverse=True)[1].astype(np.int64),
            query=[self.query[row] for row in kept],
            item=[self.item[row] for row in kept],
            position=self.position[which],
            clicked=self.clicked[which],
            propensity=self.propensity[which],
            examination=self.examination,
        )

    def look(self, position: Ints) -> Floats:
        """The probability that places are looked at; below the last known one, that one's."""
        return self.examination[np.minimum(position, len(self.examination)) - 1]


class Attraction:
    """How attractive an item is for a query, by the clicks on other pages.

    Clicks by looks (the sum of propensities), where a pair begins with the item's rate and an item
    with the rate of all, each as if it had been seen so ten times: what was seldom shown is judged
    by what is known beside it.
    """

    def __init__(self, logged: Logged, rows: Bools | None = None) -> None:
        """
        Args:
            rows: which rows to learn from; all where it is not given.
        """
        self._clicks: dict[object, float] = {}
        self._looks: dict[object, float] = {}
        for row in range(len(logged)) if rows is None else np.flatnonzero(rows).tolist():
            query, item = logged.query[row], logged.item[row]
            clicked, looked = float(logged.clicked[row]), float(logged.propensity[row])
            for key in (None, item, (query, item)):
                self._clicks[key] = self._clicks.get(key, 0.0) + clicked
                self._looks[key] = self._looks.get(key, 0.0) + looked

    def of(self, queries: Sequence[str], items: Sequence[str]) -> Floats:
        """float64 [pairs]; 0 where nothing was ever shown."""
        looks = self._looks.get(None, 0.0)
        mean = self._clicks[None] / looks if looks else 0.0
        pairs = zip(queries, items, strict=True)
        return np.array([self._rate((q, i), self._rate(i, mean)) for q, i in pairs], np.float64)

    def _rate(self, key: object, before: float) -> float:
        clicks, looks = self._clicks.get(key, 0.0), self._looks.get(key, 0.0)
        return (clicks + _PRIOR_LOOKS * before) / (looks + _PRIOR_LOOKS)


def cross_fitted(logged: Logged, learned_from: Bools) -> Floats:
    """The attraction of every row's pair, float64 [rows], never by the clicks on its own page.

    Rows of `learned_from` (an earlier time) teach all others. Those that are not in it are halved
    by page, and each half is taught by the other too (cross-fitting: Chernozhukov et al., "Double/
    Debiased Machine Learning", 2018).
    """
    found = np.zeros(len(logged))
    for half in (0, 1):
        taught = logged.page % 2 == half
        model = Attraction(logged, learned_from | ~taught)
        rows = np.flatnonzero(taught & ~learned_from).tolist()
        found[rows] = model.of([logged.query[r] for r in rows], [logged.item[r] for r in rows])
    return found


@dataclass(frozen=True)
class Estimate:
    """Clicks a page under the new ranking: Σ clicks / Σ weights of each place, or where there are
    no `weights`, the mean of `clicks` over pages.

    Both float64 [pages, places]; `shown`, of the same shape, says how many items of a page went to
    a place. `support` is the share of shown items with a weight above 0, `clipped` the share whose
    weight was cut.
    """

    clicks: Floats = field(repr=False)
    weights: Floats | None = field(repr=False)
    shown: Floats | None = field(repr=False)
    support: float = 1.0
    clipped: float = 0.0

    @property
    def value(self) -> float:
        return self._of(np.ones(len(self.clicks)))

    def interval(self) -> tuple[float, float]:
        """The 95% interval, by a percentile bootstrap over pages."""
        chance = np.random.default_rng(_SEED)
        pages = len(self.clicks)
        drawn = [
            self._of(np.bincount(chance.integers(pages, size=pages), minlength=pages))
            for _ in range(_RESAMPLES)
        ]
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(low), float(high)

    def of_pages(self, pages: Bools) -> "Estimate":
        """The same of some pages, bool [pages]."""
        weights, shown = (None if a is None else a[pages] for a in (self.weights, self.shown))
        return Estimate(self.clicks[pages], weights, shown, self.support, self.clipped)

    def minus(self, other: "Estimate") -> "Estimate":
        """How many clicks more than another ranking of the same pages; not of ratios."""
        return Estimate(
            self.clicks.sum(axis=1, keepdims=True) - other.clicks.sum(axis=1, keepdims=True),
            None,
            None,
        )

    def numbers(self) -> dict[str, float]:
        low, high = self.interval()
        named = {
            "value": self.value,
            "low": low,
            "high": high,
            "support": self.support,
            "clipped": self.clipped,
        }
        return {name: round(number, 6) for name, number in named.items()}

    def _of(self, counts: NDArray[np.number]) -> float:
        """Of pages that are counted so often, [pages]."""
        clicks = counts @ self.clicks
        if self.weights is not None and self.shown is not None:
            total = counts @ self.weights
            rate = np.divide(clicks, total, out=np.zeros_like(clicks), where=total > 0)
            clicks = rate * (counts @ self.shown)
        return float(clicks.sum() / counts.sum())


def reranked(logged: Logged, scores: NDArray[np.floating]) -> Ints:
    """Where each shown item would stand, int64 [rows], if its page were ordered by scores [rows].

    The items of a page take the places that it had; equal scores keep their order.
    """
    before = np.lexsort((logged.position, logged.page))
    after = np.lexsort((logged.position, -np.asarray(scores, np.float64), logged.page))
    places = np.empty(len(logged), np.int64)
    places[after] = logged.position[before]
    return places


def estimates(
    logged: Logged, places: Ints, attraction: Floats, clip: float = CLIP
) -> dict[str, Estimate]:
    """All estimates of the clicks a page, by name.

    Args:
        places: of the shown items under the new ranking, int64 [rows], as `reranked` gives them.
        attraction: of each row's pair, float64 [rows], from another time than `logged`.
        clip: the largest weight, above 0.
    """
    moved = logged.look(places) / _average_look(logged)
    weights = np.minimum(moved, clip)
    clicks = logged.clicked
    kept = _kept(logged, places)
    stays = np.minimum(kept, clip)
    direct = attraction * logged.look(places)
    residual = clicks - attraction * logged.propensity
    shares = {"support": 1.0, "clipped": float((moved > clip).mean())}
    item_shares = {"support": float((kept > 0).mean()), "clipped": float((kept > clip).mean())}

    def mean(rows: Floats, shares: Mapping[str, float]) -> Estimate:
        return Estimate(_sums(logged.page, rows, logged.pages)[:, None], None, None, **shares)

    return {
        "IPS": mean(weights * clicks, shares),
        "DR": mean(direct + weights * residual, shares),
        "IPS item-position": mean(stays * clicks, item_shares),
        "SNIPS item-position": Estimate(
            clicks=_by_place(logged, places, stays * clicks),
            weights=_by_place(logged, places, stays),
            shown=_by_place(logged, places, np.ones(len(logged))),
            **item_shares,
        ),
        "DR item-position": mean(direct + stays * residual, item_shares),
    }


def _average_look(logged: Logged) -> Floats:
    """How likely each row's item was looked at on a page of its query that had it, [rows]."""
    pair = {
        key: n for n, key in enumerate(dict.fromkeys(zip(logged.query, logged.item, strict=True)))
    }
    at = np.array([pair[key] for key in zip(logged.query, logged.item, strict=True)], np.int64)
    return (np.bincount(at, logged.propensity) / np.bincount(at))[at]


def _kept(logged: Logged, places: Ints) -> Floats:
    """Item-position weights, float64 [rows]: 1 / the share of the query's pages that have the item
    at this place, 0 where the new ranking moves it away."""
    of_query: dict[str, set[int]] = {}
    seen: Counter[tuple[str, str, int]] = Counter()
    for page, query, item, place in zip(
        logged.page.tolist(), logged.query, logged.item, logged.position.tolist(), strict=True
    ):
        of_query.setdefault(query, set()).add(page)
        seen[query, item, place] += 1
    rows = zip(logged.query, logged.item, logged.position.tolist(), strict=True)
    inverse = np.array([len(of_query[q]) / seen[q, i, k] for q, i, k in rows], np.float64)
    return np.where(places == logged.position, inverse, 0.0)


def _by_place(logged: Logged, places: Ints, rows: Floats) -> Floats:
    """Sums of rows by page and the place that they go to, float64 [pages, places]."""
    _, column = np.unique(places, return_inverse=True)
    width = int(column.max()) + 1
    cells = logged.page * width + column
    return _sums(cells, rows, logged.pages * width).reshape(logged.pages, width)


def _sums(at: Ints, rows: Floats, length: int) -> Floats:
    return np.asarray(np.bincount(at, rows, length), np.float64)

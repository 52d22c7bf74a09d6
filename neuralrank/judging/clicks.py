"""From clicks to grades: how much better an item was than its place on the page.

People click what stands on top. Two models take that out:

- COEC, clicks over expected clicks: an item's clicks for a query, divided by the clicks that its
  places get on average over all queries. Zhang and Jones, "Comparing Click Logs and Editorial
  Labels for Training Query Rewriting" (2007).
- SDBN, the simplified dynamic Bayesian network: a user reads from the top and stops at the last
  click, satisfied; a page without a click was read to its end. Then the most likely attractiveness
  of an item is clicks / times read and its satisfaction last clicks / clicks, each with a prior of
  Beta(1, 1); relevance is their product. Chapelle and Zhang, "A Dynamic Bayesian Network Click
  Model for Web Search Ranking" (2009): the closed form of their model for a perseverance of 1.
"""

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from neuralrank.judging.judgments import query_key
from neuralrank.judging.pages import Page

__all__ = ["MODELS", "Estimate", "Tally", "grade"]

# The models, and from which value on an item gets grade 1, 2, 3. COEC: from a quarter of what its
# places promise, as much, twice as much. SDBN: probabilities that a user who reads it is satisfied.
MODELS: Final = {"coec": (0.25, 1.0, 2.0), "sdbn": (0.1, 0.25, 0.5)}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model says of an item for a query."""

    query: str  # as `query_key` writes it
    item: str
    value: float
    seen: int  # how often it was: shown (COEC), or read as the model has it (SDBN)
    clicks: int


@dataclass
class _Seen:
    """What happened to one item for one query."""

    places: Counter[int] = field(default_factory=Counter)
    clicks: int = 0
    read: int = 0  # at or above the last click, or on a page without one
    last: int = 0  # times that it was the last click


class Tally:
    """Counts over pages. Memory grows with the pairs of query and item, not with the pages."""

    def __init__(self) -> None:
        self.pages = 0
        self._pairs: dict[str, dict[str, _Seen]] = {}
        self._shown: Counter[int] = Counter()
        self._clicked: Counter[int] = Counter()

    def add(self, pages: Iterable[Page]) -> None:
        for page in pages:
            self.pages += 1
            pairs = self._pairs.setdefault(query_key(page.query), {})
            last = max((page.items[item] for item in page.clicked), default=None)
            for item, place in page.items.items():
                seen = pairs.setdefault(item, _Seen())
                seen.places[place] += 1
                self._shown[place] += 1
                seen.read += last is None or place <= last
                if item in page.clicked:
                    seen.clicks += 1
                    self._clicked[place] += 1
                    seen.last += place == last

    def estimates(self, model: str) -> Iterator[Estimate]:
        """Every pair that was shown, by a model of `MODELS`; with COEC, pairs at places where
        nobody ever clicked have no value and are left out."""
        rates = {place: self._clicked[place] / shown for place, shown in self._shown.items()}
        for query, pairs in self._pairs.items():
            for item, seen in pairs.items():
                if model == "coec":
                    expected = sum(rates[place] * n for place, n in seen.places.items())
                    if not expected:
                        continue
                    value, times = seen.clicks / expected, seen.places.total()
                else:
                    attractive = (seen.clicks + 1) / (seen.read + 2)
                    satisfying = (seen.last + 1) / (seen.clicks + 2)
                    value, times = attractive * satisfying, seen.read
                yield Estimate(query, item, value, times, seen.clicks)


def grade(value: float, thresholds: Sequence[float]) -> int:
    """How many of the thresholds (ascending) a value has reached: 0 to their number."""
    return bisect.bisect_right(thresholds, value)

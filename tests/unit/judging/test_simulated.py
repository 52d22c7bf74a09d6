"""Both models against users whose taste is known: what they were made for, they find."""

from collections.abc import Iterator
from random import Random

import pytest
from scipy.stats import kendalltau

from neuralrank.judging import MODELS, Page, Tally

QUERIES, ITEMS, PAGES = 10, 10, 8_000
Pair = tuple[int, int]


class Users:
    """Who is drawn to an item (attraction) and stops there (satisfaction), or just looks less at
    what stands further down; the order of pages has nothing to do with either."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.random = Random(7)
        pairs = [(query, item) for query in range(QUERIES) for item in range(ITEMS)]
        self.attraction = {pair: self.random.random() * 0.6 for pair in pairs}
        self.satisfaction = {pair: self.random.random() for pair in pairs}
        self.shown = dict.fromkeys(pairs, 0)
        self.clicked = dict.fromkeys(pairs, 0)

    def taste(self, pair: Pair) -> float:
        return self.attraction[pair] * (1 if self.kind == "places" else self.satisfaction[pair])

    def clicks(self, query: int, order: list[int]) -> Iterator[int]:
        for place, item in enumerate(order):
            looks = 1 / (1 + 0.5 * place) if self.kind == "places" else 1.0
            if self.random.random() < looks * self.attraction[query, item]:
                yield item
                if self.kind == "cascade" and (
                    self.random.random() < self.satisfaction[query, item]
                ):
                    return

    def pages(self) -> Iterator[Page]:
        for _ in range(PAGES):
            query = self.random.randrange(QUERIES)
            order = sorted(
                range(ITEMS),
                key=lambda item: (item * 7 + query * 3) % ITEMS + self.random.gauss(0, 2),
            )
            clicked = set(self.clicks(query, order))
            for item in order:
                self.shown[query, item] += 1
                self.clicked[query, item] += item in clicked
            places = {str(item): place for place, item in enumerate(order)}
            yield Page(f"q{query}", places, frozenset(map(str, clicked)))

    def agreement(self, values: dict[Pair, float]) -> float:
        """Kendall's tau with the users' taste, the mean over queries."""
        taus = [
            kendalltau(
                [self.taste((query, item)) for item in range(ITEMS)],
                [values[query, item] for item in range(ITEMS)],
            ).statistic
            for query in range(QUERIES)
        ]
        return float(sum(taus)) / QUERIES


@pytest.mark.parametrize(("kind", "made_for_it"), [("places", "coec"), ("cascade", "sdbn")])
def test_each_model_finds_the_taste_of_the_users_it_is_made_for(
    kind: str, made_for_it: str
) -> None:
    users, tally = Users(kind), Tally()
    tally.add(users.pages())
    plain = users.agreement({p: users.clicked[p] / users.shown[p] for p in users.shown})
    found = {
        model: users.agreement(
            {(int(e.query[1:]), int(e.item)): e.value for e in tally.estimates(model)}
        )
        for model in MODELS
    }
    assert max(found, key=lambda model: found[model]) == made_for_it
    assert found[made_for_it] > 0.6
    # Both are better than the share of clicks, which is what the order of the pages makes of it.
    assert min(found.values()) > plain + 0.05

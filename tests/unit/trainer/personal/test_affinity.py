"""What a first ranker is measured against is what the sidecar computes without one."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from neuralrank.bundles.bundle import Calibration
from neuralrank.encoders.encoder import alike
from neuralrank.personal.affinity import affinity
from neuralrank.personal.inputs import ACTIONS, Columns, action_numbers
from sidecar.domain import Candidates, Floats, Interaction, Item, Profile
from sidecar.ranking.score import complete, similarities
from sidecar.ranking.taste import taste
from tests.unit.sidecar.parts import WordEncoder
from trainer.personal.affinity import affinity_of
from trainer.personal.behaviour import History
from trainer.personal.shop import Shop

ITEMS, DIMENSIONS = 30, 6
RANGE = Calibration(low=0.1, high=0.7)


@dataclass
class Alike(WordEncoder):
    """Its cosines between items lie elsewhere than in [0, 1]."""

    def calibrate_item(self, cosines: Floats) -> Floats:
        return alike(cosines, RANGE)


def shop(random: np.random.Generator, *, named: bool) -> tuple[Shop, list[Item]]:
    """Brands and categories as shops have them: some in other letters, some lacking."""
    brands = ["Bodum", "BODUM", "Dell", ""] if named else [""]
    paths = [("Home", "Kettle"), ("home", "tea"), ("Computer",), ()] if named else [()]
    vectors = random.standard_normal((ITEMS, DIMENSIONS))
    vectors = np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
    items = [
        Item(
            f"i{n}", vectors[n], brand=brands[int(random.integers(len(brands)))],
            category=paths[int(random.integers(len(paths)))],
        )
        for n in range(ITEMS)
    ]  # fmt: skip
    columns = Columns.of(
        [item.brand for item in items], [item.category for item in items], [1.0] * ITEMS, {}
    )
    return Shop(tuple(item.id for item in items), vectors, columns, "e@0", RANGE), items


def served(items: list[Item], history: History, rows: list[int]) -> Floats:
    """Affinity as the sidecar has it for somebody who did all that just now."""
    done = tuple(
        Interaction(items[item].id, ACTIONS[action], 1)
        for item, action in zip(history.items, history.actions, strict=True)
    )
    by_id = {item.id: item for item in items}
    liked = taste(Profile(interactions=done[::-1]), by_id, {}, 7.0, DIMENSIONS)
    names = [items[row].id for row in rows]
    bare = Candidates.bare(
        names, [""] * len(rows), np.full(len(rows), np.nan, np.float32),
        np.zeros((len(rows), 0), np.float32),
    )  # fmt: skip
    found = dict(zip(bare.keys, (by_id[name] for name in names), strict=True))
    near = similarities(complete(bare, found, DIMENSIONS, vectors=True), Alike(), None, liked)
    return affinity(near.user_match, near.category_share, near.brand_share)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_list_is_ordered_as_it_is_without_a_ranker(seed: int, named: bool) -> None:
    random = np.random.default_rng(seed)
    things, items = shop(random, named=named)
    count = int(random.integers(1, 9))
    history = History(
        random.permutation(ITEMS)[:count], action_numbers(random.choice(ACTIONS, count))
    )
    rows = random.permutation(ITEMS)[:20]
    found = affinity_of(things, history, rows)
    assert found.dtype == np.float32
    assert found == pytest.approx(served(items, history, rows.tolist()), abs=1e-5)


def test_who_likes_two_kinds_is_near_to_both_and_not_to_what_lies_between() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0.05], [0.05, 1], [1, 1]], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = Columns.of([""] * 5, [()] * 5, [1.0] * 5, {})
    things = Shop(tuple("abcde"), vectors, columns, "e@0")
    history = History(np.array([0, 1]), np.ones(2, np.int64))
    first, second, between = affinity_of(things, history, np.array([2, 3, 4]))
    assert first == pytest.approx(second)
    assert first > between
    # Nearest to the mean of both is what is like neither.
    mean = vectors[:2].mean(axis=0)
    assert vectors[4] @ mean > vectors[2] @ mean


def test_of_a_long_history_the_newest_count_as_the_sidecar_reads_them() -> None:
    things, _ = shop(np.random.default_rng(1), named=True)
    every = np.random.default_rng(2).integers(ITEMS, size=140)
    long = History(every, np.ones(140, np.int64))
    newest = replace(long, items=long.items[-100:], actions=long.actions[-100:])
    rows = np.arange(ITEMS)
    assert affinity_of(things, long, rows) == pytest.approx(affinity_of(things, newest, rows))

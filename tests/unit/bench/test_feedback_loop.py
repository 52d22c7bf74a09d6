"""Simulated users: their clicks are as likely as the model says, the same seed gives the same
documents, and from what they leave behind the product estimates what they look at."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bench.feedback_loop.rounds import Plan, same_plan
from bench.feedback_loop.users import (
    Clicks,
    Traffic,
    Visit,
    click_chance,
    documents,
    phrased,
)
from neuralrank import ubi
from trainer.dataset.propensity import Seen, estimate

ITEMS = [f"item-{n}" for n in range(10)]
GRADES = {"item-1": 1, "item-2": 2, "item-4": 3, "item-7": 2, "item-9": 3}
WHEN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("eta", "position", "grade", "expected"),
    [
        (1.0, 1, 3, 1.0),  # the first is always looked at, the best always liked
        (1.0, 1, 0, 0.1),
        (1.0, 4, 2, 0.25 * (0.1 + 0.9 * 3 / 7)),
        (2.0, 4, 1, 0.0625 * (0.1 + 0.9 * 1 / 7)),
        (0.0, 10, 3, 1.0),
    ],
)
def test_a_click_is_a_look_and_a_liking(
    eta: float, position: int, grade: int, expected: float
) -> None:
    clicks = Clicks(eta)
    assert clicks.looked_at(position) * clicks.liked(grade) == pytest.approx(expected)


def test_pages_are_clicked_as_often_as_the_probabilities_say() -> None:
    clicks, chance, times = Clicks(1.0), random.Random(3), 20_000
    counted = Counter(
        position for _ in range(times) for position in clicks.clicked(ITEMS, GRADES, chance)
    )
    for position, item in enumerate(ITEMS, start=1):
        p = clicks.looked_at(position) * clicks.liked(GRADES.get(item, 0))
        assert counted[position] / times == pytest.approx(p, abs=5 * (p * (1 - p) / times) ** 0.5)


def test_what_nobody_judged_is_liked_like_what_is_not_relevant() -> None:
    of_unjudged = Clicks(0.0).clicked(ITEMS, {}, random.Random(1))
    assert of_unjudged == Clicks(0.0).clicked(ITEMS, dict.fromkeys(ITEMS, 0), random.Random(1))


WORDINGS = {"a": ("red kettle", "kettle red"), "b": ("sofa",), "c": ("blue desk lamp",)}


def test_the_same_seed_gives_the_same_visits_and_another_one_others() -> None:
    first = list(Traffic(WORDINGS, seed=1).visits(2, 200))
    assert first == list(Traffic(WORDINGS, seed=1).visits(2, 200))
    assert first != list(Traffic(WORDINGS, seed=2).visits(2, 200))
    assert first != list(Traffic(WORDINGS, seed=1).visits(3, 200))
    assert {visit.asked.need for visit in first} == set(WORDINGS)
    # Half of the users see the shop's own order, and each always does or never.
    control = {visit.user: visit.control for visit in first}
    assert all(control[visit.user] == visit.control for visit in first)
    assert 0.3 < np.mean([visit.control for visit in first]) < 0.7


def test_a_need_is_typed_as_it_was_judged_and_with_its_words_in_another_order() -> None:
    found = phrased({"a": "red steel kettle", "b": "sofa"}, ["a", "b"], seed=0)
    assert found["b"] == ["sofa"]
    judged, other = found["a"]
    assert judged == "red steel kettle"
    assert sorted(other.split()) == sorted(judged.split())
    assert other != judged


def logged(visits: Iterator[Visit]) -> list[str]:
    """The lines of the visits: the control group sees the items one way, the others the other."""
    lines = []
    for visit in visits:
        page = ITEMS if visit.control else ITEMS[::-1]
        clicked = Clicks(1.0).clicked(page, GRADES, click_chance(0, 1, visit))
        lines += map(json.dumps, documents(visit, page, clicked, WHEN, prefix="x"))
    return lines


def test_visits_are_ubi_documents_with_every_impression_and_its_place() -> None:
    lines = logged(Traffic(WORDINGS).visits(1, 20))
    found = list(ubi.parse(lines))
    assert all(isinstance(record, ubi.Record) for record in found)
    records = [record for record in found if isinstance(record, ubi.Record)]
    assert len({record.id for record in records}) == len(records)
    queries = [record.document for record in records if record.index == ubi.QUERIES_INDEX]
    events = [record.document for record in records if record.index == ubi.EVENTS_INDEX]
    assert len(queries) == 20
    shown = [event for event in events if event["action_name"] == "impression"]
    assert len(shown) == 20 * len(ITEMS)
    places = {query["query_id"]: query["query_response_hit_ids"] for query in queries}
    for event in events:
        attributes = event["event_attributes"]
        at = places[event["query_id"]].index(attributes["object"]["object_id"]) + 1
        assert attributes["position"]["ordinal"] == at


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_propensities_estimated_from_the_clicks_are_near_the_true_ones(eta: float) -> None:
    """As `train dataset` estimates them, where half of the users see another order."""
    clicks, pairs, places, clicked = Clicks(eta), [], [], []
    for visit in Traffic(WORDINGS).visits(1, 6_000):
        page = ITEMS if visit.control else ITEMS[3:] + ITEMS[:3]
        done = set(clicks.clicked(page, GRADES, click_chance(0, 1, visit)))
        need = list(WORDINGS).index(visit.asked.need)
        for place, item in enumerate(page, start=1):
            pairs.append(need * len(ITEMS) + ITEMS.index(item))
            places.append(place)
            clicked.append(place in done)
    seen = Seen.of(np.array(pairs), np.array(places), np.array(clicked))
    theta = estimate(seen, np.zeros((max(pairs) + 1, 0)))
    assert theta.estimator == "harvest"
    truth = np.array([clicks.looked_at(place) for place in range(1, len(ITEMS) + 1)])
    assert np.abs(theta.values - truth).max() < 0.08
    # What the clicks alone would say is further off.
    rate = np.bincount(places, clicked)[1:] / np.bincount(places)[1:]
    assert np.abs(theta.values - truth).max() < np.abs(rate / rate.max() - truth).max()


def test_another_model_of_the_same_name_is_another_plan(tmp_path: Path) -> None:
    plan = Plan("package:neuralrank", "0123456789abcdef", rounds=3, visits=10, eta=1.0)
    assert not same_plan(tmp_path, plan)
    (tmp_path / "plan.json").write_text(json.dumps(asdict(plan)))
    assert same_plan(tmp_path, plan)
    assert not same_plan(tmp_path, replace(plan, first="fedcba9876543210"))

"""What a fine-tuned model may decide of an order, and when."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.candidates import Found, Recorded
from bench.finetune import ranked as ranking
from bench.finetune.cells import sampled
from bench.finetune.ranked import Ranked, Ranking, ranked
from bench.finetune.share import SHARES, earned, gains, mixed, ndcg
from neuralrank.bundles.registry import Registry
from neuralrank.settings import Settings
from tests.unit.conftest import tiny_bundle

SCORES = np.array([0.9, 0.7, 0.5, 0.1])
LOGITS = np.array([-3.0, 1.0, 5.0, 1.0])


def test_a_share_of_nothing_leaves_the_order_and_a_whole_one_is_the_models() -> None:
    assert mixed(SCORES, LOGITS, 0.0) == pytest.approx(SCORES)
    whole = mixed(SCORES, LOGITS, 1.0)
    assert np.argsort(-whole, kind="stable").tolist() == [2, 1, 3, 0]
    assert whole.mean() == pytest.approx(SCORES.mean())
    assert whole.std() == pytest.approx(SCORES.std())


def test_a_model_that_tells_nothing_apart_changes_no_order() -> None:
    same = mixed(SCORES, np.ones(4), 0.5)
    assert np.argsort(-same).tolist() == [0, 1, 2, 3]


def test_ndcg_has_grades_as_gains_and_counts_what_is_not_judged_as_nothing() -> None:
    # (1/log2(2)·0 + 1/log2(3)·3) / (3/log2(2) + 1/log2(3)·1)
    discount = 1 / np.log2(3)
    assert ndcg(["unknown", "best"], {"best": 3, "other": 1}) == pytest.approx(
        3 * discount / (3 + discount)
    )
    assert ndcg(["unknown"], {"other": 0}) == 0.0


def test_gains_are_to_the_order_as_it_was() -> None:
    found = gains(["a", "b", "c", "d"], SCORES, LOGITS, {"c": 3, "a": 0, "b": 1})
    assert len(found) == len(SHARES)
    assert found[0] == 0.0
    assert found[-1] > 0.0


def test_a_gain_that_is_the_same_for_all_is_earned_and_one_by_chance_is_not() -> None:
    steady = [[0.0, 0.01, 0.05, 0.02, 0.01, 0.0, -0.1]] * 6
    assert earned(steady) == SHARES[2]
    by_chance = [[0.0] * 6 + [0.9], *[[0.0] * 6 + [-0.1]] * 8]
    assert earned(by_chance) == 0.0
    harm = [[0.0] + [-0.1] * 6] * 6
    assert earned(harm) == 0.0
    assert earned([]) == 0.0


def test_pairs_are_of_the_size_asked_for_and_of_what_a_search_found() -> None:
    items = [f"i{n}" for n in range(30)]
    qrels = {q: dict.fromkeys([*items[:20], "never found"], 1) for q in ("a", "b", "c", "d")}
    queries = {q: Ranking(q, (), tuple(items), tuple(np.linspace(1, 0, 30))) for q in qrels}
    material = Ranked(queries, qrels)
    for size, of in ((15, 2), (40, 4), (60, 4)):
        found = sampled(material, list(qrels), size, seed=1)
        assert sum(map(len, found.values())) == size
        assert len(found) == of
        assert all(set(taken) <= set(items[:20]) for taken in found.values())
        assert found == sampled(material, list(qrels), size, seed=1)


def test_rankings_are_asked_for_anew_where_other_models_serve_or_others_are_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recorded] = []
    data = Recorded({"1": Found("lamp", (("a", 1.0),))}, {"1": {"a": 3}}, "encoder@1")

    def ask(_: str, data: Recorded, __: Settings) -> dict[str, Any]:
        asked.append(data)
        row = {"text": "lamp", "lexical": ["a"], "items": ["a"], "scores": [1.0]}
        return {"queries": {"1": row}, "qrels": data.qrels}

    monkeypatch.setattr(ranking, "_asked", ask)
    monkeypatch.setattr(ranking, "recorded", lambda *_, **__: data)
    settings = Settings(home=tmp_path / "home")
    registry = Registry(settings.registry_path)

    def key() -> str:
        return ranked("shop", settings, tmp_path).key

    registry.publish(tiny_bundle(tmp_path / "encoder", "encoder"))
    first = key()
    assert (key(), len(asked)) == (first, 1)
    registry.publish(tiny_bundle(tmp_path / "cross", "cross_encoder"))
    second = key()
    assert len(asked) == 2
    data = Recorded({"1": Found("lamp", (("b", 1.0),))}, {"1": {"a": 3}}, "encoder@1")
    assert len({first, second, key()}) == len(asked) == 3

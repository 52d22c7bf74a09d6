"""`neuralrank train evaluate` of personal rankers, on what users chose."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput
from tests.unit.conftest import tiny_bundle, tiny_ranker
from tests.unit.trainer.personal.test_train_command import DAY, held_for_test, iso
from trainer.dataset import Dataset, Window
from trainer.personal.behaviour import History
from trainer.personal.evaluation import Scored, evaluate
from trainer.personal.lists import List


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An encoder, and two rankers: one likes what is near to a user's events, one what is not."""
    found = Registry(str(tmp_path / "models"))
    encoder = found.publish(tiny_bundle(tmp_path / "tiny", "encoder", name="shop")).ref
    for name, sign in (("near", 1.0), ("far", -1.0)):
        found.publish(tiny_ranker(tmp_path / name, encoder, sign, name=name))
    return found


def typed(registry: Registry, tmp_path: Path, *arguments: str | Path) -> Any:
    environment = {
        "NEURALRANK_REGISTRY": registry.url,
        "NEURALRANK_HOME": str(tmp_path / "home"),
        "COLUMNS": "200",
    }
    given = ["train", "evaluate", str(tmp_path / "data"), *map(str, arguments)]
    return CliRunner().invoke(app, given, env=environment)


def test_two_rankers_are_compared_on_what_users_chose(registry: Registry, tmp_path: Path) -> None:
    held_for_test().write(tmp_path / "data")
    out = tmp_path / "report.html"
    options = ("--bundle", "near", "--baseline", "far", "--out", out)
    done = typed(registry, tmp_path, *options, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["lists"] == {"clicks after a search": 1, "what users did next": 1}
    near, far = answer["systems"].values()
    # Whatever is before another with the one is after it with the other.
    assert near["AUC"] + far["AUC"] == pytest.approx(1.0, abs=1e-3)
    assert near["HitRate@10"] == far["HitRate@10"] == 1.0  # of six items
    assert answer["versus"]["nDCG@10"]["difference"] == pytest.approx(
        near["nDCG@10"] - far["nDCG@10"], abs=1e-3
    )
    assert [(s["dimension"], s["name"], s["size"], s["metric"]) for s in near["segments"]] == [
        ("lists", "clicks after a search", 1, "nDCG@10"),
        ("lists", "what users did next", 1, "nDCG@10"),
        ("users", "returning", 2, "nDCG@10"),
        ("next items", "what users did next", 1, "HitRate@10"),
        ("next items of users", "returning", 1, "HitRate@10"),
    ]
    assert near["exposure"]["catalogue_coverage"] == 1.0
    assert near["exposure"]["popular_exposure"] is not None
    assert "calibration" not in near
    page = out.read_text(encoding="utf-8")
    assert "1 pages by what was clicked on them" in page
    assert "Exposure, coverage" in page
    assert "Calibration" not in page
    shown = typed(registry, tmp_path, *options).stdout
    assert "HitRate@10 of next items of users, returning (1)" in shown
    assert "1 by clicks after a search, 1 by what users did next" in shown


def test_who_was_not_there_before_is_new(registry: Registry, tmp_path: Path) -> None:
    made = held_for_test()
    rows = [
        row | {"user_id": "somebody"} if row["split"] == "test" else row
        for row in made.impressions.to_pylist()
    ]
    impressions = made.impressions.from_pylist(rows, made.impressions.schema)
    data = Dataset(**{**vars(made), "impressions": impressions})
    found = evaluate(registry.get("near"), data, registry, tmp_path / "home").segments
    assert found["users", "new"].size == found["users", "returning"].size == 1
    assert ("next items of users", "new") not in found


def test_who_is_remembered_from_before_the_window_is_returning(
    registry: Registry, tmp_path: Path
) -> None:
    made = held_for_test()
    others = [row for row in made.sequences.to_pylist() if row["split"] == "test"]
    alone = replace(
        made,
        sequences=made.sequences.from_pylist(others, made.sequences.schema),
        impressions=made.impressions.slice(0, 0),
    )
    for begin, name in ((DAY, "new"), (DAY + 1, "returning")):
        window = Window.model_validate({"from": iso(begin), "until": iso(20 * DAY)})
        description = alone.description.model_copy(update={"window": window})
        data = replace(alone, description=description)
        found = evaluate(registry.get("near"), data, registry, tmp_path / "home").segments
        assert found["users", name].size == 1


def test_a_personal_ranker_is_compared_with_its_like(registry: Registry, tmp_path: Path) -> None:
    registry.publish(tiny_bundle(tmp_path / "text", "cross_encoder", name="text"))
    done = typed(registry, tmp_path, "--bundle", "near", "--baseline", "text")
    assert isinstance(done.exception, InvalidInput)
    assert "of kind personal_ranker and text@" in str(done.exception)
    done = typed(registry, tmp_path, "--bundle", "near", "--judgments", "judged")
    assert isinstance(done.exception, InvalidInput)
    assert "--judgments got judged" in str(done.exception)


def test_of_equal_scores_what_was_chosen_comes_last() -> None:
    nothing = np.zeros(0, np.int64)
    gains = np.array([1.0, 0.0, 0.0], np.float32)
    one = List(History(nothing, nothing), 1, -1, np.arange(3), gains, gains)
    assert Scored(one, np.zeros(3, np.float32)).ndcg == pytest.approx(0.5)

"""`neuralrank train update` as it is typed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.cli.train.update_stages import PersonalStages, TextStages
from neuralrank.errors import InvalidInput, InvalidSettings, NotFound
from tests.unit.conftest import tiny_bundle, tiny_ranker
from tests.unit.trainer.test_gate import seeded
from trainer.update.rounds import Learner
from trainer.update.state import Round, State, locked, write_state


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry(str(tmp_path / "registry"))
    monkeypatch.setenv("NEURALRANK_REGISTRY", made.url)
    monkeypatch.setenv("NEURALRANK_OPENSEARCH_URL", "http://127.0.0.1:1")
    return made


def typed(tmp_path: Path, *more: str, name: str = "ranker") -> BaseException | None:
    files = ("--catalogue", str(tmp_path / "catalogue.jsonl"), "--out", str(tmp_path / "state"))
    done = CliRunner().invoke(app, ["train", "update", name, *files, *more])
    return done.exception


@pytest.mark.parametrize("every", ["1", "0h", "an hour", "1w"])
def test_a_wrong_schedule_says_what_is_allowed(
    tmp_path: Path, registry: Registry, every: str
) -> None:
    registry.publish(seeded(tmp_path / "1", 1))
    error = typed(tmp_path, "--every", every)
    assert isinstance(error, InvalidInput)
    assert "--every got" in str(error)
    assert not (tmp_path / "state/state.json").exists()


@pytest.mark.parametrize(
    ("flag", "value"), [("--replay", "1.0"), ("--from", "yesterday"), ("--lag", "-5m")]
)
@pytest.mark.usefixtures("registry")
def test_wrong_options_are_named(tmp_path: Path, flag: str, value: str) -> None:
    error = typed(tmp_path, flag, value)
    assert isinstance(error, InvalidInput)
    assert f"{flag} got" in str(error)


@pytest.mark.usefixtures("registry")
def test_a_name_under_which_nothing_serves_is_named(tmp_path: Path) -> None:
    error = typed(tmp_path)
    assert isinstance(error, NotFound)
    assert "ranker" in str(error)


def test_only_rankers_learn_on_and_each_has_its_own_options(
    tmp_path: Path, registry: Registry
) -> None:
    registry.publish(tiny_bundle(tmp_path / "e", "encoder", name="ranker"))
    error = typed(tmp_path)
    assert isinstance(error, InvalidInput)
    assert "of kind encoder; allowed are cross_encoder and personal_ranker" in str(error)
    assert "neuralrank reencode" in str(error)
    registry.publish(tiny_ranker(tmp_path / "p", "e@0", name="for-users"))
    for flag, value in (("--loss", "bce"), ("--encoder", "e"), ("--judgments", "data")):
        error = typed(tmp_path, flag, value, name="for-users")
        assert isinstance(error, InvalidSettings)
        assert f"{flag} got {value}; what serves is a personal_ranker" in str(error)
    registry.publish(tiny_bundle(tmp_path / "c", "cross_encoder", name="for-texts"))
    error = typed(tmp_path, "--id-events", "3", name="for-texts")
    assert isinstance(error, InvalidSettings)


@pytest.mark.parametrize(
    ("name", "given", "epochs"),
    [("for-users", (), 10.0), ("for-users", ("--epochs", "1"), 1.0), ("ranker", (), 1.0)],
)
def test_a_personal_ranker_has_more_epochs_unless_told(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch,
    name: str, given: tuple[str, ...], epochs: float,
) -> None:  # fmt: skip
    registry.publish(tiny_ranker(tmp_path / "p", "e@0", name="for-users"))
    registry.publish(seeded(tmp_path / "1", 1))
    found: list[float] = []
    monkeypatch.setattr(Learner, "run", lambda self, *_, **__: found.append(_epochs(self)))
    assert typed(tmp_path, *given, name=name) is None
    assert found == [epochs]


def _epochs(learner: Learner) -> float:
    assert isinstance(learner.stages, PersonalStages | TextStages)
    return learner.stages.epochs


def test_opensearch_that_is_away_costs_nothing_that_was_done(
    tmp_path: Path, registry: Registry
) -> None:
    first = registry.publish(seeded(tmp_path / "1", 1)).ref
    window = {"since": "2026-01-01T00:00:00+00:00", "until": "2026-01-02T00:00:00+00:00"}
    before = Round(number=1, outcome="nothing", parent=first, **window)
    state = State(name="ranker", until=window["until"], rounds=(before,))
    write_state(tmp_path / "state", state)
    error = typed(tmp_path)
    assert type(error).__name__ == "Unavailable"
    with locked(tmp_path / "state"):  # it let go of it
        pass
    assert registry.resolve("ranker") == first

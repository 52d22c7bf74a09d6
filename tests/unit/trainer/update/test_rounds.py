"""Rounds of continual learning, with real bundles and a real gate; the logs and the training are
stood in for."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput, NotFound, Overloaded, Unavailable
from tests.unit.trainer.evaluation.shop import as_ranked_by, dataset, untracked
from tests.unit.trainer.test_gate import seeded
from trainer.dataset import Dataset
from trainer.gate import Rules
from trainer.update import rounds
from trainer.update.kinds import OfTexts
from trainer.update.rounds import Learner, Options
from trainer.update.state import Round, locked, read_state, write_state
from trainer.update.window import Window

SINCE = "2026-01-01T00:00:00+00:00"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Shop:
    """Stages whose window is what a test says: the bundle that the training comes to, and the
    bundle in whose order people click."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self._folder, self._registry = folder, registry
        self.windows: list[tuple[str, str]] = []
        self.pulled: list[Window] = []
        self.events = True
        self.measurable = True
        self.trained = 0
        self.liked = 0
        self.trainings = 0
        self.fails: dict[str, BaseException] = {}

    def pull(self, window: Window, folder: Path) -> Mapping[str, int] | None:
        self._fail("pull")
        self.windows.append((window.since, window.until))
        self.pulled.append(window)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / window.until).touch()
        assert len(list(folder.iterdir())) == 1, "logs of another window"
        return {"clicks": 7} if self.events else None

    def dataset(self, logs: Path, folder: Path) -> None:
        assert logs.is_dir()
        self._fail("dataset")
        made = as_ranked_by(seeded(self._temporary(), self.liked))
        if not self.measurable:
            made = replace(
                made,
                examples=made.examples.filter(pc.not_equal(made.examples["split"], "test")),
                impressions=made.impressions.slice(0, 0),
            )
        made.write(folder)

    def train(self, dataset: Path, parent: str, folder: Path) -> str:
        assert (dataset / "dataset.json").is_file()
        assert parent in self._registry.refs()
        folder.mkdir(parents=True, exist_ok=True)
        self._fail("train")
        self.trainings += 1
        bundle = seeded(self._temporary(), self.trained)
        return self._registry.publish(bundle, candidate=True).ref

    def _fail(self, stage: str) -> None:
        if error := self.fails.pop(stage, None):
            raise error

    def _temporary(self) -> Path:
        path = self._folder / "made"
        shutil.rmtree(path, ignore_errors=True)
        return path


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(str(tmp_path / "registry"))
    made.publish(seeded(tmp_path / "first", 1))
    return made


@pytest.fixture
def shop(tmp_path: Path, registry: Registry) -> Shop:
    return Shop(tmp_path, registry)


def one(tmp_path: Path, shop: Shop, registry: Registry, hours: int = 0, **options: Any) -> Round:
    return learner(tmp_path, shop, registry, **options).round(NOON + timedelta(hours=hours))


def learner(
    tmp_path: Path, shop: Shop, registry: Registry, name: str = "ranker", **options: Any
) -> Learner:
    judgments = options.pop("judgments", None)
    rules = Rules(min_size=1, min_queries=options.pop("min_queries", 1))
    kind = OfTexts(registry, rules, untracked, judgments)
    return Learner(tmp_path / "state", name, SINCE, shop, registry, kind, Options(**options))


def test_a_better_model_serves_and_the_next_round_begins_where_this_one_ended(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    first = registry.resolve("ranker")
    shop.trained = shop.liked = 2
    done = one(tmp_path, shop, registry)
    assert done.outcome == "promoted"
    assert registry.resolve("ranker") == done.candidate != first == done.parent
    assert done.after == 1.0 > done.before  # type: ignore[operator]
    assert done.counts["clicks"] == 7
    assert done.old_after is None  # nothing was kept back before
    shop.trained = shop.liked = 3
    done = one(tmp_path, shop, registry, hours=1)
    assert shop.windows == [
        (SINCE, NOON.isoformat()),
        (NOON.isoformat(), (NOON + timedelta(hours=1)).isoformat()),
    ]
    state = read_state(tmp_path / "state")
    assert state is not None
    assert [r.number for r in state.rounds] == [1, 2]
    assert state.current is None


def test_a_round_ends_before_the_present_and_knows_what_the_one_before_took(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    shop.trained = shop.liked = 2
    one(tmp_path, shop, registry, lag=600.0)
    shop.trained = shop.liked = 3
    one(tmp_path, shop, registry, hours=1, lag=600.0)
    early = NOON - timedelta(minutes=10)
    hour = timedelta(hours=1)
    logs = tmp_path / "state/rounds/0001/logs"
    assert shop.pulled == [
        Window(SINCE, early.isoformat(), NOON.isoformat()),
        Window(early.isoformat(), (early + hour).isoformat(), (NOON + hour).isoformat(), logs),
    ]
    assert logs.is_dir()
    # All that happened since may still go on.
    assert one(tmp_path, shop, registry, hours=1, lag=600.0).outcome == "nothing"
    assert len(shop.pulled) == 2


def test_a_window_that_can_not_be_had_any_more_is_begun_anew(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    """Such as one that was half pulled with another --index."""
    shop.trained = shop.liked = 2
    shop.fails["pull"] = InvalidInput("logs holds a pull with no --index; asked for is --index x")
    with pytest.raises(InvalidInput, match="--index x"):
        one(tmp_path, shop, registry)
    assert one(tmp_path, shop, registry, hours=1).outcome == "promoted"
    assert shop.windows == [(SINCE, (NOON + timedelta(hours=1)).isoformat())]


def test_forgetting_is_reported_and_keeps_a_candidate_out(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    """What people like turns round: the new model is right about now, and wrong about before."""
    shop.trained = shop.liked = 2
    assert one(tmp_path, shop, registry).outcome == "promoted"
    served = registry.resolve("ranker")
    shop.trained = shop.liked = 1
    done = one(tmp_path, shop, registry, hours=1, judgments=None)
    assert done.old_before == 1.0
    assert done.old_after is not None
    assert done.forgotten == pytest.approx(1.0 - done.old_after)
    assert done.forgotten > 0.02  # type: ignore[operator]
    assert done.outcome == "candidate"
    assert "old test parts" in done.reason
    assert registry.resolve("ranker") == served


def test_a_worse_model_stays_a_candidate(tmp_path: Path, shop: Shop, registry: Registry) -> None:
    first = registry.resolve("ranker")
    shop.trained, shop.liked = 2, 1
    done = one(tmp_path, shop, registry)
    assert done.outcome == "candidate"
    assert "nDCG@10 on held-back judgments" in done.reason
    assert registry.resolve("ranker") == first
    assert registry.candidates()[done.candidate].outcome == "refused"


def test_judgments_can_measure_instead_of_clicks(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    shop.trained, shop.liked = 2, 1  # clicks are against it, judgments for it
    judgments = as_ranked_by(seeded(tmp_path / "judge", 2))
    assert one(tmp_path, shop, registry, judgments=judgments).outcome == "promoted"


def test_queries_that_judgments_measure_with_are_not_trained_on(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    shop.trained = shop.liked = 2
    parts = {"t1": "test", "d1": "dev"}
    shown = as_ranked_by(seeded(tmp_path / "judge", 2))
    tables = {
        name: [row | {"split": parts.get(row["query_id"], "train")} for row in rows.to_pylist()]
        for name, rows in (("queries", shown.queries), ("examples", shown.examples))
    }
    one(tmp_path, shop, registry, judgments=dataset(**tables, impressions=[]))
    mixed = Dataset.open(tmp_path / "state/rounds/0001/data")
    # In the window, t1 is in train and d1 in dev.
    assert set(mixed.queries["query_id"].to_pylist()) == {"e1", "e2", "e3", "e4", "e5"}


def judging(folder: Path, **parts: str) -> Dataset:
    """Judgments as a bundle has it, with queries in other parts."""
    shown = as_ranked_by(seeded(folder / "judge", 2))
    tables = {
        name: [row | {"split": parts[row["query_id"]]} for row in rows.to_pylist()
               if row["query_id"] in parts]
        for name, rows in (("queries", shown.queries), ("examples", shown.examples))
    }  # fmt: skip
    return dataset(**tables, impressions=[])


def test_judgments_of_a_later_round_do_not_measure_with_what_was_trained_on(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    """The first round learns from t1; its own test part has e1 to e5."""
    shop.trained = shop.liked = 2
    one(tmp_path, shop, registry)
    shop.trained = 3
    judged = judging(tmp_path, t1="test", e2="test", e3="test")
    done = one(tmp_path, shop, registry, hours=1, judgments=judged)
    assert "(judgments, 2 queries; 1 more are trained on and left out)" in done.reason
    # It measures nothing, so that it may be learned from.
    mixed = Dataset.open(tmp_path / "state/rounds/0002/data")
    assert set(mixed.of("queries", "train")["query_id"].to_pylist()) == {"t1"}


def test_judgments_that_were_all_trained_on_are_refused_before_anything_is_trained(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    shop.trained = shop.liked = 2
    one(tmp_path, shop, registry)
    judged = judging(tmp_path, t1="test", d1="train")
    with pytest.raises(InvalidInput, match="learned from all 1 queries of the judgments' test"):
        one(tmp_path, shop, registry, hours=1, judgments=judged)
    assert shop.trainings == 1
    shop.trained = 3
    assert one(tmp_path, shop, registry, hours=2).number == 2


def test_promotion_can_be_left_to_a_person(tmp_path: Path, shop: Shop, registry: Registry) -> None:
    shop.trained = shop.liked = 2
    done = one(tmp_path, shop, registry, promote=False)
    assert done.outcome == "candidate"
    assert registry.candidates()[done.candidate].outcome == "passed"


def test_without_events_nothing_is_done_and_the_window_stays(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    shop.events = False
    done = one(tmp_path, shop, registry)
    assert (done.outcome, done.reason) == ("nothing", "No events in the window.")
    assert shop.trainings == 0
    shop.events = True
    shop.trained = shop.liked = 2
    assert one(tmp_path, shop, registry, hours=1).outcome == "promoted"
    assert shop.windows[1] == (SINCE, (NOON + timedelta(hours=1)).isoformat())


def test_too_little_to_learn_from_is_said_and_the_window_grows(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    for stage in ("dataset", "train"):
        shop.fails[stage] = InvalidInput("One class only: nobody clicked anything")
        with pytest.raises(InvalidInput, match="One class only"):
            one(tmp_path, shop, registry)
    assert (tmp_path / "state/rounds/0001.failed/data/dataset.json").is_file()
    shop.trained = shop.liked = 2
    assert one(tmp_path, shop, registry, hours=2).outcome == "promoted"
    assert shop.windows[2] == (SINCE, (NOON + timedelta(hours=2)).isoformat())


@pytest.mark.parametrize("step", ["rmtree", "rename", "write_state"])
@pytest.mark.parametrize("quiet", [True, False])
def test_interrupted_while_a_window_is_left_no_part_of_it_is_lost(
    tmp_path: Path, shop: Shop, registry: Registry, monkeypatch: pytest.MonkeyPatch,
    *, step: str, quiet: bool,
) -> None:  # fmt: skip
    def interrupted(*arguments: Any, **_: Any) -> None:
        if step == "write_state" and arguments[1].current is not None:
            write_state(*arguments)  # that a round begins
        else:
            raise KeyboardInterrupt

    shop.events = not quiet
    shop.fails["dataset"] = InvalidInput("One class only")
    with monkeypatch.context() as patch:
        patch.setattr({"rmtree": shutil, "rename": Path}.get(step, rounds), step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path, shop, registry)
    shop.events = True
    shop.fails.clear()
    shop.trained = shop.liked = 2
    one(tmp_path, shop, registry, hours=1)
    last = one(tmp_path, shop, registry, hours=2)
    windows = sorted(set(shop.windows))
    assert last.outcome != "nothing"
    assert [since for since, _ in windows] == [SINCE, windows[0][1]]


def test_where_the_parent_is_gone_the_next_round_begins_with_what_serves(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    shop.fails["train"] = NotFound("ranker@0123 reads the vectors of an encoder that is gone.")
    with pytest.raises(NotFound, match="encoder that is gone"):
        one(tmp_path, shop, registry)
    anew = registry.publish(seeded(tmp_path / "anew", 2)).ref
    registry.promote(anew)
    shop.trained = shop.liked = 3
    done = one(tmp_path, shop, registry, hours=1)
    assert (done.parent, done.outcome) == (anew, "promoted")
    assert shop.windows[1] == (SINCE, (NOON + timedelta(hours=1)).isoformat())


def test_nothing_to_measure_with_is_said_and_the_window_grows(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    """In a quiet hour nobody clicked on what the test part shows."""
    shop.trained = shop.liked = 2
    shop.measurable = False
    for hour in (0, 1):
        with pytest.raises(InvalidInput, match="Nothing of this window is kept back"):
            one(tmp_path, shop, registry, hours=hour)
    # Asked before the training, which would leave a candidate that nothing can compare.
    assert shop.trainings == 0
    assert not registry.candidates()
    shop.measurable = True
    assert one(tmp_path, shop, registry, hours=2).outcome == "promoted"
    assert shop.windows == [
        (SINCE, (NOON + timedelta(hours=hour)).isoformat()) for hour in range(3)
    ]


def test_too_few_queries_to_measure_with_are_said_and_the_window_grows(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    """Of one query many a worse candidate is better by chance, and served from then on."""
    shop.trained = shop.liked = 2
    with pytest.raises(
        InvalidInput, match=r"5 queries of this window .* asks for 6. Wait for more"
    ):
        one(tmp_path, shop, registry, min_queries=6)
    judged = judging(tmp_path, e2="test", e3="test")
    words = r"2 queries of the judgments' test part .* asks for 3. Judge more queries, or give a lo"
    with pytest.raises(InvalidInput, match=words):
        one(tmp_path, shop, registry, hours=1, judgments=judged, min_queries=3)
    assert shop.trainings == 0
    assert one(tmp_path, shop, registry, hours=2, min_queries=5).outcome == "promoted"
    assert shop.windows == [
        (SINCE, (NOON + timedelta(hours=hour)).isoformat()) for hour in range(3)
    ]


@pytest.mark.parametrize("stage", ["pull", "train"])
def test_an_interrupted_round_goes_on_for_the_same_window(
    tmp_path: Path, shop: Shop, registry: Registry, stage: str
) -> None:
    shop.trained = shop.liked = 2
    shop.fails[stage] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        one(tmp_path, shop, registry)
    done = one(tmp_path, shop, registry, hours=5)
    assert (done.number, done.outcome) == (1, "promoted")
    assert {until for _, until in shop.windows} == {NOON.isoformat()}


def test_interrupted_after_the_promotion_it_is_not_compared_with_itself(
    tmp_path: Path, shop: Shop, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.trained = shop.liked = 2
    with monkeypatch.context() as patch:
        patch.setattr("trainer.update.memory.Memory.after", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path, shop, registry)
    assert one(tmp_path, shop, registry, hours=1).outcome == "promoted"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_on_a_schedule_rounds_begin_on_time_and_a_failure_is_tried_again(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    shop.trained = shop.liked = 2
    shop.fails["pull"] = Unavailable("OpenSearch does not answer")
    clock = [NOON]
    slept: list[float] = []
    done: list[Round] = []

    def now() -> datetime:
        clock[0] += timedelta(seconds=10)  # whatever is done takes that long
        return clock[0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += timedelta(seconds=seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner(tmp_path, shop, registry).run(3_600.0, done=done.append, now=now, sleep=sleep)
    assert slept == [3_590.0] * 3
    assert len(done) == 2
    assert done[0].outcome == "promoted"


def test_once_a_failure_is_an_error(tmp_path: Path, shop: Shop, registry: Registry) -> None:
    shop.fails["pull"] = Unavailable("OpenSearch does not answer")
    with pytest.raises(Unavailable):
        learner(tmp_path, shop, registry).run()


def test_two_at_once_and_another_name_are_refused(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    with locked(tmp_path / "state"), pytest.raises(Overloaded, match="Another"):
        learner(tmp_path, shop, registry).run()
    shop.trained = shop.liked = 2
    one(tmp_path, shop, registry)
    with pytest.raises(InvalidInput, match=r"not 'other'\. Name another --out folder"):
        learner(tmp_path, shop, registry, "other").run()


def test_a_damaged_state_is_said(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"name": 1}')
    with pytest.raises(InvalidInput, match=r"state\.json: name: got 1.* another --out folder"):
        read_state(tmp_path)


def test_folders_of_old_rounds_go(tmp_path: Path, shop: Shop, registry: Registry) -> None:
    for hour in range(4):
        shop.trained = shop.liked = 2 + hour % 2
        one(tmp_path, shop, registry, hours=hour, keep=2)
    assert sorted(p.name for p in (tmp_path / "state/rounds").iterdir()) == ["0003", "0004"]


def test_what_failed_of_old_rounds_goes_with_them(
    tmp_path: Path, shop: Shop, registry: Registry
) -> None:
    for hour in range(4):
        shop.fails["train"] = InvalidInput("One class only")
        with pytest.raises(InvalidInput):
            one(tmp_path, shop, registry, hours=2 * hour, keep=2)
        shop.trained = shop.liked = 2 + hour % 2
        one(tmp_path, shop, registry, hours=2 * hour + 1, keep=2)
    assert sorted(p.name for p in (tmp_path / "state/rounds").iterdir()) == [
        "0003", "0003.failed", "0004", "0004.failed",
    ]  # fmt: skip

"""Rounds of continual learning for a personal ranker: real datasets, trainings and gates on made-up
logs, without OpenSearch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.compute as pc
import pytest

pytest.importorskip("torch")

from neuralrank.bundles.registry import Registry
from neuralrank.cli.train.update_stages import PersonalStages
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.settings import Settings
from tests.unit.conftest import tiny_bundle
from tests.unit.trainer.dataset.test_from_logs import act, finders, items, logs, shown
from trainer.dataset import Dataset
from trainer.dataset.from_logs import LogOptions, from_logs
from trainer.dataset.splits import Shares
from trainer.feedback import Logs
from trainer.gate import Rules
from trainer.loop import TrainingOptions
from trainer.personal.behaviour import from_dataset
from trainer.personal.learning import PersonalOptions, train_personal
from trainer.personal.shop import Shop
from trainer.update.kinds import OfUsers
from trainer.update.rounds import Learner, Options
from trainer.update.state import Round, read_state
from trainer.update.window import Window

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def visits(since: datetime, until: datetime, users: range) -> Logs:
    """Each user clicks two kettles after a search for one, and then a dishwasher among kettles."""
    chance = Random(users.start)
    begin = int(since.timestamp() * 1000)
    asked: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []

    def page(user: str, at: int, text: str, names: list[str], liked: list[str]) -> None:
        name = f"{user}-{at}"
        asked.append({"query_id": name, "time": at, "user_query": text, "user": user})
        events.extend(shown(name, at, *names, user=user))
        events.extend(
            act(name, at + 10 * n, "click", item, user) for n, item in enumerate(liked, start=1)
        )

    for turn, number in enumerate(users):
        at = begin + 1_000 * turn
        kettles = [f"k{n}" for n in chance.sample(range(30), 5)]
        page(f"u{number}", at, f"kettle {number % 7}", kettles[:4], kettles[:2])
        mixed = chance.sample([kettles[4], f"z{chance.randrange(30)}"], 2)
        later = [item for item in mixed if item.startswith("z")]
        page(f"u{number}", at + 300, f"present {number % 11}", mixed, later)
    found = logs(asked, events)
    window = {"since": since.isoformat(), "until": until.isoformat()}
    return Logs((found.pulled[0].model_copy(update=window),), found.queries, found.events)


def made(found: Logs) -> Dataset:
    options = LogOptions(shares=Shares(0.2, 0.2))
    return from_logs(found, items(), finders(), options, "made up", lambda *_: None)


@dataclass(frozen=True)
class Stages(PersonalStages):
    """Half of a round's users were there in the round before."""

    fails: list[BaseException]

    def pull(self, window: Window, folder: Path) -> Mapping[str, int] | None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "window").write_text(f"{window.since} {window.until}")
        return {"clicks": 1}

    def dataset(self, logs: Path, folder: Path) -> None:
        since, until = map(datetime.fromisoformat, (logs / "window").read_text().split())
        first = 20 * int(logs.parent.name)
        made(visits(since, until, range(first, first + 40))).write(folder)

    def train(self, dataset: Path, parent: str, folder: Path) -> str:
        if self.fails:
            raise self.fails.pop()
        return super().train(dataset, parent, folder)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An encoder and a personal ranker, trained for one step on users from before."""
    found = Registry(str(tmp_path / "models"))
    encoder = Encoder.load(found.publish(tiny_bundle(tmp_path / "tiny", "encoder", name="shop")))
    data = made(visits(BEGIN - HOUR, BEGIN, range(40)))
    shop = Shop.of(data.items, encoder, tmp_path / "cache", lambda *_: None)
    done = train_personal(
        from_dataset(data, shop, encoder.encode_queries),
        PersonalOptions(events=7, width=8, dev_items=30),
        TrainingOptions(tmp_path / "first", steps=1, track="none"),
    )
    assert done.bundle is not None
    found.publish(done.bundle)
    return found


@pytest.fixture
def stages(tmp_path: Path, registry: Registry) -> Stages:
    training = TrainingOptions(tmp_path / "state", epochs=3, batch_size=8, track="none")
    settings = Settings(home=tmp_path / "home", registry=registry.url)
    common = (settings, registry, tmp_path / "catalogue", "", Shares(0.2, 0.2), training)
    return Stages(*common, id_events=2, fails=[])


def one(tmp_path: Path, stages: Stages, registry: Registry, hours: int, **rules: Any) -> Round:
    kind = OfUsers(registry, Rules(min_size=1, **rules), tmp_path / "cache")
    folder, since = tmp_path / "state", BEGIN.isoformat()
    learner = Learner(folder, "personal-ranker", since, stages, registry, kind, Options())
    return learner.round(BEGIN + hours * HOUR)


def test_it_goes_on_from_what_serves_and_says_what_was_forgotten(
    tmp_path: Path, stages: Stages, registry: Registry
) -> None:
    first = registry.resolve("personal-ranker")
    done = one(tmp_path, stages, registry, 1)
    made = registry.manifest(done.candidate)
    before = registry.manifest(first)
    assert (done.parent, made.parent) == (first, first)
    assert made.personal == before.personal  # encoder, events and heads
    assert done.after is not None
    assert done.before is not None
    assert (done.outcome == "promoted") == (done.after > done.before)
    assert done.counts["remembered examples"] == 0
    assert done.forgotten is None

    served = registry.resolve("personal-ranker")
    again = one(tmp_path, stages, registry, 2)
    assert (again.parent, again.since) == (served, done.until)
    assert again.forgotten is not None
    assert 0 < again.counts["remembered examples"] < again.counts["train examples"] / 2
    found = registry.candidate(again.candidate)
    assert found is not None
    assert {check.name for check in found.checks} >= {
        "nDCG@10 of what users chose",
        "nDCG@10 on old test parts",
    }
    # u45 came twice, u62 in the second window alone; u25 and its like are remembered.
    rows = Dataset.open(tmp_path / "state/rounds/0002/data").of("sequences", "train").to_pylist()
    steps = {row["user_id"]: len(row["items"]) for row in rows}
    assert steps["u45"] == 6
    assert steps["u62"] == 3
    assert {user for user in steps if int(user[1:]) < 40}


def test_an_interrupted_round_goes_on_for_the_same_window(
    tmp_path: Path, stages: Stages, registry: Registry
) -> None:
    stages.fails.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        one(tmp_path, stages, registry, 1)
    done = one(tmp_path, stages, registry, 5)
    assert (done.number, done.until) == (1, (BEGIN + HOUR).isoformat())


def test_without_its_encoder_it_says_what_to_do(
    tmp_path: Path, stages: Stages, registry: Registry
) -> None:
    registry.publish(tiny_bundle(tmp_path / "other", "encoder", name="shop", max_tokens=32))
    bundle = registry.get("personal-ranker")
    assert bundle.manifest.personal is not None
    registry.remove(bundle.manifest.personal.encoder)
    with pytest.raises(NotFound, match="Was the index encoded anew"):
        one(tmp_path, stages, registry, 1)


def test_a_window_with_nothing_to_measure_with_grows(
    tmp_path: Path, stages: Stages, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quiet(self: Stages, logs: Path, folder: Path) -> None:
        dataset(self, logs, folder)
        whole = Dataset.open(folder)
        earlier = {
            name: (table := getattr(whole, name)).filter(pc.not_equal(table["split"], "test"))
            for name in ("impressions", "sequences")
        }
        replace(whole, **earlier).write(folder)

    dataset = Stages.dataset
    with monkeypatch.context() as patch:
        patch.setattr(Stages, "dataset", quiet)
        with pytest.raises(InvalidInput, match="The part that is kept back has no user who did"):
            one(tmp_path, stages, registry, 1)
    with pytest.raises(
        InvalidInput, match=r"users of this window .* asks for 1,000. Wait for more"
    ):
        one(tmp_path, stages, registry, 1, min_queries=1_000)
    # Asked before the training, which would leave a candidate that nothing can compare.
    assert not registry.candidates()
    state = read_state(tmp_path / "state")
    assert state is not None
    assert state.current is None
    assert one(tmp_path, stages, registry, 2).since == BEGIN.isoformat()

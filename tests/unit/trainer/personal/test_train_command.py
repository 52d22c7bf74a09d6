"""`neuralrank train personal` from a dataset or histories to a bundle in the registry."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from neuralrank.bundles.candidates import Candidate
from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, InvalidSettings, NotFound
from neuralrank.personal.inputs import ACTIONS, Columns
from neuralrank.personal.ranker import PersonalRanker
from tests.unit.conftest import tiny_bundle
from trainer.dataset import (
    BLOCKED,
    EXAMPLES,
    IMPRESSIONS,
    ITEMS,
    QUERIES,
    SEQUENCES,
    Dataset,
    Description,
)
from trainer.dataset.format import Split, Window
from trainer.gate import FORGOTTEN, TOO_SMALL, Rules
from trainer.loop import TrainingOptions
from trainer.personal import gate
from trainer.personal.behaviour import from_dataset, from_histories
from trainer.personal.learning import PersonalOptions, train_personal
from trainer.personal.sequences import Histories
from trainer.personal.shop import Shop

TRAINING = ["--steps", "4", "--every-steps", "2", "--track", "none", "--dev-items", "5"]
THINGS = ["red kettle", "blue kettle", "laptop", "phone", "teapot", "笔记本电脑"]
DAY = 86_400_000
TRAIN_UNTIL, DEV_UNTIL = 10 * DAY, 12 * DAY


def iso(time: int) -> str:
    return str(np.datetime64(time, "ms")) + "+00:00"


def data() -> Dataset:
    """Two users who looked at kettles and laptops, and searched before and after the split."""
    items = [
        {"item_id": str(n), "title": title, "text": title, "brand": "Bosch" if n < 2 else "",
         "category": "Home > Kettles" if "kettle" in title else "", "language": "",
         "price": 10.0 * (n + 1) if n else None}
        for n, title in enumerate(THINGS)
    ]  # fmt: skip
    queries = [
        {"query_id": "k", "text": "kettle", "language": "en", "split": "train", "segment": ""},
        {"query_id": "l", "text": "laptop", "language": "en", "split": "dev", "segment": ""},
    ]

    def sequence(user: str, items: list[str], times: list[int], split: str) -> dict[str, Any]:
        actions = ["view", "click", "purchase", "click"][: len(items)]
        return {"user_id": user, "items": items, "actions": actions, "times": times, "split": split}

    sequences = [
        sequence("u", ["0", "1", "4"], [DAY, 5 * DAY, 6 * DAY], "train"),
        sequence("v", ["2", "3"], [DAY, 2 * DAY], "train"),
        sequence("v", ["2", "3", "5"], [DAY, 2 * DAY, 11 * DAY], "dev"),
    ]

    def page(name: str, query: str, user: str, time: int, clicked: str, split: str) -> list[Any]:
        return [
            {"query_id": query, "user_id": user, "time": time, "page_id": name, "item_id": item,
             "position": place, "clicked": item == clicked, "propensity": 1.0 / place**2,
             "split": split}
            for place, item in enumerate(["0", "1", "2", "5"], start=1)
        ]  # fmt: skip

    impressions = [
        *page("p1", "k", "u", 5 * DAY, "1", "train"),
        *page("p2", "k", "", 3 * DAY, "5", "train"),
        *page("p3", "k", "v", 4 * DAY, "none", "train"),
        *page("p4", "l", "v", 11 * DAY, "2", "dev"),
    ]
    examples = [
        {"query_id": q, "item_id": "1", "label": 1.0, "weight": 1.0, "source": "click",
         "negative": "", "split": split}
        for q, split in (("k", "train"), ("l", "dev"))
    ]  # fmt: skip
    return Dataset(
        Description(
            source="made up",
            created="2026-01-01T00:00:00Z",
            split=Split(train_until=iso(TRAIN_UNTIL), dev_until=iso(DEV_UNTIL)),
        ),
        items=pa.Table.from_pylist(items, ITEMS),
        queries=pa.Table.from_pylist(queries, QUERIES),
        examples=pa.Table.from_pylist(examples, EXAMPLES),
        sequences=pa.Table.from_pylist(sequences, SEQUENCES),
        impressions=pa.Table.from_pylist(impressions, IMPRESSIONS),
    )


def recommended(name: str, user: str, time: int, split: str) -> list[dict[str, Any]]:
    """A page of no query, of which the second was clicked."""
    return [
        {"query_id": "", "user_id": user, "time": time, "page_id": name, "item_id": item,
         "position": place, "clicked": place == 2, "propensity": 1.0 / place, "split": split}
        for place, item in enumerate(["4", "0"], start=1)
    ]  # fmt: skip


def shop(given: Dataset) -> Shop:
    ids = tuple(given.items["item_id"].to_pylist())
    columns = Columns.of([""] * len(ids), [[]] * len(ids), [None] * len(ids), {})
    return Shop(ids, np.eye(len(ids), dtype=np.float32), columns, "enc@0123456789ab")


def test_what_was_recommended_is_learned_from_with_what_came_before() -> None:
    given = data()
    rows = [*recommended("r1", "u", 5 * DAY, "train"), *recommended("r2", "v", 11 * DAY, "dev")]
    rows = [*given.impressions.to_pylist(), *rows]
    given = replace(given, impressions=pa.Table.from_pylist(rows, IMPRESSIONS))
    given.check()
    found = from_dataset(given, shop(given), lambda texts: np.zeros((len(texts), 6), np.float32))
    (visit,) = [one for one in found.train.visits if one.query < 0]
    assert visit.items.tolist() == [4, 0]
    assert visit.gains.tolist() == [0.0, 2.0]
    assert np.isnan(visit.retrieval).all()
    assert visit.history.items.tolist() == [0]  # u, before that day
    assert found.searched
    # What measures that head is what users did next.
    assert all(one.query >= 0 for one in found.dev.visits)


def test_queries_are_encoded_without_what_they_exclude_as_where_the_ranker_serves() -> None:
    given = data()
    rows = [row | {"text": f"{row['text']} without lid"} for row in given.queries.to_pylist()]
    asked: list[str] = []

    def encode(texts: Any) -> Any:
        asked.extend(texts)
        return np.zeros((len(texts), 6), np.float32)

    changed = replace(given, queries=pa.Table.from_pylist(rows, given.queries.schema))
    found = from_dataset(changed, shop(given), encode)
    assert asked == ["kettle", "laptop"]
    # The caller's own search is for all words; no text has these.
    assert found.train.visits[0].retrieval.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_a_run_of_histories_goes_on_only_with_the_same_catalogue(tmp_path: Path) -> None:
    """Ids stay when titles and prices change."""
    ids = [f"i{number}" for number in range(6)]
    known = Histories.of(ids, {f"u{n}": [ids[n], ids[(n + 1) % 6], ids[n]] for n in range(6)})

    def run(vectors: Any, price: float) -> None:
        columns = Columns.of(["b"] * 6, [["c"]] * 6, [price] * 6, {})
        things = Shop(known.items, np.asarray(vectors, np.float32), columns, "enc@0123456789ab")
        options = TrainingOptions(out=tmp_path, steps=1, batch_size=4, track="none")
        train_personal(from_histories(known, things), PersonalOptions(), options)

    run(np.eye(6), 1.0)
    run(np.eye(6), 1.0)
    for vectors, price in ((np.eye(6)[::-1], 1.0), (np.eye(6), 2.0)):
        with pytest.raises(InvalidInput, match="holds a run with data 'histories "):
            run(vectors, price)


def test_a_click_on_what_its_user_blocks_by_the_end_of_a_part_is_none() -> None:
    given = data()
    # Of 4 and 0 the second is clicked, and 5 below them.
    shown = [row for user in "uvw" for row in recommended(user, user, 5 * DAY, "train")]
    third = {"item_id": "5", "position": 3, "clicked": True, "propensity": 0.5}
    shown += [row | third for row in shown if row["position"] == 1]
    blocked = [
        {"user_id": user, "item_id": "0", "split": part}
        for user, part in (("u", "train"), ("v", "dev"), ("", "train"))
    ]
    given = replace(
        given,
        impressions=pa.Table.from_pylist(shown, IMPRESSIONS),
        blocked=pa.Table.from_pylist(blocked, BLOCKED),
    )
    found = from_dataset(given, shop(given), lambda texts: np.zeros((len(texts), 6), np.float32))
    gains = {one.history.user: one.gains.tolist() for one in found.train.visits}
    # v blocks it when the part is over.
    assert gains == {"u": [0.0, 0.0, 2.0], "v": [0.0, 2.0, 2.0], "w": [0.0, 2.0, 2.0]}


def held_for_test() -> Dataset:
    """The same, whose dev part is its test part."""
    kept = data()
    later = {"split": "test"}
    tables = {}
    for name in ("queries", "sequences", "impressions", "examples"):
        table = getattr(kept, name)
        rows = [row | (later if row["split"] == "dev" else {}) for row in table.to_pylist()]
        tables[name] = pa.Table.from_pylist(rows, table.schema)
    split = Split(train_until=iso(TRAIN_UNTIL), dev_until=iso(TRAIN_UNTIL))
    description = kept.description.model_copy(update={"split": split})
    return replace(kept, description=description, **tables)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One tiny encoder, in service."""
    found = Registry(str(tmp_path / "models"))
    found.publish(tiny_bundle(tmp_path / "tiny", "encoder", name="shop"))
    return found


def command(registry: Registry, tmp_path: Path, *arguments: str | Path) -> Any:
    environment = {
        "NEURALRANK_REGISTRY": registry.url,
        "NEURALRANK_HOME": str(tmp_path / "home"),
        "COLUMNS": "200",
    }
    return CliRunner().invoke(app, ["train", "personal", *map(str, arguments)], env=environment)


def test_pages_and_histories_are_read_without_what_came_later() -> None:
    dataset = data()
    columns = Columns.of([""] * 6, [[]] * 6, [1.0] * 6, {})
    things = Shop(tuple(map(str, range(6))), np.eye(6, dtype=np.float32), columns, "e@0")
    asked: list[str] = []

    def encode(texts: Any) -> Any:
        asked.extend(texts)
        return np.ones((len(texts), 6), np.float32)

    found = from_dataset(dataset, things, encode)
    assert asked == ["kettle", "laptop"]
    # A page without a click teaches nothing of what is clicked.
    assert len(found.train.visits) == 2
    mine, nobodys = found.train.visits
    # The step of the page's own moment is what it led to, and not known before it.
    assert mine.history.items.tolist() == [0]
    assert [ACTIONS[n] for n in mine.history.actions] == ["view"]
    assert len(nobodys.history) == 0
    # A click counts by how rarely its place is looked at, ten times at most.
    assert mine.gains.tolist() == [0.0, 4.0, 0.0, 0.0]
    assert nobodys.gains.tolist() == [0.0, 0.0, 0.0, 10.0]
    assert mine.retrieval.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert [h.items.tolist() for h in found.train.histories] == [[0, 1, 4], [2, 3]]
    assert not found.train.single
    rows = dataset.sequences.to_pylist()
    rows.append(
        {"user_id": "w", "items": ["4"], "actions": ["view"], "times": [DAY], "split": "train"}
    )
    one = replace(dataset, sequences=pa.Table.from_pylist(rows, SEQUENCES))
    assert [h.user for h in from_dataset(one, things, encode).train.single] == ["w"]
    (later,) = found.dev.visits
    assert later.history.items.tolist() == [2, 3]
    assert [h.items.tolist() for h in found.dev.histories] == [[2, 3, 5]]
    assert {h.first for h in found.train.histories} == {1}
    assert {h.given for h in found.train.histories} == {0}
    # Of a window, only what was done in it is to be guessed; who did nothing in it is remembered.
    window = Window.model_validate({"from": iso(3 * DAY), "until": iso(20 * DAY)})
    description = dataset.description.model_copy(update={"window": window})
    found = from_dataset(replace(dataset, description=description), things, encode)
    assert [h.first for h in found.train.histories] == [1, 1]
    assert [h.given for h in found.train.histories] == [1, 2]
    window = Window.model_validate({"from": iso(5 * DAY + 1), "until": iso(20 * DAY)})
    description = dataset.description.model_copy(update={"window": window})
    found = from_dataset(replace(dataset, description=description), things, encode)
    assert [h.first for h in found.train.histories] == [2, 1]
    assert [h.given for h in found.train.histories] == [2, 2]


def test_a_dataset_becomes_a_bundle_of_the_registry(registry: Registry, tmp_path: Path) -> None:
    data().write(tmp_path / "data")
    given = [tmp_path / "data", "--out", tmp_path / "run", *TRAINING]
    done = command(registry, tmp_path, *given, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["examples"] == {
        "train visits": 2, "train histories": 2, "dev visits": 1, "dev histories": 1,
    }  # fmt: skip
    assert report["floor"]["lists"] == 2
    assert set(report["best"]) == {"nDCG@10", "nDCG@10 search", "nDCG@10 recommendation"}
    assert report["export"]["onnx difference"] < 1e-3
    bundle = registry.get("personal-ranker")
    assert bundle.ref == report["ref"]
    assert bundle.manifest.personal is not None
    assert bundle.manifest.personal.encoder == registry.resolve("shop")
    assert PersonalRanker.load(bundle).encoder == registry.resolve("shop")
    # The same command again finds all done, and says so in words.
    again = command(registry, tmp_path, *given)
    assert again.exit_code == 0, again.output
    assert "2 pages with a click, 2 users" in again.stdout
    assert f"in service                  {bundle.ref}" in again.stdout  # the first of its name


def test_histories_become_a_bundle_too(registry: Registry, tmp_path: Path) -> None:
    rows = [orjson.dumps({"id": str(n), "title": title}) for n, title in enumerate(THINGS)]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(rows))
    users = "\n".join(f"u{n}\t{n % 3} {n % 3 + 3} {n % 2}" for n in range(12))
    # What is not sold any more is left out.
    (tmp_path / "h.tsv").write_text(f"{users}\nold\tdelisted\n")
    done = command(
        registry, tmp_path, "--histories", tmp_path / "h.tsv", "--catalogue", tmp_path / "c.jsonl",
        "--out", tmp_path / "run", "--no-publish", "--id-events", "3", *TRAINING,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "0 pages with a click, 12 users" in done.stdout
    assert "1 of 37 items are not in the catalogue, and left out" in done.stderr
    assert [ref for ref in registry.refs() if ref.startswith("personal")] == []
    assert (tmp_path / "run" / "bundle" / "items.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], InvalidSettings, "Give a DATASET, or --histories with --catalogue"),
        (["--histories", "h.tsv"], InvalidSettings, "Give a DATASET"),
        (["no-folder"], NotFound, "There is no dataset in no-folder"),
        (["no-folder", "--encoder", "nothing"], NotFound, "No bundle 'nothing'"),
        (["no-folder", "--width", "1"], InvalidSettings, "--width is 1"),
    ],
)
def test_what_can_not_be_used_is_said(
    registry: Registry, tmp_path: Path, arguments: list[str], error: type[Exception], words: str
) -> None:
    done = command(registry, tmp_path, *arguments, "--out", tmp_path / "run")
    assert isinstance(done.exception, error), done.output
    assert words in str(done.exception)


def test_a_registry_without_encoder_is_said(tmp_path: Path) -> None:
    empty = Registry(str(tmp_path / "none"))
    done = command(empty, tmp_path, "data", "--out", tmp_path / "run")
    assert isinstance(done.exception, NotFound)
    assert "No encoder is in the registry" in str(done.exception)
    empty.publish(tiny_bundle(tmp_path / "cross", "cross_encoder", name="reads"))
    done = command(empty, tmp_path, "data", "--out", tmp_path / "run", "--encoder", "reads")
    assert isinstance(done.exception, InvalidInput)
    assert "allowed is encoder" in str(done.exception)


def test_a_later_bundle_must_be_better_at_what_users_chose(
    registry: Registry, tmp_path: Path
) -> None:
    held_for_test().write(tmp_path / "test")
    data().write(tmp_path / "data")
    made = []
    for seed, steps in ((0, 1), (1, 40)):
        options = ["--steps", str(steps), "--seed", str(seed), "--every-steps", "40"]
        where = ["--out", tmp_path / f"run-{seed}", "--track", "none", "--json"]
        done = command(registry, tmp_path, tmp_path / "data", *where, *options)
        assert done.exit_code == 0, done.output
        made.append(json.loads(done.stdout)["ref"])
    assert registry.resolve("personal-ranker") == made[0]
    environment = {"NEURALRANK_REGISTRY": registry.url, "NEURALRANK_HOME": str(tmp_path / "home")}

    def promote(*arguments: str) -> Any:
        given = ["models", "promote", made[1], "--dataset", str(tmp_path / "test"), *arguments]
        return CliRunner().invoke(app, given, env=environment)

    refused = promote("--min-gain", "1")
    assert refused.exit_code == 3, refused.output
    found = registry.candidate(made[1])
    assert found is not None
    assert found.outcome == "refused"
    of = (
        "2 lists: 1 of clicks after a search, too few to be compared alone; 1 of what users did "
        "next, too few to be compared alone"
    )
    assert f"nDCG@10 of what users chose ({of}): " in found.reason
    skipped = (
        "Not looked at, with fewer than 10 each: nDCG@10 of clicks after a search (1), nDCG@10 of "
        "what users did next (1)."
    )
    assert skipped in refused.stderr
    assert registry.resolve("personal-ranker") == made[0]
    check = found.checks[0]
    assert check.candidate is not None
    assert check.serving is not None
    # What was kept back earlier counts too, however good it is now.
    kept = Dataset.open(tmp_path / "test")
    found = gate.measured(
        registry, made[1], kept, "data", Rules(min_size=2), tmp_path / "home", kept
    )
    forgot = {check.name: check for check in found.checks}[FORGOTTEN]
    assert (forgot.candidate, forgot.serving) == (check.candidate, check.serving)
    assert "(2 lists)" in forgot.words
    assert "anything may be" not in forgot.words
    few = gate.measured(registry, made[1], kept, "data", Rules(), tmp_path / "home", kept)
    assert few.checks[-1].words.endswith("Of fewer than 10 anything may be.")
    accepted = promote()
    better = check.candidate > check.serving
    assert (accepted.exit_code == 0) == better, accepted.output
    assert registry.resolve("personal-ranker") == made[better]


def test_a_head_of_too_few_lists_is_named_and_does_not_decide() -> None:
    """It was left out without a word, even where the test part had none of its lists."""
    many, few = [0.5] * 12, [0.9] * 3
    serving = {"search": many, "recommendation": few}
    candidate = {"search": [0.6] * 12, "recommendation": [0.8] * 3}
    chosen, search, left = gate.checks(candidate, serving, Rules())
    assert chosen.on == (
        "15 lists: 12 of clicks after a search; 3 of what users did next, too few to be compared "
        "alone"
    )
    checks = (chosen, search, left)
    found = Candidate().compared_with("name@hash", checks, "data", datetime.now(UTC))
    assert found.outcome == "passed"
    assert found.reason.startswith(f"It is better: passed on {chosen.on}, p ")
    assert (search.name, search.passed) == ("nDCG@10 of clicks after a search", True)
    assert (left.name, left.passed) == (TOO_SMALL, True)
    assert left.words == (
        "Not looked at, with fewer than 10 each: nDCG@10 of what users did next (3)."
    )
    *_, none = gate.checks({"search": many}, {"search": many}, Rules())
    assert none.words.endswith(": nDCG@10 of what users did next (0).")
    # Of enough lists, it decides.
    *_, following = gate.checks(candidate, serving, Rules(min_size=3))
    assert (following.name, following.passed) == ("nDCG@10 of what users did next", False)


def test_a_first_one_that_is_worse_than_nearness_does_not_serve(
    registry: Registry, tmp_path: Path
) -> None:
    """Who has one of two twins goes on to the other, each user of another pair: nothing can be
    better than near, and nobody else did the same."""
    letters = "abcdefghijkl"
    rows = [
        orjson.dumps({"id": f"{letter}{twin}", "title": 6 * letter})
        for letter in letters
        for twin in (1, 2)
    ]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(rows))
    users = "\n".join(f"u{n}\t{letter}1 {letter}2" for n, letter in enumerate(letters))
    (tmp_path / "h.tsv").write_text(users)
    done = command(
        registry, tmp_path, "--histories", tmp_path / "h.tsv", "--catalogue", tmp_path / "c.jsonl",
        "--out", tmp_path / "run", "--steps", "1", "--learning-rate", "1e-9", "--track", "none",
        "--seed", "1", "--json",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["floor"]["nearness"] >= report["floor"]["ranker"]
    assert done.exit_code == 3
    assert report["published"] is False
    assert "is not published" in done.stderr
    assert not registry.published("personal-ranker")
    added = CliRunner().invoke(
        app,
        ["models", "add", str(tmp_path / "run" / "bundle")],
        env={"NEURALRANK_REGISTRY": registry.url},
    )
    assert added.exit_code == 0, added.output
    assert registry.resolve("personal-ranker") == report["ref"]

"""The folder that every training reads: what it refuses, and that it comes back as it was."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, NotFound
from trainer.dataset import (
    BLOCKED,
    EXAMPLES,
    IMPRESSIONS,
    ITEMS,
    QUERIES,
    SEQUENCES,
    Dataset,
    Description,
    Labels,
    Split,
)
from trainer.dataset.format import replaceable

DAY = 86_400_000
# train: day 0 to 2, dev: day 2, test: from day 3.
SPLIT = Split(train_until="1970-01-03T00:00:00Z", dev_until="1970-01-04T00:00:00Z")


def item(name: str) -> dict[str, Any]:
    words = {"title": f"水壶 {name}", "text": name, "brand": "", "category": "", "language": "zh"}
    return {"item_id": name, "price": None, **words}


def query(name: str, split: str, text: str = "") -> dict[str, Any]:
    words = {"text": text or f"query {name}", "language": "en", "segment": "head"}
    return {"query_id": name, "split": split, **words}


def example(name: str, split: str, label: float = 1.0, weight: float = 1.0) -> dict[str, Any]:
    row = {"query_id": name, "item_id": "a", "label": label, "weight": weight, "split": split}
    return row | {"source": "click", "negative": ""}


def shown(name: str, split: str, day: float, **changes: Any) -> dict[str, Any]:
    row = {"query_id": name, "user_id": "u", "time": int(day * DAY), "page_id": "p", "split": split}
    return row | {"item_id": "a", "position": 1, "clicked": True, "propensity": 0.5} | changes


def sequence(split: str, *days: float, user: str = "u", items: str = "") -> dict[str, Any]:
    times = [int(day * DAY) for day in days]
    names = list(items or "ab" * len(days))[: len(days)]
    actions = ["click"] * len(days)
    return {"user_id": user, "items": names, "actions": actions, "times": times, "split": split}


def dataset(**changes: list[dict[str, Any]]) -> Dataset:
    tables = {
        "items": [item("a"), item("b")],
        "queries": [query("q1", "train"), query("q2", "dev"), query("q3", "test")],
        "examples": [example("q1", "train"), example("q3", "test", 0.0)],
        "sequences": [sequence("train", 0, 1), sequence("test", 0, 1, 3.5)],
        "impressions": [shown("q1", "train", 1), shown("q2", "dev", 2), shown("q3", "test", 3)],
    } | changes
    schemas = (ITEMS, QUERIES, EXAMPLES, SEQUENCES, IMPRESSIONS)
    made = {
        name: pa.Table.from_pylist(rows, schema)
        for (name, rows), schema in zip(tables.items(), schemas, strict=True)
    }
    return Dataset(
        Description(source="a test", created="1970-01-05T00:00:00Z", split=SPLIT), **made
    )


def test_it_comes_back_as_it_was_and_replaces_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    dataset(sequences=[]).write(folder)
    made = dataset()
    made.write(folder)
    found = Dataset.open(folder)
    assert found == made
    assert found.of("queries", "dev")["query_id"].to_pylist() == ["q2"]
    assert found.texts() == {"a": "a", "b": "b"}
    assert found.query_texts()["q3"] == "query q3"
    assert [path.name for path in folder.parent.iterdir()] == ["data"]


def test_one_of_before_says_nothing_of_what_is_blocked(tmp_path: Path) -> None:
    row = {"user_id": "u", "item_id": "a", "split": "train"}
    made = replace(dataset(), blocked=pa.Table.from_pylist([row], BLOCKED))
    made.write(tmp_path)
    assert Dataset.open(tmp_path) == made
    (tmp_path / "blocked.parquet").unlink()
    assert Dataset.open(tmp_path) == dataset()


def test_an_empty_one_is_a_dataset(tmp_path: Path) -> None:
    Dataset(Description(source="nothing", created="")).write(tmp_path)
    assert Dataset.open(tmp_path).examples.num_rows == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"examples": [example("q1", "train", 1.5)]}, "label is 1.5 in 1 rows, outside the scale"),
        ({"examples": [example("q1", "train", float("nan"))]}, "label is nan"),
        ({"examples": [example("q1", "train", 1.0, 0.0)]}, "weight is 0.0"),
        ({"examples": [example("q9", "train")]}, "unknown ids, 'q9'"),
        ({"examples": [example("q1", "train") | {"item_id": "z"}]}, "unknown ids, 'z'"),
        ({"examples": [example("q1", "train") | {"negative": "x"}]}, "negative is 'x'"),
        ({"examples": [example("q1", "valid")]}, "split is 'valid'"),
        ({"impressions": [shown("q1", "train", 1, propensity=1.01)]}, "propensity is 1.0"),
        ({"impressions": [shown("q1", "train", 1, position=0)]}, "position is 0"),
        ({"impressions": [shown("q1", "train", 1, item_id="z")]}, "unknown ids, 'z'"),
        ({"sequences": [sequence("train", 0, items="z")]}, "unknown ids, 'z'"),
        ({"sequences": [sequence("train")]}, "is empty"),
        ({"sequences": [sequence("train", 0, 1) | {"times": [0]}]}, "of different lengths"),
        ({"sequences": [sequence("train", 1, 0)]}, "goes back in time"),
        ({"items": [item("a"), item("a"), item("b")]}, "'a' comes more than once"),
        ({"queries": [query("q1", "train"), query("q1", "train")]}, "'q1' comes more than once"),
    ],
)
def test_what_breaks_the_format_is_refused(
    tmp_path: Path, changes: dict[str, list[dict[str, Any]]], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        dataset(**changes).write(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def with_query(text: str) -> list[dict[str, Any]]:
    return [*dataset().queries.to_pylist(), query("q4", "test", text)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        # The same words under another id, in another case and width.
        ({"queries": with_query("Ｑuery  Q1")}, "'Ｑuery  Q1' is in train and in test"),
        ({"examples": [example("q3", "train")]}, "'q3' is in test, its row in train"),
        ({"impressions": [shown("q1", "test", 3)]}, "'q1' is in train, its row in test"),
        ({"impressions": [shown("q1", "train", 2)]}, "are in train and of another time"),
        ({"impressions": [shown("q3", "test", 2.9)]}, "are in test and of another time"),
        ({"sequences": [sequence("train", 1, 2.5)]}, "are in train and of another time"),
        ({"sequences": [sequence("dev", 1, 1.5)]}, "are in dev and of another time"),
    ],
)
def test_what_leaks_is_refused(
    tmp_path: Path, changes: dict[str, list[dict[str, Any]]], says: str
) -> None:
    with pytest.raises(InvalidInput, match="The dataset leaks") as caught:
        dataset(**changes).write(tmp_path / "data")
    assert says in str(caught.value)


def test_a_users_target_in_train_is_refused_without_times_too() -> None:
    """Parts that are not split by time: the last item of each user is left out."""
    made = dataset(sequences=[sequence("train", 0, 1), sequence("test", 0, 1)])
    whole = Dataset(
        Description(source="leave last out", created=""), made.items, sequences=made.sequences
    )
    with pytest.raises(InvalidInput, match="to be guessed of user 'u' in test, 'b', is in a train"):
        whole.check()


def test_other_scales_are_checked_against_themselves() -> None:
    made = dataset(examples=[example("q1", "train", 3.0)])
    wide = Description(source="", created="", labels=Labels(min=0, max=3), split=SPLIT)
    Dataset(wide, made.items, made.queries, made.examples).check()


def spoil_json(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"format": 2}')


def spoil_table(folder: Path) -> None:
    (folder / "items.parquet").write_bytes(b"no parquet")


def lose_table(folder: Path) -> None:
    (folder / "examples.parquet").unlink()


def other_columns(folder: Path) -> None:
    pq.write_table(pa.table({"query": ["q"]}), folder / "queries.parquet")


def leak(folder: Path) -> None:
    pq.write_table(dataset(examples=[example("q3", "train")]).examples, folder / "examples.parquet")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_json, "dataset.json: format: got 2"),
        (spoil_table, "items.parquet is not Parquet"),
        (lose_table, "examples.parquet is missing"),
        (other_columns, "the format has query_id"),
        (leak, "The dataset leaks"),
    ],
)
def test_a_folder_that_others_spoiled_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "data"
    dataset().write(folder)
    spoil(folder)
    with pytest.raises(InvalidInput) as caught:
        Dataset.open(folder)
    assert says in str(caught.value)


def test_what_was_there_stays_where_the_new_can_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    dataset().write(folder)
    replace_ = os.replace

    def busy(source: Path, target: Path) -> None:
        if target == folder and not source.name.endswith(".old"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        replace_(source, target)

    monkeypatch.setattr("neuralrank.files.whole.os.replace", busy)
    with pytest.raises(InvalidInput, match=r"busy\. What was there is as it was"):
        dataset(sequences=[]).write(folder)
    assert Dataset.open(folder).sequences.num_rows == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_where_a_volume_is_mounted_no_dataset_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    for write in (replaceable, dataset().write):
        with pytest.raises(InvalidInput, match=f"volume is mounted.*{tmp_path / 'data'}"):
            write(tmp_path)
    # Said before the catalogue is read.
    arguments = ["train", "dataset", "--logs", "none", "--catalogue", "none", "--out", tmp_path]
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    assert "volume is mounted" in str(done.exception)
    dataset().write(tmp_path / "data")


def test_no_folder_and_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="neuralrank train dataset"):
        Dataset.open(tmp_path / "none")
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InvalidInput, match="something that is no dataset"):
        dataset().write(tmp_path)
    assert (tmp_path / "letters.txt").read_text() == "dear"

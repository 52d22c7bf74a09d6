"""What is remembered: of bounded size, of every time alike, and of nothing that measures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuralrank.errors import NotFound
from tests.unit.trainer.evaluation.shop import dataset
from trainer.dataset import Dataset, Window
from trainer.update.memory import Memory, remembered


def asked(*names: str, part: str = "train", label: float = 1.0, items: int = 2) -> Dataset:
    """A dataset with a query of each name, each with labelled items."""
    found = dataset()
    queries: list[dict[str, Any]] = [
        {"query_id": n, "text": f"text {n}", "language": "en", "split": part, "segment": ""}
        for n in names
    ]
    examples = [
        {
            "query_id": n,
            "item_id": item,
            "label": label if place == 0 else 0.0,
            "weight": 1.0,
            "source": "click",
            "negative": "",
            "split": part,
        }
        for n in names
        for place, item in enumerate(found.items["item_id"].to_pylist()[:items])
    ]
    return dataset(queries=queries, examples=examples, impressions=[], sequences=[])


def joined(*parts: Dataset) -> Dataset:
    rows = {
        name: [row for part in parts for row in getattr(part, name).to_pylist()]
        for name in ("queries", "examples")
    }
    return dataset(impressions=[], sequences=[], **rows)


def names(data: Dataset | None, part: str) -> set[str]:
    assert data is not None
    found = set(data.of("queries", part)["query_id"].to_pylist())
    assert found == set(data.of("examples", part)["query_id"].to_pylist())
    return found


def test_all_is_remembered_while_there_is_room() -> None:
    memory = Memory().after(joined(asked("a", "b"), asked("t", part="test")), 10)
    assert names(memory.replay, "train") == {"a", "b"}
    assert names(memory.old, "test") == {"t"}
    memory.replay.check()  # type: ignore[union-attr]
    again = memory.after(joined(asked("c"), asked("u", part="test")), 10)
    assert names(again.replay, "train") == {"a", "b", "c"}
    assert names(again.old, "test") == {"t", "u"}
    assert len(again.trained) == 3
    assert set(again.replay.items["item_id"].to_pylist()) == {"phone-1", "phone-2"}  # type: ignore[union-attr]


def test_it_never_grows_beyond_its_size_and_every_time_is_in_it() -> None:
    memory = Memory()
    for day in range(20):
        memory = memory.after(asked(*(f"{day}-{n}" for n in range(20))), 100)
    kept = names(memory.replay, "train")
    assert len(kept) == 100
    assert len(memory.trained) == 400
    by_day = [sum(name.startswith(f"{day}-") for name in kept) for day in range(20)]
    # Each of 400 is there with probability 1/4: 5 a day, by chance between 0 and 13.
    assert sum(by_day[:10]) == pytest.approx(50, abs=20)
    assert min(by_day) >= 1
    assert max(by_day) <= 13


def test_of_a_query_that_comes_again_the_new_examples_count() -> None:
    first = remembered(None, asked("a", label=0.2), "train", 10)
    again = remembered(first, asked("a", label=0.9), "train", 10)
    assert again.examples["label"].to_pylist() == pytest.approx([0.9, 0.0])


def test_remembered_examples_are_the_share_that_is_asked_for() -> None:
    memory = Memory().after(asked(*(f"old-{n}" for n in range(50))), 100)
    new = asked(*(f"new-{n}" for n in range(10)))
    for share, expected in ((0.5, 10), (0.2, 3), (0.0, 0)):
        found = memory.mixed(new, share)
        found.check()
        replayed = {name for name in names(found, "train") if name.startswith("old-")}
        assert len(replayed) == expected
        assert len(names(found, "train")) == 10 + expected


def of_window(data: Dataset, since: str) -> Dataset:
    described = data.description.model_copy(update={"window": Window(since=since)})
    return replace(data, description=described)


def test_in_time_all_of_the_memory_is_replayed() -> None:
    memory = Memory().after(asked(*(f"old-{n}" for n in range(50))), 100)
    new = asked(*(f"new-{n}" for n in range(10)))
    drawn = [
        frozenset(names(memory.mixed(of_window(new, f"2026-01-{day:02}"), 0.5), "train"))
        for day in range(1, 31)
    ]
    # Each of 50 is left out 30 times with probability (4/5)^30 = 0.1 %.
    assert len(frozenset[str]().union(*drawn)) >= 10 + 48
    # A round that goes on draws the same.
    again = memory.mixed(of_window(new, "2026-01-01"), 0.5)
    assert names(again, "train") == drawn[0]


def test_what_judgments_measure_with_is_never_trained_on() -> None:
    memory = Memory().after(joined(asked("a", "b"), asked("t", part="test")), 10)
    memory = replace(memory, judged=frozenset({"text a", "text j", "text k"}))
    new = joined(asked("c", "j"), asked("d", "k", part="dev"), asked("v", part="test"))
    found = memory.mixed(new, 0.9)
    assert names(found, "train") == {"b", "c"}
    assert names(found, "dev") == {"d"}
    assert names(found, "test") == {"v"}


def test_what_was_trained_on_measures_nothing_and_what_measures_is_not_trained_on() -> None:
    memory = Memory().after(joined(asked("a", "b"), asked("t", part="test")), 10)
    new = joined(asked("t", "c"), asked("a", "v", part="test"), asked("b", "d", part="dev"))
    found = memory.mixed(new, 0.9)
    found.check()
    assert names(found, "test") == {"v"}
    assert names(found, "dev") == {"d"}
    # c is new; a and b were kept back by mistake and are in no part; t measures.
    assert names(found, "train") == {"c"}


def test_it_comes_back_from_disk(tmp_path: Any) -> None:
    memory = Memory().after(joined(asked("a"), asked("t", part="test")), 10)
    memory.write(tmp_path)
    found = Memory.open(tmp_path)
    assert found.trained == memory.trained
    assert names(found.replay, "train") == {"a"}
    assert names(found.old, "test") == {"t"}


def test_what_is_gone_says_how_to_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="another --out folder"):
        Memory.open(tmp_path)

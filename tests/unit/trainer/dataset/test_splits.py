"""Which part a query is in."""

import pytest

from neuralrank.errors import InvalidInput
from trainer.dataset.splits import Shares, Times, by_hash, by_time, place, segments, times_of


def test_shares_of_time_and_moments_that_are_shared() -> None:
    times = times_of([0, 1, 2, 3, 4, 5, 6, 7, 8, 8], Shares(0.2, 0.2))
    assert (times.train_until, times.dev_until) == (6, 8)
    assert [times.part(at) for at in (5, 6, 7, 8)] == ["train", "dev", "dev", "test"]
    nothing_kept_back = times_of([0, 1, 2], Shares(0, 0))
    assert nothing_kept_back.part(2) == "train"
    given = times_of([0], Shares(), "2026-01-01", "2026-01-02")
    assert given.split().train_until == "2026-01-01T00:00:00+00:00"
    with pytest.raises(InvalidInput, match="the first must not be after the second"):
        times_of([0], Shares(), "2026-01-02", "2026-01-01")
    with pytest.raises(InvalidInput, match="together below 1"):
        Shares(0.5, 0.5)


def test_a_query_is_where_it_came_first_and_some_are_kept() -> None:
    shares = Shares(dev=0.1, test=0.1)
    everywhere = {f"q{n}": ["train", "dev", "test"] for n in range(1_000)}
    found = by_time(everywhere, shares)
    # Logs and judgments keep the same ones, and so does the next dataset.
    assert found == by_hash(everywhere, shares)
    assert 70 < list(found.values()).count("test") < 130
    assert 70 < list(found.values()).count("dev") < 130
    late = by_time({key: ["dev", "test"] for key in everywhere}, shares)
    assert {late[key] for key, part in found.items() if part == "train"} == {"dev"}
    assert {late[key] for key, part in found.items() if part == "test"} == {"test"}
    # What is kept for test and came before only is in no part.
    early = by_time({key: ["train"] for key in everywhere}, shares)
    assert set(early) == {key for key, part in found.items() if part == "train"}


def test_hashes_make_parts_that_last() -> None:
    keys = [f"水壶 {n}" for n in range(2_000)]
    found = by_hash(keys, Shares(0.1, 0.2))
    sizes = {part: list(found.values()).count(part) for part in ("train", "dev", "test")}
    assert sizes["train"] == pytest.approx(1_400, abs=60)
    assert sizes["dev"] == pytest.approx(200, abs=40)
    more = by_hash([*keys, *(f"kettle {n}" for n in range(2_000))], Shares(0.1, 0.2))
    assert {key: more[key] for key in keys} == found
    assert by_hash(keys, Shares(0.1, 0.2), salt=1) != found


@pytest.mark.parametrize("salt", range(20))
def test_few_queries_have_all_parts_too(salt: int) -> None:
    assert set(by_hash(list("abcdefghij"), Shares(0.1, 0.1), salt).values()) == {
        "train",
        "dev",
        "test",
    }
    assert by_hash(["a"], Shares(0.1, 0.1), salt) == {"a": "train"} or place("a", salt) < 0.2


def test_thirds_of_the_traffic() -> None:
    assert segments({"a": 50, "b": 30, "c": 20, "d": 1}) == {
        "a": "head", "b": "torso", "c": "tail", "d": "tail",
    }  # fmt: skip


def test_times_have_parts() -> None:
    assert Times(10, 20).part(9) == "train"

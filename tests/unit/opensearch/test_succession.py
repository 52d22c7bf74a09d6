"""An index that refuses writes while another is made of it, without a cluster."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NeuralrankError, NotFound, Overloaded, Unavailable
from neuralrank.opensearch.succession import lift_left_over, read_only

INDEX = "shop-20260101000000-00"


class Index:
    """One index, whether writes that were under way are done, and what fails next."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.mappings: dict[str, Any] = {
            "_meta": {"team": "a", "neuralrank": {"state": "complete"}}
        }
        self.indices = self
        self.drained = False
        self.acknowledges = True
        # Raised by the next calls that set something.
        self.failing: list[BaseException] = []
        self.slept: list[float] = []

    def get(self, index: str, **_: Any) -> dict[str, Any]:
        if self.settings.get("deleted"):
            raise NotFound(f"no {index}.")
        return {index: {"settings": self.settings, "mappings": self.mappings}}

    get_mapping = get

    def put_mapping(self, index: str, body: dict[str, Any]) -> None:
        assert index == INDEX
        self.mappings |= body

    def put_settings(self, index: str, body: dict[str, Any]) -> None:
        assert index == INDEX
        if self.failing:
            raise self.failing.pop()
        self.settings |= body
        self.settings = {name: value for name, value in self.settings.items() if value is not None}

    def add_block(self, index: str, block: str) -> dict[str, Any]:
        self.put_settings(index, {f"index.blocks.{block}": "true"})
        self.drained = self.acknowledges
        return {"acknowledged": True, "shards_acknowledged": self.drained, "indices": []}

    @property
    def blocked(self) -> bool:
        return self.settings.get("index.blocks.write") == "true"

    @property
    def client(self) -> OpenSearch:
        return cast(OpenSearch, self)

    def held(self) -> AbstractContextManager[Callable[[], None]]:
        return read_only(self.client, INDEX, self.slept.append)

    def as_it_was(self) -> bool:
        return not self.blocked and self.mappings == Index().mappings


@pytest.fixture
def index() -> Index:
    return Index()


def test_writes_under_way_are_done_before_anything_is_read(index: Index) -> None:
    with index.held() as check:
        assert index.blocked
        assert index.drained
        check()
    assert index.as_it_was()


def test_where_writes_may_be_under_way_nothing_is_read(index: Index) -> None:
    index.acknowledges = False
    with pytest.raises(Unavailable, match=f"{INDEX} still has writes"), index.held():
        pytest.fail("read while writes were under way")
    assert index.as_it_was()


def test_a_block_that_somebody_set_stays(index: Index) -> None:
    index.settings["index.blocks.write"] = "true"
    assert not lift_left_over(index.client, INDEX)
    with index.held() as check:
        assert index.blocked
        check()
    assert index.blocked


def test_a_block_that_a_killed_run_left_is_not_taken_for_somebodys(index: Index) -> None:
    with index.held():
        left = copy.deepcopy((index.settings, index.mappings))
    index.settings, index.mappings = copy.deepcopy(left)
    (said,) = lift_left_over(index.client, INDEX)
    assert said.startswith(f"{INDEX} refused writes")
    assert index.as_it_was()
    assert not lift_left_over(index.client, INDEX)
    index.settings, index.mappings = copy.deepcopy(left)
    index.drained = False
    with index.held():
        assert index.drained
        assert index.mappings != left[1]
    assert index.as_it_was()


def test_a_block_whose_note_was_written_over_is_taken_off(index: Index) -> None:
    with index.held() as check:
        index.mappings = Index().mappings
        with pytest.raises(Unavailable):
            check()
    assert index.as_it_was()


def test_a_run_whose_block_was_taken_off_does_not_switch_and_leaves_the_others(
    index: Index,
) -> None:
    with index.held() as check:
        lift_left_over(index.client, INDEX)
        with pytest.raises(Unavailable, match="may have been written to meanwhile"):
            check()
        other = index.held()
        other.__enter__()
    assert index.blocked
    other.__exit__(None, None, None)
    assert index.as_it_was()


def test_writes_are_let_in_again_when_it_is_interrupted(index: Index) -> None:
    with pytest.raises(KeyboardInterrupt), index.held():
        raise KeyboardInterrupt
    assert index.as_it_was()


def test_a_block_whose_answer_did_not_come_is_waited_for_and_taken_off(index: Index) -> None:
    index.failing = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt), index.held():
        pytest.fail("went on after an interruption")
    assert index.drained
    assert index.as_it_was()


def test_an_opensearch_that_is_away_for_a_moment_lets_writes_in_afterwards(index: Index) -> None:
    with index.held():
        index.failing = [Unavailable("away."), Overloaded("busy.")]
    assert index.as_it_was()
    assert index.slept == [1.0, 2.0]


@pytest.mark.parametrize("why", [None, InvalidInput("a document."), KeyboardInterrupt("Stopped.")])
def test_where_writes_can_not_be_let_in_it_is_said_with_what_to_do(
    index: Index, why: BaseException | None
) -> None:
    def work() -> None:
        index.failing = [Unavailable("away.") for _ in range(9)]
        if why:
            raise why

    with pytest.raises((NeuralrankError, KeyboardInterrupt)) as raised, index.held():
        work()
    said = str(raised.value)
    assert f'PUT {INDEX}/_settings {{"index.blocks.write": null}}' in said
    assert "away." in said
    if why:
        assert raised.value is why
        assert said.startswith(("a document. ", "Stopped. "))


def test_an_index_that_is_deleted_meanwhile_needs_nothing(index: Index) -> None:
    with index.held():
        index.settings["deleted"] = "true"

"""An index that refuses writes while another is made of it, without a cluster."""

from typing import Any, cast

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import Unavailable
from neuralrank.succession import read_only

INDEX = "shop-20260101000000-00"


class Index:
    """One index, and whether writes that were under way are done."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.indices = self
        self.drained = False
        self.acknowledges = True

    def get_settings(self, index: str, **_: Any) -> dict[str, Any]:
        return {index: {"settings": self.settings}}

    def put_settings(self, index: str, body: dict[str, Any]) -> None:
        assert index == INDEX
        self.settings |= body
        self.settings = {name: value for name, value in self.settings.items() if value is not None}

    def add_block(self, index: str, block: str) -> dict[str, Any]:
        self.drained = self.acknowledges
        self.put_settings(index, {f"index.blocks.{block}": "true"})
        return {"acknowledged": True, "shards_acknowledged": self.drained, "indices": []}

    @property
    def blocked(self) -> bool:
        return self.settings.get("index.blocks.write") == "true"

    @property
    def client(self) -> OpenSearch:
        return cast(OpenSearch, self)


@pytest.fixture
def index() -> Index:
    return Index()


def test_writes_under_way_are_done_before_anything_is_read(index: Index) -> None:
    with read_only(index.client, INDEX):
        assert index.blocked
        assert index.drained
    assert not index.blocked


def test_where_writes_may_be_under_way_nothing_is_read(index: Index) -> None:
    index.acknowledges = False
    with (
        pytest.raises(Unavailable, match=f"{INDEX} still has writes"),
        read_only(index.client, INDEX),
    ):
        pytest.fail("read while writes were under way")
    assert not index.blocked


def test_a_block_that_somebody_set_stays(index: Index) -> None:
    index.settings["index.blocks.write"] = "true"
    with read_only(index.client, INDEX):
        assert index.blocked
    assert index.blocked

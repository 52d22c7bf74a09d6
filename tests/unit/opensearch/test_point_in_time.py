"""Whoever reads all of an index gets all of it, or an error: against a cluster of two shards, of
which one is away, that answers as OpenSearch does."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.reencoding import _Copy
from neuralrank.errors import NotFound, Unavailable
from neuralrank.judging.judgments import unknown_items
from neuralrank.opensearch.point_in_time import count_all, point_in_time
from neuralrank.ubi.rows import read_rows
from opensearch_config.tuning.bench import Bench
from opensearch_config.tuning.neighbours import Neighbours


class Half:
    """Has one of two documents. `at_first`: both shards are there when a point in time is made."""

    def __init__(self, at_first: bool = False) -> None:
        self.at_first = at_first
        self.points: set[str] = set()
        self.indices = SimpleNamespace(exists=lambda **_: True, refresh=lambda **_: None)

    def create_pit(self, *, params: dict[str, str], **_: Any) -> dict[str, Any]:
        if not self.at_first and params.get("allow_partial_pit_creation") != "false":
            self.points.add("half")
            return {"pit_id": "half"}
        if not self.at_first:
            raise Unavailable("A shard is away.")
        self.points.add("whole")
        return {"pit_id": "whole"}

    def delete_pit(self, body: dict[str, Any]) -> None:
        self.points.difference_update(body["pit_id"])
        raise Unavailable("It can't be deleted either.")

    def search(
        self, *, body: dict[str, Any], params: dict[str, str] | None = None, **_: Any
    ) -> dict[str, Any]:
        whole = (params or {}).get("allow_partial_search_results") == "false"
        if whole and body.get("pit", {}).get("id") != "half":
            raise Unavailable("A shard is away.")
        hit = {"_id": "a", "_version": 1, "_seq_no": 0, "sort": [1, 0], "_source": {"title": "a"}}
        failed = {"total": 2, "successful": 1, "failed": 1}
        return {"_shards": failed, "hits": {"hits": [hit], "total": {"value": 1}}}

    def count(self, **_: Any) -> dict[str, Any]:
        return {"count": 1, "_shards": {"total": 2, "successful": 1, "failed": 1}}


def copy(client: Any) -> list[Any]:
    encoder: Any = SimpleNamespace(dimensions=4)
    target: Any = SimpleNamespace(index="target")
    return list(_Copy(client, "source", target, encoder, 0, None, packed=True)._listed("source"))


def bench(client: Any) -> list[Any]:
    source: Any = SimpleNamespace(index="source")
    return list(Bench(client, "run", source)._batches())


def neighbours(client: Any) -> Any:
    asked: Any = SimpleNamespace(_client=client)
    return Neighbours._ids(asked, "source", {"match_all": {}}, 10)


def pulled(client: Any) -> list[Any]:
    pytest.importorskip("pyarrow")
    from trainer.feedback.reading import Place, Reader

    reader = Reader(client, "ubi_events", 10, (), patience=1.0, sleep=lambda _: None)
    return list(reader.batches(Place(0)))


READERS: dict[str, Callable[[Any], Any]] = {
    "pull": pulled,
    "judgments and experiments": lambda client: list(read_rows(client, "ubi_events", (), ())),
    "unknown items": lambda client: unknown_items(client, "shop", ["a", "b"]),
    "reencode": copy,
    "tune": bench,
    "neighbours": neighbours,
}


@pytest.mark.parametrize("at_first", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_a_shard_that_is_away_makes_no_answer_short(reader: str, at_first: bool) -> None:
    client = Half(at_first)
    with pytest.raises(Unavailable, match=r"A shard is away\."):
        READERS[reader](client)
    assert client.points == set()


def test_a_count_is_of_all_shards() -> None:
    client: Any = Half()
    with pytest.raises(Unavailable, match=r"1 of 2 shards of shop did not answer"):
        count_all(client, "shop", {})


def test_a_point_in_time_ends_with_its_block_and_hides_no_error() -> None:
    client: Any = Half(at_first=True)

    def read() -> None:
        with point_in_time(client, "shop", "1m") as point:
            assert client.points == {point}
            raise NotFound("gone")

    with pytest.raises(NotFound, match="gone"):
        read()
    assert client.points == set()

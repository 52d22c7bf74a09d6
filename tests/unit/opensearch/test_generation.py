"""What becomes of indexes and aliases when a new generation takes its place, without a cluster."""

from typing import Any, cast

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound, Unavailable
from neuralrank.opensearch.generation import (
    Generation,
    Switched,
    check_name,
    create,
    find_unfinished,
)

OLD, LATER = "shop-20260101000000-00", "shop-20260101000001-00"
NEW = "shop-20260102000000-00"
FILLED = Generation("shop", NEW, {}, {})


class Cluster:
    """Holds indexes in memory: their aliases, settings (flat), `_meta.neuralrank` and the ids of
    their documents."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.ids: dict[str, set[str]] = {}
        self.indices = self

    def make(self, index: str, state: str, **aliases: dict[str, Any]) -> str:
        mappings = {"_meta": {"neuralrank": {"state": state}}}
        self.made[index] = {"aliases": aliases, "settings": {}, "mappings": mappings}
        self.ids[index] = set()
        return index

    def serving(self, name: str) -> list[str]:
        return [index for index, body in self.made.items() if name in body["aliases"]]

    def create(self, index: str, body: dict[str, Any]) -> None:
        self.make(index, "building")
        self.made[index] |= {"settings": body["settings"]["index"], "mappings": body["mappings"]}

    def exists(self, index: str) -> bool:
        return index in self.made or self.exists_alias(index)

    def exists_alias(self, name: str) -> bool:
        return bool(self.serving(name))

    def get(self, index: str, **_: Any) -> dict[str, Any]:
        found = {n: body for n, body in self.made.items() if index in (n, *body["aliases"])}
        if not found:
            raise NotFound(f"no {index}.")
        return found

    def get_mapping(self, **_: Any) -> dict[str, Any]:
        return self.made

    def get_alias(self, **_: Any) -> dict[str, Any]:
        return self.made

    def put_mapping(self, index: str, body: dict[str, Any]) -> None:
        self.made[index]["mappings"] |= body

    def put_settings(self, index: str, body: dict[str, Any]) -> None:
        self.made[index]["settings"] |= body.get("index", body)

    def refresh(self, index: str) -> None:
        assert index in self.made

    def count(self, index: str) -> dict[str, int]:
        return {"count": len(self.ids[index])}

    def delete(self, index: str, **_: Any) -> None:
        del self.made[index], self.ids[index]

    def update_aliases(self, body: dict[str, Any]) -> None:
        for action in body["actions"]:
            ((what, options),) = action.items()
            aliases = self.made[options.pop("index")]["aliases"]
            name = options.pop("alias")
            if what == "remove":
                del aliases[name]
            else:
                aliases[name] = options


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def finish(
    cluster: Cluster, keep: int = 1, *, written: int = 2, replaces: str | None = None
) -> Switched:
    """A generation that was to get two documents takes the alias."""
    cluster.make(NEW, "building")
    cluster.ids[NEW] = set(map(str, range(written)))
    return FILLED.finish(cast(OpenSearch, cluster), 2, keep, replaces)


@pytest.mark.parametrize("keep", range(6))
@pytest.mark.parametrize("count", range(6))
def test_so_many_earlier_generations_stay_as_are_to_be_kept(
    cluster: Cluster, keep: int, count: int
) -> None:
    earlier = [cluster.make(f"shop-2026010100000{n}-00", "complete") for n in range(count)]
    if earlier:
        cluster.made[earlier[-1]]["aliases"] = {"shop": {}}
    unfinished = cluster.make("shop-20260101000009-00", "building")
    switched = finish(cluster, keep)
    kept = earlier[max(0, count - keep) :]
    assert sorted(cluster.made) == [*kept, NEW]
    assert set(switched.deleted) == {*earlier, unfinished} - set(kept)


def test_what_served_before_stays_though_a_newer_one_is_there(cluster: Cluster) -> None:
    before = cluster.make(OLD, "complete", shop={})
    never_served = cluster.make(LATER, "complete")
    assert finish(cluster).deleted == (never_served,)
    assert sorted(cluster.made) == [before, NEW]


def test_what_served_before_stays_though_it_could_not_be_noted_as_complete(
    cluster: Cluster,
) -> None:
    before = cluster.make(OLD, "building", shop={})
    assert finish(cluster).deleted == ()
    assert sorted(cluster.made) == [before, NEW]


@pytest.mark.parametrize("keep", [0, 1])
def test_what_another_alias_stands_for_is_in_use_and_stays(cluster: Cluster, keep: int) -> None:
    """Searches of that alias found no index any more."""
    in_use = cluster.make(OLD, "complete", archive={})
    before = cluster.make(LATER, "complete", shop={})
    assert finish(cluster, keep).deleted == (() if keep else (before,))
    assert cluster.serving("archive") == [in_use]


def test_a_later_generation_is_another_runs_and_stays(cluster: Cluster) -> None:
    later = cluster.make("shop-20260103000000-00", "building")
    assert finish(cluster, keep=0).deleted == ()
    assert sorted(cluster.made) == [NEW, later]


@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_index_that_does_not_hold_what_was_written_does_not_serve(
    cluster: Cluster, written: int
) -> None:
    before = cluster.make(OLD, "complete", shop={})
    with pytest.raises(Unavailable, match=f"holds {written} documents instead of 2"):
        finish(cluster, written=written)
    assert cluster.serving("shop") == [before]


@pytest.mark.parametrize("serving", [[], [LATER], [OLD, LATER]])
def test_what_was_made_of_an_index_that_does_not_serve_alone_any_more_does_not_serve(
    cluster: Cluster, serving: list[str]
) -> None:
    for index in (OLD, LATER):
        cluster.make(index, "complete", **({"shop": {}} if index in serving else {}))
    with pytest.raises(NotFound, match="was moved meanwhile"):
        finish(cluster, replaces=OLD)
    assert cluster.serving("shop") == serving


def test_an_index_that_has_taken_the_name_meanwhile_is_said(cluster: Cluster) -> None:
    cluster.make("shop", "complete")
    with pytest.raises(Unavailable, match="An index of the name 'shop' was made meanwhile"):
        finish(cluster)
    assert cluster.serving("shop") == []


def test_what_serves_is_not_discarded(cluster: Cluster) -> None:
    cluster.make(NEW, "building")
    cluster.make(LATER, "building", shop={})
    for index in (NEW, LATER):
        Generation("shop", index, {}, {}).discard(cast(OpenSearch, cluster))
    assert sorted(cluster.made) == [LATER]


@pytest.mark.parametrize(
    ("begun", "now"),
    [
        ({"encoder": "e@1", "catalogue": "c"}, {"encoder": "e@1", "catalogue": "d"}),
        # Begun by a version that noted less.
        ({"encoder": "e@1"}, {"encoder": "e@1", "catalogue": "d"}),
    ],
)
def test_what_was_begun_otherwise_is_not_resumed(
    cluster: Cluster, begun: dict[str, str], now: dict[str, str]
) -> None:
    client = cast(OpenSearch, cluster)
    body: dict[str, Any] = {"settings": {}, "mappings": {}}
    made = create(client, "shop", body, begun)
    assert find_unfinished(client, "shop", body, begun).index == made.index
    was = begun.get("catalogue")
    with pytest.raises(InvalidInput, match=f"its catalogue is {was!r}, and now it is 'd'"):
        find_unfinished(client, "shop", body, now)


HIDDEN = {
    "filter": {"term": {"hidden": False}},
    "index_routing": "a",
    "search_routing": "a,b",
    "is_hidden": True,
}


def test_filter_routing_and_hiding_of_the_alias_stay(cluster: Cluster) -> None:
    """Else products that the filter hides would be found after every switch."""
    before = cluster.make(OLD, "complete", shop=dict(HIDDEN))
    finish(cluster)
    assert cluster.made[NEW]["aliases"] == {"shop": {**HIDDEN, "is_write_index": True}}
    assert cluster.made[before]["aliases"] == {}


def test_what_a_team_has_beside_our_notes_stays(cluster: Cluster) -> None:
    """OpenSearch replaces `_meta` as a whole."""
    cluster.make(NEW, "building")
    cluster.made[NEW]["mappings"]["_meta"]["owner"] = "search team"
    FILLED.finish(cast(OpenSearch, cluster), 0, 1)
    meta = cluster.made[NEW]["mappings"]["_meta"]
    assert (meta["owner"], meta["neuralrank"]["state"]) == ("search team", "complete")


def test_an_alias_with_other_options_for_each_index_is_not_moved(cluster: Cluster) -> None:
    cluster.make(OLD, "complete", shop={**HIDDEN, "is_write_index": True})
    cluster.make(LATER, "complete", shop={})
    with pytest.raises(InvalidInput, match="several indexes with other options"):
        check_name(cast(OpenSearch, cluster), "shop")
    with pytest.raises(InvalidInput, match="several indexes with other options"):
        finish(cluster)
    assert cluster.made[NEW]["aliases"] == {}
    cluster.made[LATER]["aliases"]["shop"] = dict(HIDDEN)
    check_name(cast(OpenSearch, cluster), "shop")


@pytest.mark.parametrize(
    ("wanted", "replicas", "expand"),
    [
        ({}, None, None),  # null: OpenSearch's default, one replica
        ({"number_of_replicas": 2}, 2, None),
        ({"auto_expand_replicas": "false"}, None, "false"),
        ({"auto_expand_replicas": False, "number_of_replicas": 0}, 0, False),
        # The number follows the nodes, whatever is said.
        ({"auto_expand_replicas": "0-1"}, 0, "0-1"),
    ],
)
def test_a_filled_index_gets_its_replicas_back(
    cluster: Cluster, wanted: dict[str, Any], replicas: int | None, expand: Any
) -> None:
    client = cast(OpenSearch, cluster)
    body = {"settings": {"index": wanted}, "mappings": {}}
    made = create(client, "shop", body, {})
    settings = cluster.made[made.index]["settings"]
    assert settings["number_of_replicas"] == 0
    made.finish(client, 0, 1)
    assert (settings["number_of_replicas"], settings["auto_expand_replicas"]) == (replicas, expand)

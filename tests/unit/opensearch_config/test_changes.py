"""What `diff`, `apply` and `create` ask a cluster for, without a cluster."""

import copy
from pathlib import Path
from typing import Any, cast

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound
from opensearch_config import apply, create, diff, files, pipelines

MADE, LATER = "20260101000000-00", "20260101000001-00"


class Cluster:
    """Has search pipelines, the UBI indexes as the files say, and no product index."""

    def __init__(self, live: dict[str, dict[str, Any]], **products: dict[str, Any]) -> None:
        self.live = live
        # Mappings of indexes, each with an alias of its stem.
        self.products = {name: {"mappings": mappings} for name, mappings in products.items()}
        self.aliases = {name: {name.partition("-")[0]: {}} for name in products}
        # Of each of them, as of the files.
        settings = files.product_index()["settings"]
        self.settings = {**settings["index"], "analysis": settings["analysis"]}
        self.template: dict[str, Any] = {}
        self.search_pipeline = _Pipelines(live)
        self.indices = self.cluster = self

    def exists(self, **_: str) -> bool:
        return True

    def get_mapping(self, index: str, **_: Any) -> dict[str, Any]:
        return {index: files.ubi_indexes()[index]} if index.startswith("ubi") else self.products

    def get_alias(self, **_: Any) -> dict[str, Any]:
        return {name: {"aliases": self.aliases[name]} for name in self.products}

    def get_settings(self, index: str) -> dict[str, Any]:
        return {index: {"settings": {"index": self.settings}}}

    def put_settings(self, index: str, body: dict[str, Any]) -> None:
        assert index in self.products
        self.settings |= body["index"]

    def get_component_template(self, name: str) -> dict[str, Any]:
        if not self.template:
            raise NotFound(f"no {name}.")
        return {"component_templates": [{"component_template": self.template}]}

    def put_component_template(self, body: dict[str, Any], **_: str) -> None:
        self.template = body


class _Pipelines:
    def __init__(self, live: dict[str, dict[str, Any]]) -> None:
        self._live = live

    def get(self, id: str) -> dict[str, Any]:
        return {id: self._live[id]} if id in self._live else {}

    def put(self, id: str, body: dict[str, Any]) -> None:
        self._live[id] = body


@pytest.fixture(autouse=True)
def _any_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("require_engine", "require_plugin"):
        monkeypatch.setattr(f"opensearch_config.changes.{name}", lambda *_: None)


def edited() -> Cluster:
    """Somebody gave the live `neural_rank` options that the file does not have."""
    live = copy.deepcopy({"neural_rank": pipelines()["neural_rank"]})
    live["neural_rank"]["response_processors"][0]["neural_rank"] = {"weights": {"affinity": 2.0}}
    return Cluster(live)


def test_an_option_that_only_the_live_pipeline_has_is_shown_and_taken_back() -> None:
    cluster = edited()
    client = cast(OpenSearch, cluster)
    (change,) = (found for found in diff(client) if found.name == "neural_rank")
    assert change.action == "update"
    assert change.details == (
        "response_processors[0].neural_rank.weights is {'affinity': 2.0}, the file does not have "
        "it",
    )
    apply(client)
    assert cluster.live == pipelines()
    assert diff(client) == []
    cluster.template["template"]["mappings"]["properties"]["old"] = {"type": "keyword"}
    (change,) = diff(client)
    assert change.details == (
        "mappings.properties.old is {'type': 'keyword'}, the file does not have it",
    )


def test_an_index_of_a_teams_own_is_never_made_anew() -> None:
    """Even where it says whose vectors it holds, so that the sidecar ranks with them."""
    noted = {"neuralrank": {"encoder": "e5@000000000000", "dimensions": 384}}
    theirs = {"_meta": noted, "properties": {"name": {"type": "text"}}}
    ours = {"_meta": {"neuralrank": {"state": "complete"}}, "properties": {}}
    cluster = Cluster(dict(pipelines()), **{f"theirs-{MADE}": theirs, f"ours-{MADE}": ours})
    changes = diff(cast(OpenSearch, cluster))
    assert [change.name for change in changes if change.kind == "index"] == [f"ours-{MADE}"]


def test_an_index_that_can_not_be_made_anew_is_a_conflict_or_kept_for_going_back() -> None:
    """Else every `apply` would begin it, fail, and never be done."""
    empty = {"_meta": {"neuralrank": {"state": "complete"}}, "properties": {}}
    first, second, moved = f"shop-{MADE}", f"shop-{LATER}", f"books-{MADE}"
    cluster = Cluster(dict(pipelines()), **dict.fromkeys((first, second, moved), empty))

    def found() -> dict[str, str]:
        changes = diff(cast(OpenSearch, cluster))
        return {change.name: change.action for change in changes if change.kind == "index"}

    cluster.aliases[first] = {"shop-previous": {}}
    assert found() == {second: "reindex", moved: "reindex"}
    # Nothing can take the place of what serves under another name only, or of one of two.
    cluster.aliases[moved] = {"library": {}}
    cluster.aliases[first] = {"shop": {}}
    assert found() == dict.fromkeys((first, second, moved), "conflict")


def test_refresh_and_replicas_are_set_on_the_index_that_serves() -> None:
    made = {"_meta": {"neuralrank": {"state": "complete"}}}
    name = f"shop-{MADE}"
    cluster = Cluster(dict(pipelines()), **{name: files.product_index()["mappings"] | made})
    cluster.template = {"template": {}}
    cluster.settings |= {"refresh_interval": "-1", "auto_expand_replicas": "0-2", "mine": "1"}
    client = cast(OpenSearch, cluster)
    (change,) = (found for found in apply(client) if found.name == name)
    assert change.action == "update"
    assert change.details == (
        "auto_expand_replicas is 0-2, the file says 0-1",
        "refresh_interval is -1, the file says 1s",
    )
    assert cluster.settings["refresh_interval"] == "1s"
    assert cluster.settings["mine"] == "1"
    assert diff(client) == []
    # Shards are counted once.
    cluster.settings["number_of_shards"] = "3"
    (change,) = diff(client)
    assert change.action == "reindex"
    assert change.details == ("number_of_shards is 3, the file says 1: needs a reindex",)


def test_create_makes_what_is_missing_and_leaves_what_is_there() -> None:
    cluster = edited()
    was = copy.deepcopy(cluster.live["neural_rank"])
    (left,) = create(cast(OpenSearch, cluster), Path(files.FOLDER))
    assert (left.action, left.name) == ("update", "neural_rank")
    assert cluster.live == {**pipelines(), "neural_rank": was}
    assert cluster.template


class _SomebodyElse(Cluster):
    """Another command makes each UBI index between the look and the making."""

    def __init__(self) -> None:
        super().__init__({})
        self.made: set[str] = set()

    def exists(self, index: str, **_: str) -> bool:
        return index in self.made

    def create(self, index: str, **_: Any) -> None:
        self.made.add(index)
        raise InvalidInput(f"index [{index}] already exists.")


class _Refuses(_SomebodyElse):
    """Takes no UBI index at all."""

    def create(self, **_: Any) -> None:
        raise InvalidInput("unknown setting [index.refresh].")


def test_two_that_make_what_is_missing_at_once_both_succeed() -> None:
    cluster = _SomebodyElse()

    assert create(cast("OpenSearch", cluster)) == []
    assert cluster.made == set(files.ubi_indexes())


def test_an_index_that_is_not_taken_is_said() -> None:
    with pytest.raises(InvalidInput, match=r"index ubi_.* can't be applied\. unknown setting"):
        create(cast("OpenSearch", _Refuses()))

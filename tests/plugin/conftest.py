"""The example shop on the session's stack, and searches of it through the plugin's processors."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import NotFound
from neuralrank.settings import Settings
from tests.e2e.shop import INDEX, TOO_LATE, eventually, open_shop

PIPELINE = "plugin-tests"
WINDOW = 30
# Found by words in a good part of the catalogue.
TEXT = "apple wireless phone for men women coffee set running shoes 14 pack book"
FIELDS = ["title^2", "category", "description", "bullet_points"]
QUERY: dict[str, Any] = {"multi_match": {"query": TEXT, "fields": FIELDS}}


@dataclass(frozen=True)
class Searches:
    """Searches of the shop: as they were without the plugin, and through a pipeline of it."""

    client: OpenSearch

    def plain(self, body: dict[str, Any], index: str | None = INDEX, **params: Any) -> Any:
        """What OpenSearch answers without the pipeline."""
        body = {key: value for key, value in body.items() if key != "ext"}
        return self.client.search(
            index=index, body=body, params={"search_pipeline": "_none", **params}
        )

    def any(self, body: dict[str, Any], index: str | None = INDEX, **params: Any) -> Any:
        """What it answers with the pipeline, whatever that is."""
        return self.client.search(
            index=index, body=body, params={"search_pipeline": PIPELINE, **params}
        )

    def ranked(
        self,
        body: dict[str, Any],
        index: str | None = INDEX,
        notes: frozenset[str] = frozenset(),
        **params: Any,
    ) -> Any:
        """A search that must come back re-ranked, with these reasons in its notes and no others.

        What came too late on a busy machine says so, and is asked again.
        """
        answer: dict[str, Any] = {}

        def in_time() -> bool:
            answer.clear()
            answer.update(self.any(body, index, **params))
            return not TOO_LATE & reasons(answer)

        assert eventually(in_time, 30), report(answer)
        assert report(answer)["reranked"], report(answer)
        assert reasons(answer) == notes, report(answer)
        scores = [hit["_score"] for hit in answer["hits"]["hits"]]
        assert all(0 <= score <= 1 for score in scores)
        assert scores == sorted(scores, reverse=True)
        return answer

    def left_alone(
        self, body: dict[str, Any], why: str, index: str | None = INDEX, **params: Any
    ) -> Any:
        """A search that must come back as it was without the plugin, and say why."""
        answer = self.any(body, index, **params)
        said = report(answer)
        assert not said["reranked"]
        (note,) = said["degraded"]
        assert note["reason"] == "not_applicable"
        assert why in note["detail"]
        expected = self.plain(body, index, **params)
        assert answer["hits"] == expected["hits"]
        assert answer.get("aggregations") == expected.get("aggregations")
        return answer


def report(answer: dict[str, Any]) -> dict[str, Any]:
    """What the plugin says of an answer."""
    said: dict[str, Any] = answer["ext"]["neural_rank"]
    return said


def reasons(answer: dict[str, Any]) -> set[str]:
    return {note["reason"] for note in report(answer)["degraded"]}


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


@pytest.fixture(scope="session")
def searches(stack: Settings, opensearch: OpenSearch) -> Iterator[Searches]:
    """The shop is indexed, and the pipeline is there."""
    open_shop(stack)
    pipeline = {
        # A wide deadline and no cross-encoder: the same search is ranked alike each time.
        "request_processors": [{"neural_recall": {"window": WINDOW, "k": 10, "timeout_ms": 5_000}}],
        "response_processors": [{"neural_rank": {"bundle": "none"}}],
    }
    opensearch.search_pipeline.put(id=PIPELINE, body=pipeline)
    yield Searches(opensearch)
    with suppress(NotFound):
        opensearch.search_pipeline.delete(id=PIPELINE)


@pytest.fixture
def of_shards(searches: Searches) -> Iterator[str]:
    """The shop in three shards."""
    client, name = searches.client, "plugin-three-shards"
    (live,) = client.indices.get(index=INDEX).values()
    kept = {"knn": True, "knn.derived_source.enabled": False, "number_of_replicas": 0}
    if "analysis" in live["settings"]["index"]:
        kept["analysis"] = live["settings"]["index"]["analysis"]
    settings = {"index": {**kept, "number_of_shards": 3}}
    client.indices.delete(index=name, params={"ignore_unavailable": "true"})
    client.indices.create(index=name, body={"settings": settings, "mappings": live["mappings"]})
    copied = {"source": {"index": INDEX}, "dest": {"index": name}}
    client.reindex(body=copied, params={"refresh": "true"})
    yield name
    client.indices.delete(index=name)

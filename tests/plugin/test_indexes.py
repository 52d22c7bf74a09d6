"""Where is searched: several indexes, aliases, filters of aliases, indexes without our fields."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import NotFound
from tests.e2e.shop import INDEX
from tests.plugin.conftest import PIPELINE, QUERY, Searches, ids, reasons, report

COPY = "plugin-tests-copy"
OTHER = "plugin-tests-other"
# Not of the pattern that tests search by.
BARE = "plugin-without-source"
ALIAS, FILTERED, BOTH = "plugin-tests-alias", "plugin-tests-apple", "plugin-tests-both"
# Not of the pattern that tests search by.
TWINS = "plugin-twins"
BODY: dict[str, Any] = {"query": QUERY, "size": 30}
APPLE = {"term": {"brand.keyword": "Apple"}}


@pytest.fixture(scope="module", autouse=True)
def indexes(searches: Searches) -> Iterator[None]:
    """A copy of a part of the shop, an index that knows nothing of us, and aliases."""
    client = searches.client
    ((shop, live),) = client.indices.get(index=INDEX).items()
    settings = {"index": {"knn": True, "number_of_replicas": 0, "number_of_shards": 2}}
    for part in ("analysis", "knn.derived_source.enabled"):
        if part in live["settings"]["index"]:
            settings["index"][part] = live["settings"]["index"][part]
    settings["index"]["knn.derived_source.enabled"] = False
    client.indices.delete(index=f"{COPY},{OTHER}", params={"ignore_unavailable": "true"})
    client.indices.create(index=COPY, body={"settings": settings, "mappings": live["mappings"]})
    some = {"index": INDEX, "query": {"terms": {"language": ["en"]}}}
    copied = {"source": some, "dest": {"index": COPY}}
    client.reindex(body=copied, params={"refresh": "true"})
    for number in range(3):
        document = {"title": f"wireless phone {number}", "brand": "Nobody"}
        client.index(index=OTHER, id=f"o{number}", body=document, params={"refresh": "true"})
    actions = [
        {"add": {"index": COPY, "alias": ALIAS}},
        {"add": {"index": COPY, "alias": FILTERED, "filter": APPLE}},
        {"add": {"index": COPY, "alias": BOTH}},
        {"add": {"index": OTHER, "alias": BOTH}},
        {"add": {"index": COPY, "alias": TWINS}},
        {"add": {"index": shop, "alias": TWINS}},
    ]
    client.indices.update_aliases(body={"actions": actions})
    yield
    client.indices.delete_alias(index=shop, name=TWINS)
    client.indices.delete(index=f"{COPY},{OTHER}")


def test_an_alias_is_searched_as_its_index(searches: Searches) -> None:
    assert ids(searches.ranked(BODY, ALIAS)) == ids(searches.ranked(BODY, COPY))


def test_the_filter_of_an_alias_holds_for_neighbours(searches: Searches) -> None:
    body = {"query": {"match": {"title": "mac laptop"}}}
    answer = searches.ranked(body, FILTERED)
    assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}
    assert len(ids(answer)) > len(ids(searches.plain(body, FILTERED))), "neighbours came"


@pytest.mark.parametrize("name", [f"{INDEX},{COPY}", f"{COPY},{INDEX}"])
def test_two_indexes_that_share_ids_are_told_apart(searches: Searches, name: str) -> None:
    body = {**BODY, "ext": {"neural_rank": {"window": 100, "explain": True}}, "size": 100}
    answer = searches.ranked(body, name)
    found = {(hit["_index"], hit["_id"]) for hit in answer["hits"]["hits"]}
    assert len(found) == len(ids(answer))
    assert len(found) > len(set(ids(answer))), "some are in both"
    named = [result["id"] for result in report(answer)["results"]]
    assert len(named) == len(set(named))
    plain = searches.plain({**BODY, "size": 100}, name)
    assert {(hit["_index"], hit["_id"]) for hit in plain["hits"]["hits"]} <= found


@pytest.mark.parametrize("name", [f"{INDEX},{COPY}", TWINS])
def test_items_of_two_indexes_that_share_an_id_are_ranked_and_left_out_alike(
    searches: Searches, name: str
) -> None:
    options: dict[str, Any] = {"window": 100, "explain": True}
    body = {**BODY, "size": 100, "ext": {"neural_rank": options}}
    answer = searches.ranked(body, name)
    near: dict[str, set[float]] = {}
    for hit, result in zip(answer["hits"]["hits"], report(answer)["results"], strict=True):
        near.setdefault(hit["_id"], set()).add(result["query_similarity"])
    assert all(len(values) == 1 for values in near.values()), "they are copies"
    copies = [one for one in near if ids(answer).count(one) == 2]
    options["filters"] = {"exclude_items": copies[:2]}
    left = ids(searches.ranked(body, name))
    assert not set(copies[:2]) & set(left)
    assert left.count(copies[2]) == 2


LACKING = frozenset({"not_applicable"})


@pytest.mark.parametrize("name", [f"{COPY},{OTHER}", BOTH, "plugin-tests-*"])
def test_an_index_without_our_fields_among_others_fails_nothing(
    searches: Searches, name: str
) -> None:
    body = {**BODY, "size": 100, "ext": {"neural_rank": {"window": 100}}}
    answer = searches.ranked(body, name, notes=LACKING)
    (note,) = report(answer)["degraded"]
    lacks = f"no vector leg in [{OTHER}]: no knn_vector field [text_vector]"
    assert note["detail"] == lacks
    assert answer["_shards"]["failed"] == 0
    assert {hit["_index"] for hit in answer["hits"]["hits"]} == {COPY, OTHER}
    assert len(ids(answer)) > len(ids(searches.plain(body, name))), "neighbours came"


def test_an_index_without_our_fields_alone_is_ranked_by_what_it_has(searches: Searches) -> None:
    answer = searches.ranked(BODY, OTHER, notes=LACKING)
    assert sorted(ids(answer)) == ["o0", "o1", "o2"]
    (note,) = report(answer)["degraded"]
    assert "no index of this search has a knn_vector field [text_vector]" in note["detail"]


def test_an_index_that_keeps_no_source_fails_no_search(searches: Searches) -> None:
    client = searches.client
    mappings = {"_source": {"enabled": False}, "properties": {"title": {"type": "text"}}}
    client.indices.create(index=BARE, body={"mappings": mappings})
    client.index(index=BARE, body={"title": "wireless phone"}, params={"refresh": "true"})
    try:
        answer = searches.any({**BODY, "_source": False}, BARE)
    finally:
        client.indices.delete(index=BARE)
    assert len(ids(answer)) == 1
    # Without what a cross-encoder would read, and without a vector.
    assert reasons(answer) == {"not_applicable", "features_unavailable"}


@pytest.mark.parametrize("name", [OTHER, BOTH])
def test_indexes_without_our_fields_are_passed_over_in_silence_where_that_is_asked(
    searches: Searches, name: str
) -> None:
    processors = searches.client.search_pipeline.get(id=PIPELINE)[PIPELINE]
    processors["request_processors"][0]["neural_recall"]["ignore_unmapped"] = True
    body = {**BODY, "search_pipeline": processors}
    answer = searches.client.search(index=name, body=body)
    assert report(answer)["reranked"]
    assert report(answer)["degraded"] == []


def test_a_missing_index_is_an_error_or_ignored_as_without_the_plugin(searches: Searches) -> None:
    for search in (searches.plain, searches.any):
        with pytest.raises(NotFound, match="no such index"):
            search(BODY, f"{COPY},plugin-tests-nowhere")
    answer = searches.ranked(BODY, f"{COPY},plugin-tests-nowhere", ignore_unavailable="true")
    assert ids(answer) == ids(searches.ranked(BODY, COPY))


def test_an_index_boost_stays_in_the_score_of_the_query(searches: Searches) -> None:
    body = {**BODY, "indices_boost": [{OTHER: 100.0}], "size": 3}
    body["ext"] = {"neural_rank": {"weights": {"relevance": 0, "affinity": 0, "retrieval": 1}}}
    answer = searches.ranked(body, BOTH, notes=LACKING)
    assert {hit["_index"] for hit in answer["hits"]["hits"]} == {OTHER}


def test_routing_narrows_the_neighbours_too(searches: Searches) -> None:
    answer = searches.ranked(BODY, COPY, routing="0")
    with_shards = searches.plain({"query": {"match_all": {}}, "size": 100}, COPY, routing="0")
    assert set(ids(answer)) <= set(ids(with_shards))


def test_msearch_answers_each_search_by_itself(searches: Searches) -> None:
    bodies: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"index": INDEX}, BODY),
        ({"index": INDEX}, {**BODY, "search_pipeline": "_none"}),
        ({"index": INDEX}, {**BODY, "sort": [{"price": "asc"}]}),
        ({"index": INDEX}, {**BODY, "ext": {"neural_rank": {"user_id": "A"}}}),
        ({"index": "plugin-tests-nowhere"}, BODY),
        ({"index": COPY}, BODY),
    ]
    # A header of _msearch takes no pipeline, a body does.
    lines = [part for pair in bodies for part in (pair[0], {"search_pipeline": PIPELINE} | pair[1])]
    answers = searches.client.msearch(body=lines)["responses"]
    assert [answer["status"] for answer in answers] == [200, 200, 200, 200, 404, 200]
    assert ids(answers[0]) == ids(searches.ranked(BODY))
    assert "ext" not in answers[1]
    assert ids(answers[1]) == ids(searches.plain(BODY))
    assert reasons(answers[2]) == {"not_applicable"}
    assert report(answers[3])["reranked"]
    assert ids(answers[5]) == ids(searches.ranked(BODY, COPY))


@pytest.fixture
def default(opensearch: OpenSearch) -> Iterator[None]:
    settings = {"index.search.default_pipeline": PIPELINE}
    opensearch.indices.put_settings(index=COPY, body=settings)
    yield
    opensearch.indices.put_settings(index=COPY, body={"index.search.default_pipeline": "_none"})


@pytest.mark.usefixtures("default")
def test_a_default_pipeline_needs_nothing_in_the_request(searches: Searches) -> None:
    client = searches.client
    answer = client.search(index=ALIAS, body=BODY)
    assert ids(answer) == ids(searches.ranked(BODY, COPY))
    # OpenSearch's own rule: indexes without one take that of the others.
    assert report(client.search(index=f"{COPY},{INDEX}", body=BODY))["reranked"]
    count = client.count(index=COPY, body={"query": QUERY})
    assert count["count"] == searches.plain(BODY, COPY)["hits"]["total"]["value"]
    template = json.dumps({"query": {"multi_match": {**QUERY["multi_match"], "query": "{{q}}"}}})
    filled = {"source": template, "params": {"q": QUERY["multi_match"]["query"]}}
    found = client.search_template(index=COPY, body=filled)
    assert ids(found) == ids(answer)[:10]
    assert report(found)["reranked"]


def calls(client: OpenSearch) -> tuple[int, int, int]:
    """How many searches reached the ranking step, and how often the sidecar was asked."""
    counters = client.transport.perform_request("GET", "/_plugins/_neural_rank/stats")["total"]
    stages = counters["latency"]
    return counters["requests"], stages["encode"]["count"], stages["rank"]["count"]


@pytest.mark.usefixtures("default")
def test_a_default_pipeline_ranks_a_collapsed_search_and_not_each_group(searches: Searches) -> None:
    inner = {"name": "more", "size": 2, "_source": ["title"]}
    body = {**BODY, "collapse": {"field": "brand.keyword", "inner_hits": inner}}
    own = searches.plain({**BODY, "size": 1_000}, COPY)["hits"]["hits"]
    scores = {hit["_id"]: hit["_score"] for hit in own}

    def in_groups(answer: dict[str, Any]) -> dict[str, float]:
        groups = [hit["inner_hits"]["more"]["hits"]["hits"] for hit in answer["hits"]["hits"]]
        return {hit["_id"]: hit["_score"] for group in groups for hit in group}

    before = calls(searches.client)
    plain = searches.plain(body, COPY)
    assert calls(searches.client) == before
    assert in_groups(plain).items() <= scores.items()
    ranked = searches.client.search(index=COPY, body=body)
    assert calls(searches.client) == tuple(count + 1 for count in before)
    assert report(ranked)["reranked"]
    # Those of neighbours are of the second search.
    shown = {one: score for one, score in in_groups(ranked).items() if one in in_groups(plain)}
    assert len(shown) > 10
    assert shown.items() <= scores.items()


@pytest.mark.usefixtures("default")
def test_a_default_pipeline_ranks_each_search_of_an_msearch(searches: Searches) -> None:
    before = calls(searches.client)
    lines = [{"index": COPY}, BODY, {"index": COPY}, BODY]
    template = {"source": json.dumps(BODY)}
    answers = [
        *searches.client.msearch(body=lines)["responses"],
        *searches.client.msearch_template(body=[{"index": COPY}, template])["responses"],
    ]
    assert calls(searches.client) == tuple(count + 3 for count in before)
    expected = ids(searches.ranked(BODY, COPY))
    assert all(ids(answer) == expected for answer in answers)


def test_a_pipeline_in_the_request_itself_works(searches: Searches) -> None:
    (pipeline,) = searches.client.search_pipeline.get(id=PIPELINE).values()
    answer = searches.client.search(index=COPY, body={**BODY, "search_pipeline": pipeline})
    assert ids(answer) == ids(searches.ranked(BODY, COPY))


def test_ranking_alone_orders_the_page_that_was_asked_for(searches: Searches) -> None:
    pipeline = {"response_processors": [{"neural_rank": {"bundle": "none", "timeout_ms": 5_000}}]}
    pages = []
    for start in (0, 5, 10):
        body = {"query": QUERY, "from": start, "size": 5}
        answer = searches.client.search(index=INDEX, body={**body, "search_pipeline": pipeline})
        assert report(answer)["reranked"]
        assert sorted(ids(answer)) == sorted(ids(searches.plain(body)))
        pages += ids(answer)
    assert len(set(pages)) == 15


def test_neighbours_are_held_to_what_a_later_processor_asks_for(
    searches: Searches, pipeline: Callable[..., str]
) -> None:
    only_apple = {"filter_query": {"query": APPLE}}
    recall = {"neural_recall": {"window": 30, "k": 10, "timeout_ms": 5_000}}
    for processors in ([recall, only_apple], [only_apple, recall]):
        params = {"search_pipeline": pipeline(processors)}
        answer = searches.client.search(index=COPY, body=BODY, params=params)
        assert report(answer)["reranked"]
        assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}
        assert reasons(answer) == ({"not_applicable"} if processors[0] is recall else set())


@pytest.mark.parametrize("rank", [{}, {"filters": {"in_stock_only": True}}])
def test_the_window_is_fetched_where_something_may_come_of_it(
    searches: Searches, pipeline: Callable[..., str], rank: dict[str, Any]
) -> None:
    name = pipeline([{"neural_recall": {"window": 28}}], rank)
    usual = {"index.search.default_pipeline": name}
    for ext in ({}, {"ext": {"neural_rank": {"user_id": "A"}}}):
        body = {"query": {"exists": {"field": "price"}}, "size": 3, **ext}
        searches.client.indices.put_settings(index=COPY, body=usual)
        for params in ({}, {"search_pipeline": name}):
            answer = searches.client.search(
                index=COPY, body=body, params={"verbose_pipeline": "true", **params}
            )
            searched = answer["processor_results"][0]["output_data"]["size"]
            assert searched == (28 if rank or ext else 3)
            assert len(ids(answer)) == 3
    searches.client.indices.put_settings(
        index=COPY, body={"index.search.default_pipeline": "_none"}
    )


@pytest.fixture
def shallow(opensearch: OpenSearch) -> Iterator[int]:
    """How many hits at once the copy allows."""
    most = 5
    opensearch.indices.put_settings(index=COPY, body={"index.max_result_window": most})
    yield most
    opensearch.indices.put_settings(index=COPY, body={"index.max_result_window": None})


def test_neighbours_come_where_an_index_allows_fewer_hits_than_are_wanted(
    searches: Searches, shallow: int
) -> None:
    answer = searches.ranked({**BODY, "size": shallow}, COPY)
    assert len(ids(answer)) == shallow
    assert report(answer)["candidates"] > shallow, "neighbours came"


@pytest.fixture
def pipeline(searches: Searches) -> Iterator[Callable[..., str]]:
    """Makes a pipeline of request processors and `neural_rank`, and says its name."""
    name = "plugin-tests-beside"

    def put(processors: list[Any], rank: dict[str, Any] | None = None) -> str:
        response = [{"neural_rank": {"bundle": "none", **(rank or {})}}]
        body = {"request_processors": processors, "response_processors": response}
        searches.client.search_pipeline.put(id=name, body=body)
        return name

    yield put
    searches.client.search_pipeline.delete(id=name)

"""Whatever else a search asks for is answered as without the plugin; the order is the sidecar's."""

from typing import Any

import pytest

from neuralrank.errors import NeuralrankError
from tests.e2e.shop import INDEX
from tests.plugin.conftest import QUERY, WINDOW, Searches, ids, report

BODY: dict[str, Any] = {"query": QUERY, "size": 10}


@pytest.fixture(scope="module")
def order(searches: Searches) -> list[str]:
    """Of the page that all of these are variations of."""
    return ids(searches.ranked(BODY))


def by_id(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {hit["_id"]: hit for hit in answer["hits"]["hits"]}


def test_totals_and_aggregations_are_those_of_the_query(
    searches: Searches, order: list[str]
) -> None:
    aggs = {
        "brands": {"terms": {"field": "brand.keyword"}, "aggs": {"top": {"top_hits": {"size": 1}}}},
        "price": {"stats": {"field": "price"}},
        "cheapest": {"min_bucket": {"buckets_path": "prices>least"}},
        "prices": {
            "histogram": {"field": "price", "interval": 500, "min_doc_count": 1},
            "aggs": {"least": {"min": {"field": "price"}}},
        },
        "everything": {"global": {}, "aggs": {"count": {"value_count": {"field": "id"}}}},
    }
    body = {**BODY, "aggs": aggs, "track_total_hits": True}
    answer, plain = searches.ranked(body), searches.plain(body)
    assert ids(answer) == order
    assert answer["aggregations"] == plain["aggregations"]
    assert answer["hits"]["total"] == plain["hits"]["total"]


@pytest.mark.parametrize("source", [True, False])
def test_rules_on_colours_hold_for_documents_with_other_attributes(
    searches: Searches, source: bool
) -> None:
    everything = searches.plain({"query": {"match_all": {}}, "size": 200})
    black = {
        hit["_id"] for hit in everything["hits"]["hits"] if hit["_source"].get("color") == "black"
    }
    rule = {"name": "color", "values": ["Black"]}
    for exclude in (False, True):
        filters = {"attributes": [{**rule, "exclude": exclude}]}
        ext = {"neural_rank": {"filters": filters, "window": 200}}
        found = ids(searches.ranked({**BODY, "size": WINDOW, "_source": source, "ext": ext}))
        assert found
        assert black.isdisjoint(found) if exclude else black.issuperset(found)


def test_totals_and_aggregations_can_count_neighbours(searches: Searches) -> None:
    aggs = {
        "brands": {"terms": {"field": "brand.keyword", "size": 100}},
        "best": {"top_hits": {"size": 3, "_source": False}},
    }
    body = {**BODY, "size": 100, "aggs": aggs, "track_total_hits": True}
    plain = searches.plain(body)
    ext = {"neural_rank": {"totals": "both", "window": 100}}
    answer = searches.ranked({**body, "ext": ext})
    neighbours = set(ids(answer)) - set(ids(plain))
    assert neighbours
    assert answer["hits"]["total"]["value"] == len(ids(answer))
    assert answer["hits"]["total"]["value"] == plain["hits"]["total"]["value"] + len(neighbours)
    counted = {row["key"]: row["doc_count"] for row in answer["aggregations"]["brands"]["buckets"]}
    shown = [hit["_source"]["brand"] for hit in answer["hits"]["hits"]]
    assert counted == {brand: shown.count(brand) for brand in shown}
    # What looks at scores sees those of the query.
    best = [found["aggregations"]["best"]["hits"]["hits"] for found in (answer, plain)]
    assert [hit["_id"] for hit in best[0]] == [hit["_id"] for hit in best[1]]
    unasked = searches.ranked({**body, "ext": {"neural_rank": {"window": 100}}})
    assert ids(answer) == ids(unasked)
    assert unasked["aggregations"] == plain["aggregations"]


def test_without_a_query_all_are_counted_already(searches: Searches) -> None:
    ext = {"neural_rank": {"user_id": "A", "totals": "both"}}
    answer = searches.ranked({"size": 5, "ext": ext})
    assert answer["hits"]["total"] == searches.plain({"size": 5})["hits"]["total"]


@pytest.mark.parametrize("track", [False, 5])
def test_totals_that_are_not_wanted_are_not_made_up(
    searches: Searches, order: list[str], track: Any
) -> None:
    body = {**BODY, "track_total_hits": track}
    answer, plain = searches.ranked(body), searches.plain(body)
    assert ids(answer) == order
    if track is False:
        assert "total" not in answer["hits"]
    else:
        assert answer["hits"]["total"]["relation"] == plain["hits"]["total"]["relation"] == "gte"


def test_highlights_are_those_of_the_query(searches: Searches, order: list[str]) -> None:
    body = {**BODY, "highlight": {"fields": {"title": {}, "description": {}}}}
    answer = searches.ranked(body)
    assert ids(answer) == order
    marked = by_id(searches.plain({**body, "size": 100}))
    shown = [hit for hit in answer["hits"]["hits"] if hit["_id"] in marked]
    assert shown
    for hit in shown:
        assert hit.get("highlight") == marked[hit["_id"]].get("highlight")


def test_collapsed_hits_stay_one_for_each_value(searches: Searches) -> None:
    inner = {"name": "more", "size": 2, "_source": ["title"]}
    body = {**BODY, "size": 20, "collapse": {"field": "brand.keyword", "inner_hits": inner}}
    answer = searches.ranked(body)
    brands = [hit["_source"]["brand"] for hit in answer["hits"]["hits"]]
    assert len(brands) == len(set(brands))
    for hit in answer["hits"]["hits"]:
        assert hit["fields"]["brand.keyword"] == [hit["_source"]["brand"]]
        assert hit["inner_hits"]["more"]["hits"]["hits"]
    pages = [searches.ranked({**body, "from": start, "size": 10}) for start in (0, 10)]
    assert [one for found in pages for one in ids(found)] == ids(answer)


SORTED: dict[str, Any] = {
    "by a field": [{"price": "asc"}],
    "by score, then a field": ["_score", {"price": "asc"}],
    "by the worst score": [{"_score": "asc"}],
    "by the index": ["_doc"],
    "by a script": [
        {"_script": {"type": "number", "script": "doc['price'].value", "order": "asc"}}
    ],
}


@pytest.mark.parametrize("sort", SORTED.values(), ids=SORTED)
def test_sorted_hits_are_left_alone(searches: Searches, sort: list[Any]) -> None:
    body = {**BODY, "sort": sort, "track_scores": True}
    searches.left_alone(body, "sorted by something other than _score")


@pytest.mark.parametrize("sort", [["_score"], [{"_score": "desc"}], []])
def test_hits_sorted_by_score_are_ranked(
    searches: Searches, order: list[str], sort: list[Any]
) -> None:
    assert ids(searches.ranked({**BODY, "sort": sort})) == order


def test_rescored_hits_are_ranked_and_their_new_score_is_what_counts(searches: Searches) -> None:
    rescore = {
        "window_size": WINDOW,
        "query": {
            "rescore_query": {"match": {"brand": "Apple"}},
            "rescore_query_weight": 50,
        },
    }
    body = {**BODY, "size": WINDOW, "ext": {"neural_rank": {"explain": True}}}
    answer = searches.ranked({**body, "rescore": rescore})
    without = searches.ranked(body)
    scores = [
        {one["id"]: one.get("retrieval_score", 0) for one in report(found)["results"]}
        for found in (answer, without)
    ]
    raised = [one for one in scores[0] if scores[0][one] > scores[1].get(one, 0) + 10]
    assert raised
    assert all(by_id(answer)[one]["_source"]["brand"] == "Apple" for one in raised)


SOURCES: dict[str, Any] = {
    "none": False,
    "one field": "title",
    "fields": ["title", "price"],
    "patterns": ["ti*"],
    "includes": {"includes": ["title", "attributes.*"]},
    "excludes": {"excludes": ["text_vector*", "description", "bullet_points"]},
    "both": {"includes": ["*"], "excludes": ["text_vector*", "title"]},
    "what is not there": ["nothing"],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_of_the_source_what_was_asked_is_shown(
    searches: Searches, order: list[str], source: Any
) -> None:
    body = {**BODY, "_source": source}
    answer = searches.ranked(body)
    assert ids(answer) == order, "the ranker reads what it needs, whatever is shown"
    everything = {"query": {"ids": {"values": order}}, "size": 10, "_source": source}
    expected = by_id(searches.plain(everything))
    for hit in answer["hits"]["hits"]:
        assert hit.get("_source") == expected[hit["_id"]].get("_source")


def test_the_pipelines_of_ours_leave_vectors_out_where_a_search_does_not_say_what_it_shows(
    searches: Searches,
) -> None:
    vectors = {"text_vector_packed"}

    def shown(body: dict[str, Any], pipeline: str = "neural_rank", **params: Any) -> list[Any]:
        params = {"search_pipeline": pipeline, **params}
        hits = searches.client.search(index=INDEX, body=body, params=params)["hits"]["hits"]
        assert hits
        return [hit["_source"] for hit in hits]

    whole = {hit["_id"]: hit["_source"] for hit in searches.plain(BODY)["hits"]["hits"]}
    narrow = {**BODY, "ext": {"neural_rank": {"window": 10, "k": 4}}}
    for pipeline in ("neural_rank", "neural_rank_only"):
        for start in (0, 20):  # with neighbours, and behind the window
            for source in shown({**narrow, "from": start}, pipeline):
                assert not vectors & source.keys()
                if source["id"] in whole:
                    rest = whole[source["id"]]
                    assert source == {key: rest[key] for key in rest.keys() - vectors}
    for named in (True, ["*"], {"excludes": ["title"]}):
        assert all(vectors <= source.keys() for source in shown({**BODY, "_source": named}))
    assert all(vectors <= source.keys() for source in shown(BODY, _source_includes="t*"))
    # What copies an index: it is not ranked, and has all.
    assert all(vectors <= source.keys() for source in shown(BODY, scroll="1m"))
    copying = {"query": {"match_all": {}}, "size": 200, "sort": ["_doc"]}
    for body in (copying, {"query": {"match_all": {}}, "size": 200}):
        assert all(vectors <= source.keys() for source in shown(body))


FETCHED: dict[str, dict[str, Any]] = {
    "stored_fields": {"stored_fields": ["price"]},
    "stored_fields, empty": {"stored_fields": []},
    "stored_fields and _source": {"stored_fields": ["_source", "_routing"]},
    "docvalue_fields": {"docvalue_fields": ["price", "brand.keyword"], "_source": False},
    "fields": {"fields": ["title", {"field": "rating"}], "_source": ["price"]},
    "script_fields": {"script_fields": {"twice": {"script": "doc['price'].value * 2"}}},
    "version": {"version": True, "seq_no_primary_term": True},
    "named queries": {
        "query": {"multi_match": {**QUERY["multi_match"], "_name": "words"}},
        "_source": False,
    },
}


@pytest.mark.parametrize("more", FETCHED.values(), ids=FETCHED)
def test_each_hit_shows_what_it_would_show_without_the_plugin(
    searches: Searches, order: list[str], more: dict[str, Any]
) -> None:
    body = {**BODY, **more}
    answer = searches.ranked(body)
    assert ids(answer) == order
    plain = by_id(searches.plain({**body, "size": 100}))
    shared = [hit for hit in answer["hits"]["hits"] if hit["_id"] in plain]
    assert shared
    for hit in shared:
        assert {**hit, "_score": 0} == {**plain[hit["_id"]], "_score": 0}
    neighbours = [hit for hit in answer["hits"]["hits"] if hit["_id"] not in plain]
    shape = shared[0].keys() - {"matched_queries"}
    assert all(hit.keys() == shape for hit in neighbours)


def test_hits_without_ids_are_left_alone(searches: Searches) -> None:
    searches.left_alone({**BODY, "stored_fields": ["_none_"]}, "hits have no id")


def test_profile_and_suggestions_are_kept(searches: Searches, order: list[str]) -> None:
    suggest = {"words": {"text": "wireles", "term": {"field": "title"}}}
    body = {**BODY, "profile": True, "suggest": suggest}
    answer = searches.ranked(body)
    assert ids(answer) == order
    assert answer["profile"]["shards"]
    assert answer["suggest"] == searches.plain(body)["suggest"]


@pytest.mark.parametrize("fusion", ["weights", "rrf"])
@pytest.mark.parametrize("diversity", [0, 0.3])
def test_an_explanation_is_of_the_new_score_by_its_parts(
    searches: Searches, fusion: str, diversity: float
) -> None:
    options = {"fusion": fusion, "weights": {"diversity": diversity}}
    ext = {"neural_rank": {"user_id": "A", **options}}
    answer = searches.ranked({**BODY, "explain": True, "ext": ext})
    theirs = by_id(searches.plain({**BODY, "explain": True, "size": 100}))
    found_by_words = 0
    for hit in answer["hits"]["hits"]:
        explained = hit["_explanation"]
        assert explained["value"] == pytest.approx(hit["_score"])
        parts = {part["description"].split(":")[0]: part for part in explained["details"]}
        weights = {
            name: float(part["description"].rsplit("weight ", 1)[1]) for name, part in parts.items()
        }
        assert parts.keys() == {"relevance", "affinity", "retrieval"} | (
            {"novelty"} if diversity else set()
        )
        total = sum(weights[name] * part["value"] for name, part in parts.items())
        assert total / sum(weights.values()) == pytest.approx(explained["value"], abs=1e-4)
        # Down to OpenSearch's own.
        if hit["_id"] in theirs:
            assert parts["retrieval"]["details"] == [theirs[hit["_id"]]["_explanation"]]
            found_by_words += 1
    assert found_by_words


def test_the_cross_encoders_weight_is_how_far_it_moves_what_it_has_read(
    searches: Searches,
) -> None:
    def relevance(**options: Any) -> dict[str, float]:
        # As much time as it wants: all that it may read is read each time.
        given = {"bundle": "neuralrank-small", "deadline_ms": 2_000, "max_reranked": 5}
        ext = {"neural_rank": {**given, **options}}
        answer = searches.ranked({**BODY, "explain": True, "ext": ext})
        return {
            hit["_id"]: round(part["value"], 5)
            for hit in answer["hits"]["hits"]
            for part in hit["_explanation"]["details"]
            if part["description"].startswith("relevance:")
        }

    without, usual = relevance(bundle="none"), relevance()
    assert relevance(weights={"cross_encoder": 0}) == without
    assert relevance(weights={"cross_encoder": 0.2}) == usual
    moved = relevance(weights={"cross_encoder": 1})
    read = {item for item in moved.keys() & without.keys() if moved[item] != without[item]}
    assert 0 < len(read) <= 5
    for item in read & usual.keys():
        assert abs(moved[item] - without[item]) > abs(usual[item] - without[item])


def test_an_explanation_says_what_the_cross_encoder_counts(searches: Searches) -> None:
    options = {"bundle": "neuralrank-small", "deadline_ms": 2_000, "max_reranked": 5}
    weights = {"cross_encoder": 0.75}
    ext = {"neural_rank": {**options, "weights": weights, "explain": True}}
    rows = report(searches.ranked({**BODY, "ext": ext}))["results"]
    read = [row for row in rows if "cross_encoder_logit" in row]
    assert 0 < len(read) <= 5
    assert {row["weights"]["cross_encoder"] for row in read} == {0.75}
    assert all("cross_encoder" not in row["weights"] for row in rows if row not in read)


def test_a_diverse_page_shows_less_of_the_same(searches: Searches) -> None:
    def novelty(diversity: float) -> tuple[list[str], float]:
        weights = {"diversity": diversity}
        answer = searches.ranked(
            {**BODY, "ext": {"neural_rank": {"weights": weights, "explain": True}}}
        )
        rows = report(answer)["results"]
        assert [row["score"] for row in rows] == sorted((r["score"] for r in rows), reverse=True)
        return ids(answer), sum(row["novelty"] for row in rows)

    (usual, alike), (diverse, unlike) = novelty(0.001), novelty(0.6)
    assert usual[0] == diverse[0]
    assert usual != diverse
    assert unlike > alike


def test_pages_of_a_diverse_order_go_on_where_the_last_ended(searches: Searches) -> None:
    ext = {"neural_rank": {"weights": {"diversity": 0.4}}}
    whole = ids(searches.ranked({**BODY, "size": 20, "ext": ext}))
    pages = [searches.ranked({**BODY, "from": at, "size": 5, "ext": ext}) for at in (0, 5, 10, 15)]
    assert [name for page in pages for name in ids(page)] == whole


def test_max_score_is_the_best_of_the_whole_order(searches: Searches) -> None:
    first, second = (searches.ranked({**BODY, "from": start}) for start in (0, 10))
    assert first["hits"]["max_score"] == second["hits"]["max_score"]
    assert first["hits"]["max_score"] == first["hits"]["hits"][0]["_score"]


def test_words_are_counted_over_all_shards_where_that_is_asked(
    searches: Searches, of_shards: str
) -> None:
    def scores(answer: dict[str, Any]) -> dict[str, float]:
        return {row["id"]: row.get("retrieval_score") for row in report(answer)["results"]}

    asked = {"search_type": "dfs_query_then_fetch"}
    body = {**BODY, "size": WINDOW, "ext": {"neural_rank": {"explain": True}}}
    found = scores(searches.ranked(body, of_shards, **asked))
    plain = by_id(searches.plain(body, of_shards, **asked))
    shared = found.keys() & plain.keys()
    assert shared
    assert {one: found[one] for one in shared} == pytest.approx(
        {one: plain[one]["_score"] for one in shared}
    )
    without = scores(searches.ranked(body, of_shards))
    assert any(without[one] != found[one] for one in shared & without.keys())


def test_only_the_shards_that_are_preferred_are_searched(
    searches: Searches, of_shards: str
) -> None:
    body = {**BODY, "explain": True}
    for shard in (0, 2):
        answer = searches.ranked(body, of_shards, preference=f"_shards:{shard}")
        assert answer["_shards"]["total"] == 1
        assert {hit["_shard"] for hit in answer["hits"]["hits"]} == {f"[{of_shards}][{shard}]"}


# OpenSearch says so once in a node's life, of whichever search asks first.
@pytest.mark.filterwarnings("ignore:Loading the fielddata on the _id field")
@pytest.mark.parametrize("allowed", ["true", "false"])
def test_a_page_without_a_shard_is_ranked_or_refused_as_is_asked(
    searches: Searches, of_shards: str, allowed: str
) -> None:
    (one, *_) = ids(searches.plain(BODY, of_shards))
    script = f"if (doc['_id'].value == '{one}') {{ throw new RuntimeException() }} return true"
    query = {"bool": {"must": [QUERY], "filter": [{"script": {"script": script}}]}}
    asked = {"allow_partial_search_results": allowed}
    if allowed == "false":
        with pytest.raises(NeuralrankError):
            searches.any({**BODY, "query": query}, of_shards, **asked)
        return
    answer = searches.any({**BODY, "query": query}, of_shards, **asked)
    assert answer["_shards"]["failed"] == 1
    assert report(answer)["reranked"]
    details = [note["detail"] for note in report(answer)["degraded"]]
    assert "the k-NN search failed on 1 of 3 shards" in details
    assert ids(answer)
    assert one not in ids(answer)


def test_pages_are_cached_where_that_is_asked(searches: Searches, order: list[str]) -> None:
    def lookups() -> int:
        stats = searches.client.indices.stats(index=INDEX, metric="request_cache")
        counts = stats["_all"]["total"]["request_cache"]
        return int(counts["hit_count"] + counts["miss_count"])

    before = lookups()
    assert ids(searches.ranked(BODY)) == order
    assert lookups() == before  # only answers without hits are, by themselves
    assert ids(searches.ranked(BODY, request_cache="true")) == order
    assert lookups() > before


def test_shards_are_reduced_a_few_at_a_time_where_that_is_asked(
    searches: Searches, of_shards: str
) -> None:
    answer = searches.ranked(BODY, of_shards, batched_reduce_size="2")
    assert answer["num_reduce_phases"] > 1
    assert "num_reduce_phases" not in searches.ranked(BODY, of_shards)


def test_aggregations_and_suggestions_name_their_type_where_that_is_asked(
    searches: Searches, order: list[str]
) -> None:
    suggest = {"words": {"text": "wireles", "term": {"field": "title"}}}
    body = {**BODY, "aggs": {"brands": {"terms": {"field": "brand.keyword"}}}, "suggest": suggest}
    answer = searches.ranked(body, typed_keys="true")
    assert ids(answer) == order
    assert list(answer["aggregations"]) == ["sterms#brands"]
    assert list(answer["suggest"]) == ["term#words"]


def test_a_total_is_a_number_where_that_is_asked(searches: Searches, order: list[str]) -> None:
    answer = searches.ranked(BODY, rest_total_hits_as_int="true")
    assert ids(answer) == order
    assert answer["hits"]["total"] == searches.plain(BODY)["hits"]["total"]["value"]


def test_limits_of_time_and_of_hits_are_kept(searches: Searches, order: list[str]) -> None:
    assert ids(searches.ranked({**BODY, "timeout": "10s"})) == order
    answer = searches.ranked({**BODY, "terminate_after": 3})
    assert answer["terminated_early"]
    assert answer["hits"]["total"]["value"] >= 3


def test_min_score_of_the_body_is_of_the_query_and_keeps_neighbours_out(searches: Searches) -> None:
    whole = searches.plain({**BODY, "size": 100})
    least = whole["hits"]["hits"][7]["_score"]
    body = {**BODY, "min_score": least}
    answer = searches.ranked(body, notes=frozenset({"not_applicable"}))
    plain = searches.plain(body)
    assert sorted(ids(answer)) == sorted(ids(plain))
    assert answer["hits"]["total"] == plain["hits"]["total"]
    (note,) = report(answer)["degraded"]
    assert note["detail"].startswith("no vector leg: min_score")


def test_min_score_of_the_section_is_of_the_new_score(searches: Searches) -> None:
    whole = searches.ranked({**BODY, "size": WINDOW})["hits"]["hits"]
    least = whole[4]["_score"]
    answer = searches.ranked({**BODY, "ext": {"neural_rank": {"min_score": least}}})
    assert ids(answer) == [hit["_id"] for hit in whole if hit["_score"] >= least]
    assert report(answer)["dropped_count"] > 0


def test_a_search_that_is_switched_off_is_left_alone(searches: Searches) -> None:
    body = {**BODY, "ext": {"neural_rank": {"enabled": False}}}
    searches.left_alone(body, "ext.neural_rank.enabled is false")


def test_neighbours_say_what_they_match_as_hits_of_the_query_do(searches: Searches) -> None:
    named = {
        "bool": {
            "must": [{"multi_match": {**QUERY["multi_match"], "_name": "words"}}],
            "should": [{"term": {"brand.keyword": {"value": "Apple", "_name": "apple"}}}],
            "filter": [{"exists": {"field": "price", "_name": "priced"}}],
        }
    }
    # Most of what the query finds is brought by vectors.
    ext = {"neural_rank": {"window": 5, "k": 30}}
    body = {"query": named, "size": 35}
    theirs = searches.plain({**body, "size": 100})["hits"]["hits"]
    matched = {hit["_id"]: hit["matched_queries"] for hit in theirs}
    answer = searches.any({**body, "ext": ext})
    shown = {hit["_id"]: hit["matched_queries"] for hit in answer["hits"]["hits"]}
    assert len(shown.keys() & matched.keys()) > 20
    for one, names in shown.items():
        assert names == matched.get(one, ["priced"])
    scored = searches.any({**body, "ext": ext}, include_named_queries_score="true")
    for hit in scored["hits"]["hits"]:
        assert list(hit["matched_queries"]) == shown[hit["_id"]]
        assert all(isinstance(score, float) for score in hit["matched_queries"].values())

"""Whatever the query is: its hits are re-ranked, none of them is lost, its conditions hold."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from neuralrank.errors import InvalidInput
from neuralrank.opensearch.packing import PACKED, VECTOR, unpack
from tests.e2e.shop import INDEX, TOO_LATE
from tests.plugin.conftest import FIELDS, QUERY, TEXT, WINDOW, Searches, ids, reasons, report

APPLE = {"term": {"brand.keyword": "Apple"}}
IN_STOCK = {"term": {"in_stock": True}}
CHEAP = {"range": {"price": {"lte": 200}}}

WITH_TEXT: dict[str, dict[str, Any]] = {
    "match": {"match": {"title": "wireless headphones"}},
    "match in Chinese": {"match": {"title.zh": "蓝牙耳机"}},
    "match with operator and fuzziness": {
        "match": {"title": {"query": "wireles hedphones", "operator": "and", "fuzziness": "AUTO"}}
    },
    "multi_match": QUERY,
    "multi_match, cross_fields": {
        "multi_match": {"query": "apple phone", "fields": FIELDS, "type": "cross_fields"}
    },
    "match_phrase": {"match_phrase": {"title": "running shoes"}},
    "match_phrase_prefix": {"match_phrase_prefix": {"title": "running sho"}},
    "match_bool_prefix": {"match_bool_prefix": {"title": "wireless head"}},
    "query_string": {"query_string": {"query": "title:wireless AND title:mouse"}},
    "simple_query_string": {"simple_query_string": {"query": "wireless", "fields": ["title"]}},
    "combined_fields": {"combined_fields": {"query": TEXT, "fields": ["title", "category"]}},
    "bool": {
        "bool": {
            "must": [QUERY],
            "should": [{"match": {"brand": "Apple"}}],
            "filter": [IN_STOCK],
            "must_not": [{"term": {"brand.keyword": "Sony"}}],
        }
    },
    "bool in bool": {"bool": {"should": [{"bool": {"must": [QUERY], "filter": [CHEAP]}}]}},
    "dis_max": {"dis_max": {"queries": [QUERY, {"match": {"brand": "Apple"}}]}},
    "boosting": {
        "boosting": {"positive": QUERY, "negative": APPLE, "negative_boost": 0.5},
    },
    "constant_score": {"constant_score": {"filter": {"match": {"title": "wireless"}}}},
    "constant_score for each field": {
        "bool": {
            "should": [
                {"constant_score": {"filter": {"match": {field: "wireless phone"}}, "boost": boost}}
                for field, boost in (("title", 3), ("description", 1))
            ]
        }
    },
    "function_score": {
        "function_score": {
            "query": QUERY,
            "functions": [{"field_value_factor": {"field": "rating", "missing": 1}}],
            "boost_mode": "multiply",
        }
    },
    "function_score, by random": {"function_score": {"query": QUERY, "random_score": {}}},
    "script_score": {
        "script_score": {"query": QUERY, "script": {"source": "_score * doc['rating'].value"}}
    },
    "wrapper": {"wrapper": {"query": "eyJtYXRjaCI6eyJ0aXRsZSI6IndpcmVsZXNzIn19"}},
    "template": {"template": {"match": {"title": "wireless"}}},
}

WITHOUT_TEXT: dict[str, dict[str, Any]] = {
    "match_all": {"match_all": {}},
    "term": APPLE,
    "terms": {"terms": {"brand.keyword": ["Apple", "Sony"]}},
    "range": CHEAP,
    "ids": {"ids": {"values": ["A", "B", "C"]}},
    "exists": {"exists": {"field": "price"}},
    "prefix": {"prefix": {"brand.keyword": "A"}},
    "wildcard": {"wildcard": {"brand.keyword": "*o*"}},
    "fuzzy": {"fuzzy": {"title": "wireles"}},
    "regexp": {"regexp": {"brand.keyword": "A.*"}},
    "more_like_this": {
        "more_like_this": {"fields": ["title"], "like": TEXT, "min_term_freq": 1, "min_doc_freq": 1}
    },
    "bool of filters": {"bool": {"filter": [APPLE, IN_STOCK]}},
}


@pytest.mark.parametrize("query", WITH_TEXT.values(), ids=WITH_TEXT)
def test_hits_are_ranked_and_none_is_lost(searches: Searches, query: dict[str, Any]) -> None:
    said, notes = {}, frozenset[str]()
    if query.keys() & {"wrapper", "template"}:
        # They hide what was typed, and a template what it excludes.
        said = {"query_text": "wireless"}
        notes = frozenset({"not_applicable"} if "template" in query else ())
    ext = {"neural_rank": {"window": 100, **said}}
    plain = searches.plain({"query": query, "size": 100})
    answer = searches.ranked({"query": query, "size": 100, "ext": ext}, notes=notes)
    assert plain["hits"]["total"]["value"] <= 100
    assert set(ids(plain)) <= set(ids(answer))
    assert len(ids(answer)) == len(set(ids(answer)))
    # k is 10: so many at most that the query did not find.
    assert len(ids(answer)) <= len(ids(plain)) + 10


def test_what_the_query_does_not_want_is_put_behind(searches: Searches) -> None:
    text = "running shoes without nike"

    def page(**options: Any) -> dict[str, Any]:
        body = {"query": {"multi_match": {"query": text, "fields": FIELDS}}, "size": WINDOW}
        ext = {"neural_rank": {"explain": True, "bundle": "none", **options}}
        answer = searches.ranked({**body, "ext": ext})
        return {row["id"]: row for row in report(answer)["results"]}

    read, plain = page(), page(exclusions=False)
    nike = "shoe-nike-pegasus"
    assert list(plain).index(nike) < list(read).index(nike)
    assert read[nike]["summary"].endswith("its title names what the query excludes (nike)")
    assert read[nike]["relevance"] < plain[nike]["relevance"]
    assert not any("excludes" in row["summary"] for name, row in read.items() if name != nike)
    assert not any("excludes" in row["summary"] for row in plain.values())


@pytest.mark.parametrize("query", WITHOUT_TEXT.values(), ids=WITHOUT_TEXT)
def test_without_text_user_and_item_a_search_is_left_alone(
    searches: Searches, query: dict[str, Any]
) -> None:
    searches.left_alone({"query": query}, "there is no query text, user, item or filter")


@pytest.mark.parametrize("query", WITHOUT_TEXT.values(), ids=WITHOUT_TEXT)
def test_without_text_the_hits_are_ranked_for_who_asks(
    searches: Searches, query: dict[str, Any]
) -> None:
    body = {"query": query, "size": 100, "ext": {"neural_rank": {"user_id": "A", "window": 200}}}
    found = searches.plain({"query": query, "size": 200})
    answer = searches.ranked(body)
    assert set(ids(found)) <= {*ids(answer), *ids(searches.ranked({**body, "from": 100}))}


def test_a_body_without_a_query_is_one_of_all(searches: Searches) -> None:
    searches.left_alone({}, "there is no query text, user, item or filter")
    ext = {"neural_rank": {"similar_to": "head-sony-xm5"}}
    assert "head-bose-qc" in ids(searches.ranked({"size": 3, "ext": ext}))


def test_an_item_that_is_not_there_is_no_lack_of_a_model(searches: Searches) -> None:
    answer = searches.any({"size": 3, "ext": {"neural_rank": {"similar_to": "nowhere"}}})
    assert reasons(answer) == {"not_applicable"}
    # Of the vector leg; the ranking says so in other words.
    assert "has no item 'nowhere'" in report(answer)["degraded"][0]["detail"]


# Finds one of Apple by its words.
MAC: dict[str, Any] = {"match": {"title": "mac laptop"}}
CONDITIONS: dict[str, dict[str, Any]] = {
    "match of a keyword": {
        "query": {"bool": {"must": [MAC, {"match": {"brand.keyword": "Apple"}}]}}
    },
    "match_phrase of a keyword": {
        "query": {"bool": {"must": [MAC, {"match_phrase": {"brand.keyword": "Apple"}}]}}
    },
    "match_bool_prefix of a keyword": {
        "query": {"bool": {"must": [MAC, {"match_bool_prefix": {"brand.keyword": "Appl"}}]}}
    },
    "multi_match of a keyword": {
        "query": {
            "bool": {
                "must": [MAC, {"multi_match": {"query": "Apple", "fields": ["brand.keyword^2"]}}]
            }
        }
    },
    "filter": {"query": {"bool": {"must": [MAC], "filter": [APPLE]}}},
    "must_not": {"query": {"bool": {"must": [MAC], "must_not": [{"bool": {"must_not": APPLE}}]}}},
    "must": {"query": {"bool": {"must": [MAC, APPLE]}}},
    "in function_score": {
        "query": {"function_score": {"query": {"bool": {"must": [MAC], "filter": [APPLE]}}}}
    },
    "in boosting": {
        "query": {
            "boosting": {
                "positive": {"bool": {"must": [MAC], "filter": [APPLE]}},
                "negative": IN_STOCK,
                "negative_boost": 0.9,
            }
        }
    },
    "in each of dis_max": {
        "query": {
            "dis_max": {
                "queries": [
                    {"bool": {"must": [MAC], "filter": [APPLE]}},
                    {"bool": {"must": [{"match": {"title.zh": "手机"}}], "filter": [APPLE]}},
                ]
            }
        }
    },
    "in each of should": {
        "query": {
            "bool": {
                "should": [
                    {"bool": {"must": [MAC], "filter": [APPLE]}},
                    {"bool": {"must": [{"match": {"title.zh": "手机"}}], "filter": [APPLE]}},
                ]
            }
        }
    },
    "post_filter": {"query": MAC, "post_filter": APPLE},
}


@pytest.mark.parametrize("body", CONDITIONS.values(), ids=CONDITIONS)
def test_neighbours_are_held_to_the_conditions_of_the_query(
    searches: Searches, body: dict[str, Any]
) -> None:
    answer = searches.ranked({**body, "size": 30})
    assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}
    assert len(ids(answer)) > len(ids(searches.plain({**body, "size": 30}))), "neighbours came"


# The shop, and with each item, nested and as children, in which sizes it is offered: 42 is Apple's.
OFFERS = "plugin-tests-offers"
NESTED = {"nested": {"path": "offers", "query": {"term": {"offers.size": "42"}}}}
JOINED: dict[str, dict[str, Any]] = {
    "nested": {"bool": {"must": [MAC, NESTED]}},
    "nested, with text": {
        "bool": {
            "must": [
                MAC,
                {
                    "nested": {
                        "path": "offers",
                        "query": {
                            "bool": {
                                "must": [{"match": {"offers.name": "offer"}}],
                                "filter": [{"term": {"offers.size": "42"}}],
                            }
                        },
                    }
                },
            ]
        }
    },
    "has_child": {
        "bool": {
            "must": [MAC, {"has_child": {"type": "offer", "query": {"term": {"size": "42"}}}}],
        }
    },
    "has_child, with text": {
        "bool": {
            "must": [
                MAC,
                {
                    "has_child": {
                        "type": "offer",
                        "max_children": 1,
                        "query": {
                            "bool": {
                                "must": [{"match": {"name": "offer"}}],
                                "filter": [{"term": {"size": "42"}}],
                            }
                        },
                    }
                },
            ]
        }
    },
}


@pytest.fixture(scope="module")
def offers(searches: Searches) -> Iterator[str]:
    client = searches.client
    (shop,) = client.indices.get(index=INDEX).values()
    fields = {"size": {"type": "keyword"}, "name": {"type": "text"}}
    join = {"type": "join", "relations": {"item": "offer"}}
    shop["mappings"]["properties"] |= {
        **fields,
        "offers": {"type": "nested", "properties": fields},
        "maker": {"type": "alias", "path": "brand.keyword"},
        "join": join,
    }
    settings: dict[str, Any] = {"knn": True, "number_of_replicas": 0}
    if "analysis" in shop["settings"]["index"]:
        settings["analysis"] = shop["settings"]["index"]["analysis"]
    client.indices.delete(index=OFFERS, params={"ignore_unavailable": "true"})
    client.indices.create(
        index=OFFERS, body={"settings": {"index": settings}, "mappings": shop["mappings"]}
    )
    script = """
        def size = ctx._source.brand == 'Apple' ? '42' : '40';
        ctx._source.offers = [['size': size, 'name': 'an offer']];
        ctx._source.join = 'item';
    """
    client.reindex(
        body={"source": {"index": INDEX}, "dest": {"index": OFFERS}, "script": {"source": script}}
    )
    client.indices.refresh(index=OFFERS)
    found = client.search(index=OFFERS, body={"size": 1_000, "_source": ["brand"]})
    lines: list[dict[str, Any]] = []
    for hit in found["hits"]["hits"]:
        size = "42" if hit["_source"].get("brand") == "Apple" else "40"
        join_to = {"name": "offer", "parent": hit["_id"]}
        lines.append({"index": {"_id": f"offer-{hit['_id']}", "routing": hit["_id"]}})
        lines.append({"size": size, "name": "an offer", "join": join_to})
    client.bulk(body=lines, index=OFFERS, params={"refresh": "true"})
    yield OFFERS
    client.indices.delete(index=OFFERS)


@pytest.mark.parametrize("query", JOINED.values(), ids=JOINED)
def test_neighbours_are_held_to_conditions_on_what_is_joined(
    searches: Searches, offers: str, query: dict[str, Any]
) -> None:
    body = {"query": query, "size": 30}
    answer = searches.ranked(body, offers)
    assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}
    assert len(ids(answer)) > len(ids(searches.plain(body, offers))), "neighbours came"


@pytest.mark.parametrize("join", [{"nested": {"path": "offers"}}, {"has_child": {"type": "offer"}}])
def test_neighbours_show_what_is_joined_to_them(
    searches: Searches, offers: str, join: dict[str, dict[str, Any]]
) -> None:
    ((kind, said),) = join.items()
    field = "offers.size" if kind == "nested" else "size"
    offer = {kind: {**said, "query": {"term": {field: "42"}}, "inner_hits": {}}}
    body = {"query": {"bool": {"must": [MAC, offer]}}, "size": 30}
    answer = searches.ranked(body, offers)
    assert len(ids(answer)) > len(ids(searches.plain(body, offers))), "neighbours came"
    for hit in answer["hits"]["hits"]:
        (inner,) = hit["inner_hits"].values()
        assert inner["hits"]["total"]["value"] == 1


EXACT: dict[str, dict[str, Any]] = {
    "a name in a flat object": {"match": {"attributes.内存": "16GB"}},
    "several names in it": {
        "multi_match": {"query": "16GB", "fields": ["attributes.内存", "attributes.memory"]}
    },
    "all of it": {"match": {"attributes": "16GB"}},
    "an alias": {"match": {"maker": "Apple"}},
    "the id": {"match": {"_id": "A"}},
    "a pattern": {"multi_match": {"query": "Apple", "fields": ["brand.key*"]}},
}


@pytest.mark.parametrize("condition", EXACT.values(), ids=EXACT)
def test_neighbours_have_what_is_searched_for_as_it_is(
    searches: Searches, offers: str, condition: dict[str, Any]
) -> None:
    body = {"query": condition, "size": 100, "ext": {"neural_rank": {"window": 100, "k": 100}}}
    plain = ids(searches.plain(body, offers))
    assert plain
    assert set(ids(searches.ranked(body, offers))) == set(plain)


def knn(searches: Searches, **more: Any) -> dict[str, Any]:
    vector = unpack(searches.client.get(index=INDEX, id="A")["_source"][PACKED])
    assert vector is not None
    return {"knn": {VECTOR: {"vector": vector.tolist(), "k": 2, **more}}}


@pytest.mark.parametrize("ext", [{"user_id": "B"}, {"query_text": "laptop"}])
def test_neighbours_are_held_to_the_filter_of_a_vector_query(
    searches: Searches, ext: dict[str, str]
) -> None:
    body = {"query": knn(searches, filter=APPLE), "size": 30, "ext": {"neural_rank": ext}}
    answer = searches.ranked(body)
    assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}
    assert len(ids(answer)) > len(ids(searches.plain(body))), "neighbours came"
    free = searches.ranked({**body, "query": knn(searches)})
    assert len({hit["_source"]["brand"] for hit in free["hits"]["hits"]}) > 1


def test_neighbours_are_held_to_the_conditions_of_words_or_vectors(searches: Searches) -> None:
    words = {"bool": {"must": [MAC], "filter": [APPLE]}}
    query = {"bool": {"should": [words, knn(searches, filter=APPLE)]}}
    answer = searches.ranked({"query": query, "size": 30})
    assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}


def test_neighbours_are_held_to_the_conditions_of_a_wrapped_query(searches: Searches) -> None:
    inner = {"bool": {"must": [MAC], "filter": [APPLE]}}
    wrapped = base64.b64encode(json.dumps(inner).encode()).decode()
    ext = {"neural_rank": {"query_text": "mac laptop"}}
    body = {"query": {"wrapper": {"query": wrapped}}, "size": 30, "ext": ext}
    answer = searches.ranked(body)
    assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}


@pytest.mark.parametrize("where", ["filter", "must_not"])
def test_neighbours_are_held_to_conditions_on_derived_fields(
    searches: Searches, where: str
) -> None:
    script = "def brand = doc['brand.keyword']; if (brand.size() > 0) { emit(brand.value) }"
    body = {
        "derived": {"maker": {"type": "keyword", "script": {"source": script}}},
        "query": {
            "bool": {
                "must": [{"match": {"title": "wireless headphones"}}],
                where: [{"term": {"maker": "Sony"}}],
            }
        },
        "size": 30,
    }
    answer = searches.ranked(body)
    brands = {hit["_source"]["brand"] for hit in answer["hits"]["hits"]}
    assert brands == {"Sony"} if where == "filter" else "Sony" not in brands
    assert len(ids(answer)) > len(ids(searches.plain(body))), "neighbours came"


@pytest.mark.parametrize(
    "must",
    [
        [{"query_string": {"query": "title:laptop AND brand.keyword:Apple"}}],
        [{"query_string": {"query": "title:(mac laptop) -brand.keyword:Lenovo"}}],
        [{"simple_query_string": {"query": "laptop + -thinkpad", "fields": ["title"]}}],
        [MAC, {"match": {"in_stock": False}}],
    ],
    ids=["required", "excluded", "excluded, simple", "no text"],
)
def test_neighbours_are_held_to_what_a_query_says_of_fields(
    searches: Searches, must: list[Any]
) -> None:
    body = {"query": {"bool": {"must": must}}, "size": 100}
    found = set(ids(searches.plain(body)))
    answer = searches.any(body)
    assert not reasons(answer) & TOO_LATE
    if len(must) == 1:
        assert set(ids(answer)) == found
    else:
        assert not any(hit["_source"]["in_stock"] for hit in answer["hits"]["hits"])


def test_no_neighbours_where_nobody_can_tell_what_a_query_excludes(searches: Searches) -> None:
    query = {"function_score": {"query": QUERY, "min_score": 3}}
    body = {"query": query, "size": 100, "ext": {"neural_rank": {"window": 100}}}
    answer = searches.ranked(body, notes=frozenset({"not_applicable"}))
    (note,) = report(answer)["degraded"]
    assert "can't be held to the conditions of [function_score with min_score]" in note["detail"]
    assert set(ids(answer)) == set(ids(searches.plain(body)))


def test_an_alternative_without_conditions_lets_all_neighbours_in(searches: Searches) -> None:
    query = {"dis_max": {"queries": [QUERY, {"bool": {"must": [QUERY], "filter": [APPLE]}}]}}
    answer = searches.ranked({"query": query, "size": 30})
    assert len({hit["_source"]["brand"] for hit in answer["hits"]["hits"]}) > 1


def test_a_query_that_matches_nothing_is_answered_by_neighbours(searches: Searches) -> None:
    body = {"query": {"match": {"title": "earbuds"}}}
    assert searches.plain(body)["hits"]["total"]["value"] == 0
    answer = searches.ranked(body)
    assert len(ids(answer)) == 10
    assert answer["hits"]["total"]["value"] == 10


def test_a_query_that_matches_nothing_is_empty_without_neighbours(searches: Searches) -> None:
    nobody = {"term": {"brand.keyword": "nobody"}}
    body = {"query": {"bool": {"must": [QUERY], "filter": [nobody]}}}
    searches.left_alone(body, "nothing was found")


def test_a_hybrid_query_needs_neural_search(searches: Searches) -> None:
    """Where it is not, the node says what it would say without us."""
    body = {"query": {"hybrid": {"queries": [QUERY, {"match": {"brand": "Apple"}}]}}}
    plugins = searches.client.cat.plugins(params={"format": "json"})
    if any(plugin["component"] == "opensearch-neural-search" for plugin in plugins):
        assert len(ids(searches.ranked(body))) == 10
        return
    for search in (searches.plain, searches.any):
        with pytest.raises(InvalidInput, match=r"unknown query \[hybrid\]"):
            search(body)


def test_a_query_that_opensearch_refuses_is_refused_as_without_the_plugin(
    searches: Searches,
) -> None:
    body = {"query": {"range": {"price": {"gte": "cheap"}}}, "ext": {"neural_rank": {}}}
    for search in (searches.plain, searches.any):
        with pytest.raises(InvalidInput, match=r"For input string: .{0,2}cheap"):
            search(body)


def test_ranking_is_the_sidecars_and_not_the_querys(searches: Searches) -> None:
    body = {"query": {"match": {"title.zh": "手机"}}, "size": 5}
    of_one, of_other = (
        searches.ranked({**body, "ext": {"neural_rank": {"user_id": user, "explain": True}}})
        for user in "AB"
    )
    affinity = [
        {result["id"]: result.get("affinity") for result in report(answer)["results"]}
        for answer in (of_one, of_other)
    ]
    both = affinity[0].keys() & affinity[1].keys()
    assert both
    assert any(affinity[0][one] != affinity[1][one] for one in both)

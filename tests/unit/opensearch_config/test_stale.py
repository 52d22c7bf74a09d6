"""What a difference of an index from the files needs."""

import copy
from typing import Any

import pytest

from opensearch_config import product_index
from opensearch_config.stale import settable, stale


@pytest.fixture
def wanted() -> dict[str, Any]:
    return product_index()


def found(wanted: dict[str, Any], live: dict[str, Any]) -> list[str]:
    return list(map(str, stale(wanted, live["mappings"]["properties"], live["settings"])))


def test_an_index_that_was_made_of_the_files_differs_in_nothing(wanted: dict[str, Any]) -> None:
    live = copy.deepcopy(wanted)
    live["mappings"]["properties"]["shelf"] = {"type": "keyword"}
    live["mappings"]["properties"]["title"]["fields"]["de"] = {"type": "text"}
    assert found(wanted, live) == []


def test_fields_and_subfields_need_a_reindex(wanted: dict[str, Any]) -> None:
    live = copy.deepcopy(wanted)
    fields = live["mappings"]["properties"]
    del fields["title"]["fields"]["zh"]
    del fields["price"]
    fields["brand"]["analyzer"] = "standard"
    assert found(wanted, live) == [
        "title gains a subfield zh with analyzer cjk: needs a reindex",
        "brand.analyzer is standard, the file says product_text: needs a reindex",
        "brand analyses queries by standard, the file says product_text: needs a reload",
        "gains a field price of type float: needs a reindex",
    ]


def test_what_analyses_documents_needs_a_reindex_down_to_its_parts(wanted: dict[str, Any]) -> None:
    live = copy.deepcopy(wanted)
    live["settings"]["analysis"]["filter"]["english_stop"]["stopwords"] = "_none_"
    (difference,) = found(wanted, live)
    assert difference.startswith(
        "analysis.filter.english_stop.stopwords is _none_, the file says ['an', 'and', "
    )
    assert difference.endswith(": needs a reindex")


def test_vectors_apart_from_documents_need_a_reindex() -> None:
    wanted = product_index("encoder@000000000001", 8)
    settings = {**wanted["settings"], "knn.derived_source": {"enabled": "true"}}
    live = {"mappings": wanted["mappings"], "settings": settings}
    assert found(wanted, live) == [
        "knn.derived_source.enabled is true, the file says false: needs a reindex"
    ]
    settings["knn.derived_source"] = {"enabled": "false"}
    assert found(wanted, live) == []
    # Without vectors nothing is said, and an index without k-NN has no such setting.
    assert found(product_index(), {**live, "settings": product_index()["settings"]}) == []


def test_what_analyses_queries_only_needs_a_reload(wanted: dict[str, Any]) -> None:
    live = copy.deepcopy(wanted)
    analysis = wanted["settings"]["analysis"]
    analysis["filter"]["synonyms"] = {"type": "synonym_graph", "synonyms": ["a, b"]}
    analysis["analyzer"]["query"] = {"tokenizer": "standard", "filter": ["synonyms"]}
    wanted["mappings"]["properties"]["title"]["search_analyzer"] = "query"
    assert found(wanted, live) == [
        "title analyses queries by product_text, the file says query: needs a reload",
        "gains the filter synonyms: needs a reload",
        "gains the analyzer query: needs a reload",
    ]
    live = copy.deepcopy(wanted)
    analysis["filter"]["synonyms"] = {"type": "synonym_graph", "synonyms": ["a, c"]}
    assert found(wanted, live) == [
        "analysis.filter.synonyms.synonyms gains ['a, c'] and loses ['a, b']: needs a reload",
    ]


def test_a_synonym_filter_that_analyses_documents_too_needs_a_reindex(
    wanted: dict[str, Any],
) -> None:
    analysis = wanted["settings"]["analysis"]
    analysis["filter"]["synonyms"] = {"type": "synonym", "synonyms": ["a, b"]}
    analysis["analyzer"]["product_text"]["filter"].append("synonyms")
    live = copy.deepcopy(wanted)
    analysis["filter"]["synonyms"]["synonyms"] = ["a, c"]
    (words,) = found(wanted, live)
    assert words.endswith("needs a reindex")


def test_an_analyzer_of_a_teams_own_field_needs_a_reindex(wanted: dict[str, Any]) -> None:
    shelves = wanted["settings"]["analysis"]["analyzer"]["shelves"] = {"tokenizer": "standard"}
    live = copy.deepcopy(wanted)
    live["mappings"]["properties"]["shelf"] = {"type": "text", "analyzer": "shelves"}
    shelves["tokenizer"] = "whitespace"
    assert found(wanted, live) == [
        "analysis.analyzer.shelves.tokenizer is standard, the file says whitespace: needs a reindex"
    ]


def test_a_search_analyzer_that_the_file_lacks_goes(wanted: dict[str, Any]) -> None:
    live = copy.deepcopy(wanted)
    live["mappings"]["properties"]["title"]["search_analyzer"] = "query"
    assert found(wanted, live) == [
        "title analyses queries by query, the file says product_text: needs a reload",
    ]


@pytest.mark.parametrize(
    ("files", "live", "differs"),
    [
        ({}, {"refresh_interval": "30s", "number_of_replicas": "3"}, {}),  # not named: theirs
        ({"number_of_replicas": 1}, {"number_of_replicas": "1"}, {}),
        ({"auto_expand_replicas": "false"}, {"number_of_replicas": "1"}, {}),
        ({"refresh_interval": "1s"}, {}, {"refresh_interval": "1s"}),
        # OpenSearch sets the number itself.
        (
            {"number_of_replicas": 1, "auto_expand_replicas": "0-1"},
            {"number_of_replicas": "0", "auto_expand_replicas": "0-1"},
            {},
        ),
        (
            {"number_of_replicas": 1},
            {"number_of_replicas": "0", "auto_expand_replicas": "0-all"},
            {"number_of_replicas": 1, "auto_expand_replicas": False},
        ),
    ],
)
def test_refresh_and_replicas_can_be_set(
    files: dict[str, Any], live: dict[str, Any], differs: dict[str, Any]
) -> None:
    wanted, words = settable({"settings": {"index": files}}, live)
    assert len(words) == len(differs)
    assert differs.items() <= wanted.items()

import copy

from opensearch_config.differences import differences
from opensearch_config.files import product_index


def test_settings_as_opensearch_gives_them_back_are_no_difference() -> None:
    wanted = {"number_of_shards": 1, "knn": True, "analysis": {"filter": {"x": {"split": False}}}}
    live = {
        "number_of_shards": "1",
        "knn": "true",
        "uuid": "abc",
        "analysis": {"filter": {"x": {"split": "false", "type": "y"}}},
    }
    assert list(differences(wanted, live)) == []


def test_a_difference_is_said_in_words() -> None:
    wanted = product_index()["mappings"]
    live = copy.deepcopy(wanted)
    live["properties"]["title"]["analyzer"] = "standard"
    del live["properties"]["price"]
    assert sorted(differences(wanted, live)) == [
        "properties.price is not set, the file says {'type': 'float'}",
        "properties.title.analyzer is standard, the file says product_text",
    ]


def test_texts_that_differ_in_case_only_are_different() -> None:
    assert list(differences({"vector_field": "Vector"}, {"vector_field": "vector"})) == [
        "vector_field is vector, the file says Vector"
    ]


def test_lists_are_compared_as_a_whole() -> None:
    wanted = {"request_processors": [{"a": {"k": 100}}]}
    assert list(differences(wanted, {"request_processors": [{"a": {"k": 50}}]})) == [
        "request_processors[0].a.k is 50, the file says 100"
    ]
    (words,) = differences(wanted, {"request_processors": []})
    assert words.startswith("request_processors is [], the file says")


def test_what_only_the_cluster_has_counts_where_all_is_compared() -> None:
    """Options that were removed from the file of a pipeline would go on for all users."""
    wanted = {"request_processors": [{"a": {"k": 100}}], "response_processors": [{"b": {}}]}
    live = copy.deepcopy(wanted) | {"description": "edited"}
    live["response_processors"][0]["b"] = {"weights": {"popularity": 0.5}}
    assert list(differences(wanted, live)) == []
    assert list(differences(wanted, live, whole=True)) == [
        "response_processors[0].b.weights is {'popularity': 0.5}, the file does not have it",
        "description is edited, the file does not have it",
    ]
    (gone, other) = differences([{"b": {}}], [{"c": {}}], "p", whole=True)
    assert (gone, other) == (
        "p[0].b is not set, the file says {}",
        "p[0].c is {}, the file does not have it",
    )


def test_of_lists_of_texts_it_says_what_was_gained_and_lost() -> None:
    assert list(differences(["a", "b"], ["a", "c"], "synonyms")) == [
        "synonyms gains ['b'] and loses ['c']"
    ]
    assert list(differences(["a", "b"], ["b", "a"], "filter")) == [
        "filter is ['b', 'a'], the file says ['a', 'b']"
    ]
    assert list(differences(["a"], ["a"], "filter")) == []

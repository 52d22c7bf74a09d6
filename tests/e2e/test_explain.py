"""`neuralrank explain` on the example shop: what it says is checked against the search itself."""

from collections.abc import Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from opensearch_config import lexical_query
from tests.e2e.shop import INDEX, Shop, ids, open_shop

NARROW = "e2e_narrow"


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    return open_shop(stack)


@pytest.fixture(scope="module")
def client(stack: Settings) -> Iterator[OpenSearch]:
    opened = connect(stack)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def narrow(client: OpenSearch) -> Iterator[str]:
    """A pipeline that recalls three by words and two by vector."""
    body = client.search_pipeline.get(id="neural_rank")["neural_rank"]
    body["request_processors"][0]["neural_recall"].update(window=3, k=2)
    client.search_pipeline.put(id=NARROW, body=body)
    yield NARROW
    client.search_pipeline.delete(id=NARROW)


def explain(shop: Shop, item: str, *more: str, query: str = "电脑") -> dict[str, Any]:
    return shop.json("explain", INDEX, query, item, *more)


def test_its_places_are_those_of_the_searches(shop: Shop, client: OpenSearch) -> None:
    page = shop.json("search", INDEX, "电脑", "--user", "A", "--size", "100")
    item = ids(page)[2]
    why = explain(shop, item, "--user", "A")
    assert (why["state"], why["position"]) == ("ranked", 3)
    assert why["scored"]["score"] == pytest.approx(page["hits"][2]["score"], abs=0.02)

    found = client.search(
        index=INDEX,
        body={"query": lexical_query("电脑"), "size": 100},
        params={"search_pipeline": "_none"},
    )["hits"]
    scores = {hit["_id"]: hit["_score"] for hit in found["hits"]}
    assert why["lexical_place"]["total"] == found["total"]["value"]
    assert why["lexical_place"]["position"] == 1 + sum(
        score > scores[item] for score in scores.values()
    )
    assert why["lexical"]["score"] == pytest.approx(scores[item], rel=1e-4)
    assert sum(term["score"] for term in why["lexical"]["terms"]) == pytest.approx(
        scores[item], rel=1e-4
    )


def test_the_vectors_place_is_among_all_and_its_cosine_is_the_sidecars(shop: Shop) -> None:
    why = explain(shop, "B", "--user", "A")
    assert why["vector"]["cosine"] == pytest.approx(why["parts"]["query_similarity"], abs=1e-3)
    assert 0 <= why["vector"]["calibrated"] <= 1
    assert 1 <= why["vector"]["place"]["position"] <= why["vector"]["place"]["total"]
    assert why["vector"]["place"]["total"] > 100


def test_what_would_lift_it_adds_up_to_the_score_above(shop: Shop) -> None:
    why = explain(shop, "chair-ergonomic", "--user", "A")
    gap, mine = why["gap"], why["scored"]
    assert gap["points"] == pytest.approx(gap["above"]["score"] - mine["score"])
    assert sum(gap["by_part"].values()) == pytest.approx(gap["points"], abs=1e-4)
    possible = [lift for lift in gap["lifts"] if lift["needed"] is not None]
    assert possible
    for lift in possible:
        weight = mine["weights"][lift["part"]]
        raised = mine["score"] + weight * (lift["needed"] - lift["now"])
        assert raised == pytest.approx(gap["above"]["score"], abs=1e-4)


def test_affinity_names_the_events_that_made_it(shop: Shop) -> None:
    why = explain(shop, "B", "--user", "A")
    assert {event["id"] for event in why["events"]} <= set(why["parts"]["because_of"])
    assert "purchase" in {event["action"] for event in why["events"] if event["id"] == "A"}


def test_tokens_of_the_query_meet_the_title(shop: Shop) -> None:
    why = explain(shop, "A", query="apple 电脑")
    met = {each["field"]: each["met"] for each in why["meetings"]}
    assert met["title"] == ["appl", "电", "脑"]
    (apple,) = (term for term in why["lexical"]["terms"] if term["term"] == "appl")
    # BM25F: title^4 and brand^2, once each.
    assert {each["field"]: each["count"] for each in apple["fields"]} == {"title": 1, "brand": 1}


def test_a_filter_that_drops_it_is_named(shop: Shop) -> None:
    why = explain(shop, "A", "--user", "A", "--exclude-purchased")
    assert (why["state"], why["position"], why["scored"]) == ("dropped", None, None)
    assert why["dropped"]["reason"] == "purchased"
    why = explain(shop, "A", "--max-price", "500")
    assert "1000" in why["dropped"]["detail"]


def test_one_that_is_no_candidate_says_what_it_lacks(shop: Shop, narrow: str) -> None:
    why = explain(shop, "perfume-chanel", "--pipeline", narrow)
    assert (why["state"], why["lexical"], why["k"], why["window"]) == (
        "not_a_candidate",
        None,
        2,
        3,
    )
    words, vector = why["lacks"]
    assert "电" in words
    assert "outside k = 2" in vector
    place = explain(shop, "laptop-thinkpad-x1", "--pipeline", narrow)
    assert place["state"] == "not_a_candidate"
    assert "outside the window of 3" in place["lacks"][0]


def test_one_that_neighbours_pushed_out_of_the_window_has_its_place(
    shop: Shop, client: OpenSearch, narrow: str
) -> None:
    body = {"query": lexical_query("电脑"), "size": 5}
    page = client.search(index=INDEX, body=body, params={"search_pipeline": narrow})
    ranked = page["ext"]["neural_rank"]["candidates"]
    assert ranked > 3
    last = page["hits"]["hits"][ranked - 1]["_id"]
    why = explain(shop, last, "--pipeline", narrow)
    assert (why["state"], why["position"], why["window"]) == ("ranked", ranked, 3)


def test_a_person_gets_it_in_words(shop: Shop) -> None:
    done = shop.run("explain", INDEX, "电脑", "chair-ergonomic", "--user", "A")
    assert done.returncode == 0, done.stderr
    for words in ("by vector", "Lexical score", "What would lift it by one", "affinity", "pass "):
        assert words in done.stdout
    first = ids(shop.json("search", INDEX, "电脑", "--user", "A"))[0]
    assert (
        "Nothing is above it. It leads"
        in shop.run("explain", INDEX, "电脑", first, "--user", "A").stdout
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("no-such-index", "电脑", "A"), 4, "neuralrank index CATALOGUE"),
        ((INDEX, "电脑", "no-such-item"), 4, "no-such-item"),
        ((INDEX, "电脑", "A", "--user", "nobody-knows"), 4, "nobody-knows"),
        ((INDEX, " ", "A"), 3, "query is empty"),
        ((INDEX, "电脑", "A", "--pipeline", "no-such-pipeline"), 3, "config apply"),
    ],
)
def test_errors_say_what_to_do(
    shop: Shop, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = shop.run("explain", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_without_the_sidecar_it_says_so_and_explains_the_words(shop: Shop) -> None:
    done = shop.run("explain", INDEX, "电脑", "A", NEURALRANK_SIDECAR="127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert "can't be encoded" in done.stdout
    assert "Lexical score" in done.stdout

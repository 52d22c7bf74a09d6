"""Who likes several things is recommended of each: the interests of a user are searched apart."""

from typing import Any

import pytest

from neuralrank.client import Client
from neuralrank.errors import InvalidInput
from neuralrank.settings import Settings
from tests.e2e.shop import INDEX, event, eventually
from tests.plugin.conftest import Searches, ids, reasons, report

PHONES = ("C", "phone-xiaomi-15", "phone-huawei-nova")
BOOK, OTHER_BOOK = "book-dune", "book-foundation"
USER = "who reads and calls"


def body(**options: Any) -> dict[str, Any]:
    """Of two hits of the query and eight neighbours of the user, six."""
    ext = {"user_id": USER, "window": 2, "k": 8, **options}
    return {"size": 6, "ext": {"neural_rank": ext}}


def candidates(searches: Searches, **options: Any) -> list[str]:
    """All that were ranked."""
    count = report(searches.ranked(body(**options)))["candidates"]
    return ids(searches.ranked({**body(**options), "size": count}))


@pytest.fixture(scope="module", autouse=True)
def user(searches: Searches) -> None:
    for item in (*PHONES, BOOK):
        one = event(USER, "click", item)
        searches.client.index(index="ubi_events", body=one, params={"refresh": "true"})
    assert eventually(lambda: "no_user" not in reasons(searches.any(body())), 30)


def test_what_one_vector_misses_is_found(searches: Searches) -> None:
    mean, apart = candidates(searches, interests=1), candidates(searches)
    assert set(PHONES) <= set(mean)
    assert OTHER_BOOK not in mean
    assert {OTHER_BOOK, *PHONES} <= set(apart)
    assert len(apart) == len(set(apart)) <= 10


def test_a_service_without_the_plugin_gets_them(stack: Settings) -> None:
    with Client(stack.sidecar) as client:
        interests = client.interests(USER, index=INDEX, most=2)
        assert client.collaborative(USER, index=INDEX) == []
        assert client.interests("nobody", index=INDEX) == []
        phone, book = client.encode(items=["phone-xiaomi-15", BOOK], index=INDEX)
    assert [one.share for one in interests] == pytest.approx([0.75, 0.25], abs=0.01)
    for one, like, unlike in zip(interests, (phone, book), (book, phone), strict=True):
        assert one.vector @ like > one.vector @ unlike + 0.1


def test_pages_go_on_as_before(searches: Searches) -> None:
    whole = ids(searches.ranked(body()))
    pages = [searches.ranked({**body(), "from": start, "size": 2}) for start in (0, 2, 4)]
    assert [one for page in pages for one in ids(page)] == whole


def test_conditions_hold_for_each_interest(searches: Searches) -> None:
    apple = {"bool": {"filter": [{"term": {"brand.keyword": "Apple"}}]}}
    answer = searches.ranked({**body(), "query": apple})
    assert {hit["_source"]["brand"] for hit in answer["hits"]["hits"]} == {"Apple"}
    assert len(ids(answer)) > 1


def test_what_the_user_has_takes_no_neighbours_place(searches: Searches) -> None:
    """What somebody bought is nearest to what they like."""
    acts = {PHONES[0]: "purchase", PHONES[1]: "purchase", BOOK: "block", "laptop-rog-g16": "click"}
    for item, action in acts.items():
        one = event("buyer", action, item)
        searches.client.index(index="ubi_events", body=one, params={"refresh": "true"})
    options: dict[str, Any] = {"user_id": "buyer", "collaborative": False, "interests": 1}
    assert eventually(lambda: "no_user" not in reasons(searches.any(body(**options))), 30)
    first = set(ids(searches.plain({"size": 2})))
    assert not first & acts.keys()
    assert set(PHONES[:2]) <= set(candidates(searches, **options))
    without = {**options, "filters": {"exclude_purchased": True}}
    said = report(searches.ranked(body(**without)))
    assert said["dropped_count"] == 0
    assert said["candidates"] >= 8  # the neighbours, whether or not they are the query's hits, too
    searches.client.search_pipeline.put(
        id="of the pipeline",
        body={
            "request_processors": [{"neural_recall": {"timeout_ms": 5_000}}],
            "response_processors": [
                {"neural_rank": {"bundle": "none", "filters": {"exclude_purchased": True}}}
            ],
        },
    )
    asked = body(**options)
    answer = searches.any(asked, search_pipeline="of the pipeline")
    assert report(answer)["dropped_count"] == 0
    searches.client.search_pipeline.delete(id="of the pipeline")


def test_more_than_eight_are_refused(searches: Searches) -> None:
    with pytest.raises(InvalidInput, match=r"interests is \[9\].*from 1 to 8"):
        searches.any(body(interests=9))

"""How much is asked for, and from where: pages, scrolls, points in time."""

from typing import Any

import pytest

from tests.e2e.shop import INDEX
from tests.plugin.conftest import QUERY, WINDOW, Searches, ids

BODY: dict[str, Any] = {"query": QUERY, "_source": False}


def page(searches: Searches, start: int, size: int, **more: Any) -> list[str]:
    return ids(searches.ranked({**BODY, "from": start, "size": size, **more}))


@pytest.mark.parametrize("size", [1, 7, 10])
def test_pages_are_parts_of_one_order(searches: Searches, size: int) -> None:
    whole = page(searches, 0, WINDOW)
    assert len(whole) == WINDOW
    pages = [page(searches, start, size) for start in range(0, WINDOW - size + 1, size)]
    flat = [one for found in pages for one in found]
    assert len(flat) == len(set(flat)), "no hit comes twice"
    assert flat == whole[: len(flat)]


def test_what_a_page_shows_is_ranked_over_the_window(searches: Searches) -> None:
    plain = ids(searches.plain({**BODY, "size": WINDOW}))
    first = page(searches, 0, 10)
    assert not set(first) <= set(plain[:10]), "some came up from below the page"


def test_a_window_of_the_request_is_taken(searches: Searches) -> None:
    narrow = {"neural_rank": {"window": 5, "k": 1}}
    plain = ids(searches.plain({**BODY, "size": 5}))
    found = page(searches, 0, 5, ext=narrow)
    assert len(set(found) - set(plain)) <= 1


def test_size_0_is_left_alone(searches: Searches) -> None:
    counts = {"brands": {"terms": {"field": "brand.keyword"}}}
    answer = searches.left_alone({**BODY, "size": 0, "aggs": counts}, "size is 0")
    assert answer["aggregations"]["brands"]["buckets"]


def test_a_page_after_the_last_hit_is_empty(searches: Searches) -> None:
    body = {"query": {"match": {"title": "turntable"}}, "from": 25, "size": 5}
    assert ids(searches.any(body)) == []


def test_a_scroll_reads_everything_once_in_its_own_order(searches: Searches) -> None:
    body = {"query": {"match_all": {}}, "size": 50, "ext": {"neural_rank": {"user_id": "A"}}}
    answer = searches.any(body, scroll="1m")
    assert not answer["ext"]["neural_rank"]["reranked"]
    (note,) = answer["ext"]["neural_rank"]["degraded"]
    assert "a scroll reads everything" in note["detail"]
    seen = []
    while ids(answer):
        seen += ids(answer)
        answer = searches.client.scroll(body={"scroll_id": answer["_scroll_id"], "scroll": "1m"})
    searches.client.clear_scroll(body={"scroll_id": [answer["_scroll_id"]]})
    assert len(seen) == len(set(seen)) == searches.client.count(index=INDEX)["count"]


@pytest.fixture
def point_in_time(searches: Searches) -> Any:
    made = searches.client.create_pit(index=INDEX, params={"keep_alive": "2m"})["pit_id"]
    yield {"id": made, "keep_alive": "2m"}
    searches.client.delete_pit(body={"pit_id": [made]})


def test_pages_of_a_point_in_time_are_ranked_and_stay_while_the_index_changes(
    searches: Searches, point_in_time: dict[str, str]
) -> None:
    body = {**BODY, "pit": point_in_time, "size": 10}
    first = searches.ranked(body, index=None)
    assert first["pit_id"]
    new = {"title": QUERY["multi_match"]["query"]}
    searches.client.index(index=INDEX, id="new", body=new, params={"refresh": "true"})
    try:
        again = searches.ranked(body, index=None)
        second = searches.ranked({**body, "from": 10}, index=None)
        assert "new" in page(searches, 0, WINDOW)
    finally:
        searches.client.delete(index=INDEX, id="new", params={"refresh": "true"})
    assert ids(again) == ids(first)
    assert "new" not in ids(first)
    assert len({*ids(first), *ids(second)}) == 20


@pytest.mark.parametrize(
    "sort",
    [[{"_score": "desc"}, {"id": "asc"}], [{"price": "asc"}, {"id": "asc"}], [{"_doc": "asc"}]],
    ids=["by score and id", "by price", "by place in the index"],
)
def test_search_after_on_a_point_in_time_is_left_alone_from_its_first_page(
    searches: Searches, point_in_time: dict[str, str], sort: list[dict[str, str]]
) -> None:
    body = {**BODY, "pit": point_in_time, "size": 10, "sort": sort}
    first = searches.left_alone(body, "sorted by something other than _score", index=None)
    after = first["hits"]["hits"][-1]["sort"]
    second = searches.left_alone(
        {**body, "search_after": after}, "search_after needs the order of the index", index=None
    )
    assert len({*ids(first), *ids(second)}) == 20


def test_a_slice_is_ranked_in_itself(searches: Searches, point_in_time: dict[str, str]) -> None:
    found = []
    for number in (0, 1):
        part = {"id": number, "max": 2}
        body = {**BODY, "pit": point_in_time, "size": 30, "slice": part}
        found.append(set(ids(searches.ranked(body, index=None))))
    assert not found[0] & found[1]


def test_a_page_beyond_the_window_is_left_alone(searches: Searches) -> None:
    body = {**BODY, "from": WINDOW - 5, "size": 10}
    searches.left_alone(body, "from + size is beyond the window")

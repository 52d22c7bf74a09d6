"""How much is asked for, and from where: pages, scrolls, points in time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput, NeuralrankError
from tests.e2e.shop import INDEX, event, eventually
from tests.plugin.conftest import QUERY, WINDOW, Searches, ids, reasons, report

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


AFTER = frozenset({"partial_window"})
# How many hits the pages of BODY have in the window: those of the query, and k neighbours at most.
NARROW: dict[str, Any] = {"neural_rank": {"window": 10, "k": 4}}


def every_page(searches: Searches, body: dict[str, Any], size: int, **params: Any) -> list[Any]:
    """Pages from the first to the empty one after the last; also of what comes after the window."""
    pages = []
    for start in range(0, 10_000, size):
        answer = searches.any({**body, "from": start, "size": size}, **params)
        if not ids(answer):
            return pages
        assert report(answer)["reranked"]
        assert reasons(answer) <= AFTER
        pages.append(answer)
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("size", [3, 8, 25])
def test_pages_go_on_after_the_window_and_no_hit_is_missed_or_comes_twice(
    searches: Searches, size: int
) -> None:
    body = {**BODY, "ext": NARROW}
    pages = every_page(searches, body, size)
    flat = [one for found in pages for one in ids(found)]
    plain = ids(searches.plain({**BODY, "size": 1_000}))
    assert len(plain) > 30
    assert len(flat) == len(set(flat))
    assert set(plain) <= set(flat)
    assert len(flat) <= len(plain) + 4
    # What was ranked comes first, and then the query's own order.
    scores = [hit["_score"] for found in pages for hit in found["hits"]["hits"]]
    assert scores == sorted(scores, reverse=True)
    ranked = next(place for place, score in enumerate(scores) if score == 0)
    assert 10 <= ranked <= 14
    shown = set(flat[:ranked])
    assert flat[ranked:] == [one for one in plain if one not in shown]
    assert flat[:ranked] == ids(searches.ranked({**body, "size": ranked}))


@settings(max_examples=40)
@given(
    window=st.integers(1, 45),
    k=st.integers(1, 15),
    start=st.integers(0, 60),
    size=st.integers(1, 60),
)
def test_any_page_is_a_part_of_the_whole_list(
    searches: Searches, window: int, k: int, start: int, size: int
) -> None:
    body = {**BODY, "ext": {"neural_rank": {"window": window, "k": k}}}
    whole = ids(searches.any({**body, "size": 200}))
    assert len(whole) == len(set(whole))
    assert ids(searches.any({**body, "from": start, "size": size})) == whole[start : start + size]


def test_a_page_after_the_window_shows_what_was_asked_for(searches: Searches) -> None:
    body = {
        "query": QUERY,
        "_source": ["title"],
        "highlight": {"fields": {"title": {}}},
        "fields": ["price"],
        "from": 20,
        "size": 5,
        "aggs": {"price": {"avg": {"field": "price"}}},
        "ext": NARROW,
    }
    answer = searches.ranked(body, notes=AFTER)
    plain = searches.plain({**body, "from": 0, "size": 100})
    theirs = {hit["_id"]: hit for hit in plain["hits"]["hits"]}
    assert len(ids(answer)) == 5
    for hit in answer["hits"]["hits"]:
        assert hit == {**theirs[hit["_id"]], "_score": 0}
    assert answer["aggregations"] == plain["aggregations"]
    assert answer["hits"]["total"] == plain["hits"]["total"]


def test_groups_of_collapsed_hits_come_once_on_all_pages(searches: Searches) -> None:
    body = {"query": QUERY, "collapse": {"field": "brand.keyword"}, "ext": NARROW}
    pages = every_page(searches, body, 6)
    brands = [hit["_source"]["brand"] for found in pages for hit in found["hits"]["hits"]]
    assert len(brands) == len(set(brands)) > 14


@pytest.mark.parametrize("rescored", [3, 20])
def test_pages_of_rescored_hits_of_several_shards_go_on_after_the_window(
    searches: Searches, of_shards: str, rescored: int
) -> None:
    # Each shard rescores its best: some of these are neighbours that are not in the window.
    again = {"rescore_query": {"match": {"title": "pro"}}, "rescore_query_weight": 5}
    body = {**BODY, "rescore": {"window_size": rescored, "query": again}}
    for k in (3, 9, 20):
        ext = {"neural_rank": {"window": 6, "k": k}}
        pages = every_page(searches, {**body, "ext": ext}, 7, index=of_shards)
        flat = [(hit["_index"], hit["_id"]) for found in pages for hit in found["hits"]["hits"]]
        assert len(flat) == len(set(flat))
        plain = searches.plain({**body, "size": 100}, of_shards)["hits"]["hits"]
        assert {(hit["_index"], hit["_id"]) for hit in plain} <= set(flat)
        seen = 0
        for found in pages:
            seen += len(ids(found))
            assert found["hits"]["total"]["value"] >= seen


def test_pages_under_a_post_filter_go_on_under_it(searches: Searches) -> None:
    body = {"query": QUERY, "post_filter": {"term": {"language": "en"}}, "ext": NARROW}
    pages = every_page(searches, body, 7)
    hits = [hit for found in pages for hit in found["hits"]["hits"]]
    assert {hit["_source"]["language"] for hit in hits} == {"en"}
    plain = ids(searches.plain({**body, "size": 100}))
    assert set(plain) <= {hit["_id"] for hit in hits}
    assert len(hits) == len({hit["_id"] for hit in hits})


def test_pages_of_what_is_similar_never_come_to_the_item_itself(searches: Searches) -> None:
    ext = {"neural_rank": {"similar_to": "fan-circulator", "window": 10, "k": 4}}
    pages = every_page(searches, {"query": {"match_all": {}}, "ext": ext}, 30)
    flat = [one for found in pages for one in ids(found)]
    assert len(flat) == len(set(flat)) == searches.client.count(index=INDEX)["count"] - 1
    assert "fan-circulator" not in flat


def test_pages_after_the_window_of_a_point_in_time(
    searches: Searches, point_in_time: dict[str, str]
) -> None:
    body = {**BODY, "pit": point_in_time, "ext": NARROW}
    flat = [one for found in every_page(searches, body, 10, index=None) for one in ids(found)]
    assert len(flat) == len(set(flat))
    assert set(ids(searches.plain({**BODY, "size": 1_000}))) <= set(flat)


@pytest.mark.parametrize(
    "options", [{"filters": {"exclude_brands": ["Apple"]}}, {"min_score": 0.1}]
)
def test_where_hits_are_dropped_the_list_ends_with_the_window(
    searches: Searches, options: dict[str, Any]
) -> None:
    ext = {"neural_rank": {**NARROW["neural_rank"], **options}}
    pages = every_page(searches, {"query": QUERY, "ext": ext}, 8)
    hits = [hit for found in pages for hit in found["hits"]["hits"]]
    assert 0 < len(hits) <= 14
    # Which of those behind the window a filter would keep nobody knows; all score below the least.
    ended = AFTER if "filters" in options else frozenset()
    for found in pages:
        assert reasons(found) == (ended if len(ids(found)) < 8 else set())
    # Behind the window it would be 0.
    assert min(hit["_score"] for hit in hits) >= options.get("min_score", 0.0)
    if "filters" in options:
        assert "Apple" not in {hit["_source"]["brand"] for hit in hits}
        (note,) = report(searches.any({"query": QUERY, "from": 100, "ext": ext}))["degraded"]
        total = searches.plain({"query": QUERY})["hits"]["total"]["value"]
        assert f"filters looked at 10 of the {total} hits" in note["detail"]


# Places of the query's order, where the window has ten.
@pytest.mark.parametrize("places", [(2, 5, -1), (-2, -4)], ids=["in the window", "behind it"])
def test_what_the_user_has_blocked_comes_on_no_page(
    searches: Searches, places: tuple[int, ...]
) -> None:
    plain = ids(searches.plain({**BODY, "size": 100}))
    blocked = {plain[place] for place in places}
    ext = blocking(searches, blocked)
    pages = every_page(searches, {**BODY, "ext": ext}, 4)
    flat = [one for found in pages for one in ids(found)]
    assert len(flat) == len(set(flat))
    assert set(plain) - blocked <= set(flat)
    assert not blocked & set(flat)
    assert flat == ids(searches.any({**BODY, "size": 100, "ext": ext}))


def test_where_a_blocked_hit_stood_for_a_group_the_list_ends_with_the_window(
    searches: Searches,
) -> None:
    body = {"query": QUERY, "collapse": {"field": "brand.keyword"}}
    plain = ids(searches.plain({**body, "size": 100}))
    ext = blocking(searches, {plain[2]})
    found = ids(searches.any({**body, "size": 100, "ext": ext}))
    assert 9 <= len(found) <= 14
    assert plain[2] not in found


def blocking(searches: Searches, items: set[str]) -> dict[str, Any]:
    """The section of a user who has blocked these, once the sidecar knows."""
    user = f"blocker of {' and '.join(sorted(items))}"
    # Who has done nothing else is nobody, and each answer would say so.
    for body in (event(user, "click", "C"), *(event(user, "block", item) for item in items)):
        searches.client.index(index="ubi_events", body=body, params={"refresh": "true"})
    ext = {"neural_rank": {**NARROW["neural_rank"], "user_id": user}}
    items_of = {"query": {"ids": {"values": sorted(items)}}}

    def all_dropped() -> bool:
        said = report(searches.any({**items_of, "ext": ext}))
        return bool(said.get("dropped_count") == len(items))

    assert eventually(all_dropped, 30)
    return ext


def test_filters_of_a_pipeline_hold_on_all_pages_whoever_searches(searches: Searches) -> None:
    query = {"terms": {"brand.keyword": ["Apple", "Sony"]}}
    pipeline = {
        "request_processors": [{"neural_recall": {"timeout_ms": 5_000}}],
        "response_processors": [
            {"neural_rank": {"bundle": "none", "filters": {"exclude_brands": ["Apple"]}}}
        ],
    }
    plain = searches.plain({"query": query, "size": 100})["hits"]["hits"]
    kept = {hit["_id"] for hit in plain if hit["_source"]["brand"] == "Sony"}
    assert 1 < len(kept) < len(plain)
    flat = []
    for start in range(len(kept) + 1):
        body = {"query": query, "from": start, "size": 1, "search_pipeline": pipeline}
        flat.append(ids(searches.client.search(index=INDEX, body=body)))
    assert [len(found) for found in flat] == [1] * len(kept) + [0]
    assert {one for found in flat for one in found} == kept


def test_a_page_after_the_window_is_shown_with_what_the_pipeline_did(searches: Searches) -> None:
    body = {**BODY, "from": 20, "size": 5, "ext": NARROW}
    shown = searches.ranked(body, notes=AFTER)
    verbose = searches.ranked(body, notes=AFTER, verbose_pipeline="true")
    assert verbose["hits"] == shown["hits"]
    assert {step["status"] for step in verbose["processor_results"]} == {"success"}


def test_a_page_beyond_the_limit_of_the_index_is_refused_as_without_the_plugin(
    searches: Searches,
) -> None:
    for search in (searches.plain, searches.any):
        with pytest.raises(InvalidInput, match="Result window is too large"):
            search({**BODY, "from": 9_995, "size": 10})
    assert ids(searches.any({**BODY, "from": 9_990, "size": 10})) == []


# Takes some 40 ms for each document, and lets all in.
SLOW = """
    int turn(int n) { for (int i = 0; i < 900000; ++i) { n += i % 7; } return n; }
    int n = 0;
    for (int i = 0; i < 40; ++i) { n = turn(n); }
    return n != 1;
"""


@pytest.mark.parametrize("vector", [False, True], ids=["after the window", "neighbours"])
def test_a_search_that_is_cancelled_takes_those_that_are_made_for_it_along(
    searches: Searches, vector: bool
) -> None:
    recall = {"window": 10, "vector": vector, "timeout_ms": 60_000}
    body = {
        "query": {"bool": {"must": [QUERY], "filter": [{"script": {"script": SLOW}}]}},
        "from": 20,
        "search_pipeline": {
            "request_processors": [{"neural_recall": recall}],
            "response_processors": [{"neural_rank": {"bundle": "none"}}],
        },
    }

    def parts() -> list[dict[str, Any]]:
        running = {"actions": "indices:data/read/search", "detailed": "true"}
        nodes = searches.client.tasks.list(params=running)["nodes"].values()
        tasks = [task for node in nodes for task in node["tasks"].values()]
        return [task for task in tasks if "parent_task_id" in task]

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(searches.client.search, index=INDEX, body=body)
        assert eventually(lambda: bool(parts()), 30)
        (part,) = parts()
        assert ("knn" in part["description"]) == vector
        searches.client.tasks.cancel(task_id=part["parent_task_id"])
        assert all(task["cancelled"] for task in parts())
        with pytest.raises(NeuralrankError, match="cancel"):
            answer.result()

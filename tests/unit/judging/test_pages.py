"""Pages out of rows of UBI's indexes, and what is left out of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from neuralrank import ubi
from neuralrank.judging import Page, Skipped, Tally, pages, places_listed, read_pages, zero_based

Row = dict[str, Any]


def event(action: str, item: str, ordinal: int | None = None, **more: str) -> Row:
    position = {} if ordinal is None else {"position": {"ordinal": ordinal}}
    return {
        "query_id": "1",
        "action_name": action,
        "event_attributes": {"object": {"object_id": item}, **position},
        **more,
    }


def read(
    monkeypatch: pytest.MonkeyPatch,
    query: Row | list[Row],
    events: list[Row],
    *from_zero: str,
) -> tuple[list[Page], Skipped]:
    """What is made of the rows of one query."""
    asked = query if isinstance(query, list) else [query]

    def rows(client: object, index: str, filters: object, fields: object) -> Iterator[Row]:
        del client, filters, fields
        return iter(asked if index == ubi.QUERIES_INDEX else events)

    monkeypatch.setattr(pages, "read_rows", rows)
    monkeypatch.setattr(pages, "_count_without_query", lambda *_: None)
    monkeypatch.setattr(pages, "_from_zero", lambda *_: set(from_zero))
    monkeypatch.setattr(pages, "require_fields", lambda *_: None)
    skipped = Skipped()
    return list(read_pages(None, skipped)), skipped  # type: ignore[arg-type]


def test_an_ordinal_that_is_no_place_costs_its_item_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id as `position.ordinal` made all of the page read down to it, in SDBN."""
    shown = [event("impression", item, place) for place, item in enumerate("abc", 1)]
    odd = [event("impression", "x", 1_000_000), event("click", "x"), event("click", "a")]
    found, skipped = read(monkeypatch, {"query_id": "1", "user_query": "kettle"}, [*shown, *odd])
    assert found == [Page("kettle", {"a": 1, "b": 2, "c": 3}, frozenset("a"))]
    assert skipped == {"items beyond place 500": 1, "clicks on what was not shown": 1}
    tally = Tally()
    tally.add(found)
    assert [(e.item, e.seen) for e in tally.estimates("sdbn")] == [("a", 1), ("b", 0), ("c", 0)]


def test_places_from_0_and_from_1_are_of_one_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """COEC would expect of an app's second place what the web's first gets."""
    asked = {"query_id": "1", "user_query": "kettle", "query_response_hit_ids": ["a", "b", "c"]}
    app = [
        event("impression", "a", 0, application="app"),
        event("impression", "b", 1, application="app"),
    ]
    web = [event("impression", "a", 1, application="web"), event("impression", "b", 2)]
    unknown = [event("impression", "a", 0, application="web"), event("impression", "c")]
    for events, places in (
        (app, {"a": 1, "b": 2}), (web, {"a": 1, "b": 2}), ([], {"a": 1, "b": 2, "c": 3}),
        (unknown, {"c": 3}),
    ):  # fmt: skip
        (page,), skipped = read(monkeypatch, asked, events, "app")
        assert page.items == places
        assert skipped == ({"impressions without a place": 1} if events is unknown else {})


def test_an_application_that_counts_from_0_is_told_by_most_of_its_pages() -> None:
    assert zero_based({"app": 5, "odd": 1, "new": 1}, {"app": 10, "odd": 9, "web": 7}) == {
        "app", "new",
    }  # fmt: skip


def test_a_query_that_is_not_ubi_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is no list: its letters were taken for items."""
    odd = {"query_id": "1", "user_query": "kettle", "query_response_hit_ids": "item-1"}
    found, skipped = read(monkeypatch, odd, [event("click", "i")])
    assert (found, skipped) == (
        [],
        {"queries that are not UBI": 1, "pages without a query text": 1},
    )
    shown = event("impression", "item-1", 1) | {"user_query": "kettle"}
    found, skipped = read(monkeypatch, odd, [shown, event("click", "item-1")])
    assert found == [Page("kettle", {"item-1": 1}, frozenset({"item-1"}))]


def test_of_a_long_response_the_first_five_hundred_were_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits = [f"item-{place}" for place in range(10_000)]
    asked = {"query_id": "1", "user_query": "kettle", "query_response_hit_ids": hits}
    clicks = [event("click", "item-499"), event("click", "item-9999")]
    (page,), skipped = read(monkeypatch, asked, clicks)
    assert page.items == {item: place for place, item in enumerate(hits[:500], 1)}
    assert page.clicked == {"item-499"}
    assert skipped["items beyond place 500"] == 9_500


def test_events_of_any_shape_count_for_their_items(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"query_id": "1", "user_query": "kettle", "query_response_hit_ids": ["a", "b", "c"]}
    dotted = {"query_id": "1", "action_name": "click", "event_attributes.object.object_id": "b"}
    basket = {"query_id": "1", "action_name": "click", "event_attributes": {
        "object": [{"object_id": "a"}, {"object_id": "c"}]}}  # fmt: skip
    (page,), skipped = read(monkeypatch, asked, [dotted, basket])
    assert page.clicked == frozenset("abc")
    assert not skipped


def test_documents_of_one_query_are_read_in_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSearch gives those of one query_id in any order. A time that can't be read costs no
    page."""
    asked = [
        {"timestamp": "2026-01-01T00:00:02Z", "query_response_hit_ids": ["c", "d"]},
        {"timestamp": 1_767_225_601_000, "query_response_hit_ids": ["a", "b"]},
        {"timestamp": "yesterday"},
        {},
    ]
    named = [{"query_id": "1", "user_query": "kettle"} | row for row in asked]
    (page,), skipped = read(monkeypatch, named, [event("click", "d")])
    assert page == Page("kettle", {"a": 1, "b": 2, "c": 3, "d": 4}, frozenset("d"))
    assert not skipped


def test_what_is_listed_again_moves_nothing_further_down() -> None:
    client_and_server = [["a", "b"], [], ["a", "b"], ["b", "c", "c", "d"]]
    assert places_listed(client_and_server) == {"a": 0, "b": 1, "c": 2, "d": 4}
    assert places_listed([]) == {}

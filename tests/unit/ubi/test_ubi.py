import json
from typing import Any

import pytest

from neuralrank import ubi
from neuralrank.errors import InvalidInput
from opensearch_config import ubi_indexes

EVENT = {
    "action_name": "click",
    "user_id": "A",
    "client_id": "browser",
    "user_query": "电脑",
    "query_id": "q1",
    "timestamp": "2026-01-02T03:04:05+01:00",
    "event_attributes": {
        "object": {"object_id": 12, "object_id_field": "id", "seller": "x"},
        "position": {"ordinal": 3},
        "experiment": {"arm": "b"},
    },
}


def test_an_event_keeps_what_the_specification_leaves_open() -> None:
    event = ubi.Event.from_row(EVENT)
    assert (event.user, event.item_id, event.ordinal) == ("A", "12", 3)
    written = event.document()
    assert written["timestamp"] == "2026-01-02T02:04:05Z"
    assert written["event_attributes"]["object"]["seller"] == "x"
    assert written["event_attributes"]["experiment"] == {"arm": "b"}


def test_null_and_empty_fields_are_left_out() -> None:
    event = ubi.Event.from_row(
        {"action_name": "view", "user_id": "", "client_id": "c", "event_attributes": None}
    )
    assert event.user == "c"
    assert event.document().keys() == {"action_name", "client_id", "timestamp"}


def test_milliseconds_are_a_time() -> None:
    event = ubi.Event.from_row({"action_name": "view", "timestamp": 1_700_000_000_000})
    assert event.document()["timestamp"] == "2023-11-14T22:13:20Z"


def test_query_attributes_are_strings() -> None:
    query = ubi.Query.from_row(
        {
            "query_id": "q",
            "query_attributes": {"bundle": "a@1", "arm": 2},
            "query": {"match_all": {}},
        }
    )
    assert query.document()["query_attributes"] == {"bundle": "a@1", "arm": "2"}
    assert query.document()["query"] == '{"match_all":{}}'


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "action_name: is missing"),
        ({"action_name": ""}, "action_name: got ''"),
        (
            {"action_name": "click", "timestamp": "31.12.2026"},
            "timestamp: got '31.12.2026'; must be ISO 8601 or milliseconds since 1970",
        ),
        (
            {"action_name": "click", "timestamp": 1_764_000_000_000_000},  # microseconds
            "timestamp: got 1764000000000000; is outside the years 1 to 9999",
        ),
        (
            {"action_name": "click", "timestamp": 1_764_000_000},  # seconds
            "timestamp: got 1764000000; is 1970-01-21 in milliseconds since 1970; if these are "
            "seconds, multiply them by 1,000",
        ),
        ({"action_name": "click", "timestamp": True}, "timestamp: got True; must be ISO 8601"),
        (
            {"action_name": "click", "timestamp": "0001-01-01T00:00:00+08:00"},
            "is outside the years 1 to 9999",
        ),
        ({"action_name": "click", "timestamp": 1e20}, "is outside the years 1 to 9999"),
        (
            {"action_name": "click", "event_attributes": {"position": {"ordinal": -1}}},
            "event_attributes.position.ordinal: got -1",
        ),
        ({"action_name": "click", "event_attributes": "x"}, "event_attributes: got 'x'"),
        ([], "must be a JSON object"),
    ],
)
def test_a_wrong_event_says_why(row: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ubi.Event.from_row(row)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["user_id", "client_id", "query_id"])
def test_whose_it_is_must_be_short_enough_to_be_found(name: str) -> None:
    row = {"action_name": "click", name: "x" * 101}
    event = ubi.Event.from_row(row)  # what others have written is read
    with pytest.raises(InvalidInput, match=f"{name}: got .* of 101 characters; longer than 100"):
        event.document()
    (rejected,) = ubi.parse(lines(row))
    assert isinstance(rejected, ubi.Rejected)
    assert ubi.Event.from_row({"action_name": "click", name: "x" * 100}).document()


def test_what_is_looked_up_by_is_indexed_as_long_as_it_may_be() -> None:
    for index in ubi_indexes().values():
        fields = index["mappings"]["properties"]
        names = ("user_id", "client_id", "query_id")
        assert {fields[name]["ignore_above"] for name in names} == {ubi.MAX_USER}


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    text = json.dumps(EVENT)
    for found in (ubi.parse([f"\ufeff{text}"]), ubi.parse([text.encode("utf-8-sig")])):
        assert [type(item) for item in found] == [ubi.Record]


def lines(*rows: Any) -> list[str]:
    return [row if isinstance(row, str) else json.dumps(row) for row in rows]


def test_bulk_format_and_plain_lines_may_be_mixed() -> None:
    found = list(
        ubi.parse(
            lines(
                {"index": {"_index": "ubi_events", "_id": "e1"}},
                EVENT,
                "",
                EVENT,
                {"query_id": "q", "user_query": "手机"},
            )
        )
    )
    assert all(isinstance(item, ubi.Record) for item in found)
    assert [(item.line, item.index) for item in found] == [
        (2, "ubi_events"),
        (4, "ubi_events"),
        (5, "ubi_queries"),
    ]
    assert found[0].id == "e1"  # type: ignore[union-attr]


def test_an_id_that_opensearch_does_not_take_costs_its_own_line() -> None:
    made = [{"index": {"_index": "ubi_events", "_id": "é" * n}} for n in (256, 257)]
    found = list(ubi.parse(lines(made[0], EVENT, made[1], EVENT, EVENT)))
    assert [type(item) for item in found] == [ubi.Record, ubi.Rejected, ubi.Record]
    assert isinstance(found[1], ubi.Rejected)
    assert (found[1].line, found[1].row) == (4, json.dumps(EVENT))
    assert "of 514 bytes; OpenSearch takes 512" in found[1].reason


def test_the_same_line_has_the_same_id_in_every_load() -> None:
    reordered = dict(reversed(EVENT.items()))
    first, second = ubi.parse(lines(EVENT, reordered))
    assert isinstance(first, ubi.Record)
    assert isinstance(second, ubi.Record)
    assert first.id == second.id


@pytest.mark.parametrize("name", ["user_id", "client_id", "session_id", "user_query"])
def test_half_a_surrogate_pair_is_the_callers_fault(name: str) -> None:
    """As the shell gives what was typed on a terminal that is not UTF-8."""
    document = ubi.Event.from_row({"action_name": "click", name: "\udcff"}).document()
    with pytest.raises(InvalidInput, match="no Unicode"):
        ubi.content_id(document)


def test_bad_lines_are_named_and_the_rest_is_read() -> None:
    found = list(
        ubi.parse(
            [
                b"{broken",
                b'{"a": 1}',
                b'\xff{"action_name": "click"}',
                json.dumps(EVENT).encode(),
            ]
        )
    )
    rejected = [item for item in found if isinstance(item, ubi.Rejected)]
    assert [item.line for item in rejected] == [1, 2, 3]
    assert "action_name is missing" in rejected[1].reason
    assert isinstance(found[-1], ubi.Record)


def test_an_action_is_of_the_next_line_alone_though_that_can_not_be_read() -> None:
    action = {"index": {"_index": "ubi_queries", "_id": "q1"}}
    broken, event = ubi.parse(lines(action, "{broken", EVENT))
    assert isinstance(broken, ubi.Rejected)
    assert isinstance(event, ubi.Record)
    assert (event.index, event.id) == ("ubi_events", ubi.content_id(EVENT))


def test_a_document_of_another_index_is_not_loaded() -> None:
    """Only its action was refused, and the event was loaded by another id: twice, once that was
    mended."""
    action = {"index": {"_index": "ubi_events-2025", "_id": "e1"}}
    refused, event = ubi.parse(lines(action, EVENT, EVENT))
    assert isinstance(refused, ubi.Rejected)
    assert (refused.line, refused.row) == (2, json.dumps(EVENT))
    assert "'ubi_events-2025'; allowed are ubi_queries and ubi_events" in refused.reason
    assert isinstance(event, ubi.Record)


def test_an_action_without_an_index_gives_the_id_alone() -> None:
    """As what is sent to `ubi_events/_bulk` has it."""
    (event,) = ubi.parse(lines({"create": {"_id": "e1"}}, EVENT))
    assert isinstance(event, ubi.Record)
    assert (event.index, event.id) == ("ubi_events", "e1")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"event_attributes": {"object": {"object_id": "A"}}}, ["A"]),
        ({"event_attributes.object.object_id": "A"}, ["A"]),
        ({"event_attributes": {"object.object_id": "A"}}, ["A"]),
        ({"event_attributes.object": {"object_id": "A"}}, ["A"]),
        ({"event_attributes": {"object": [{"object_id": "A"}, {"object_id": "B"}]}}, ["A", "B"]),
        ({"event_attributes": {"object": {"object_id": ["A", ["B", None], "A"]}}}, ["A", "B"]),
        ({"event_attributes": [{"object": {"object_id": 7}}, {"object": "A"}]}, ["7"]),
        ({"event_attributes": {"object": {"object_id": {"x": "A"}}}}, []),
        ({"event_attributes": {"object": {"object_id": ""}}}, []),
        ({"event_attributes": None}, []),
        ({}, []),
    ],
)
def test_items_of_an_event_are_those_that_opensearch_indexes(
    document: dict[str, Any], expected: list[str]
) -> None:
    assert ubi.item_ids(document) == expected


@pytest.mark.parametrize(
    "attributes",
    [
        {"event_attributes": {"object": [{"object_id": "A"}, {"object_id": 7}]}},
        {"event_attributes.object.object_id": ["A", "7"], "event_attributes.position.ordinal": 3},
        {"event_attributes": {"object": {"object_id": ["A", "7"]}, "position.ordinal": "3"}},
    ],
)
def test_a_basket_is_an_event_for_each_item(attributes: dict[str, Any]) -> None:
    row = {"action_name": "purchase", "user_id": "u", "timestamp": 0, **attributes}
    events = ubi.Event.each(row)
    assert [(event.action_name, event.user, event.item_id) for event in events] == [
        ("purchase", "u", "A"),
        ("purchase", "u", "7"),
    ]
    ordinal = 3 if "position" in str(attributes) else None
    assert {event.ordinal for event in events} == {ordinal}


@pytest.mark.parametrize(
    "attributes",
    [
        {"event_attributes": {"object": {"object_id": ["A", "B"]}, "shop": 7}},
        {"event_attributes": {"object": [{"object_id": "A"}, {"object_id": "B"}]}},
        {"event_attributes.object.object_id": ["A", "B"], "event_attributes": {"shop": 7}},
    ],
)
def test_a_basket_is_loaded_as_it_came(attributes: dict[str, Any]) -> None:
    row = {"action_name": "purchase", "user_id": "u", "timestamp": 0, **attributes}
    (record,) = ubi.parse([json.dumps(row)])
    assert isinstance(record, ubi.Record)
    assert record.document == row | {"timestamp": "1970-01-01T00:00:00Z"}
    bad = json.dumps(row | {"event_attributes.position.ordinal": -1})
    (refused,) = ubi.parse([bad])
    assert isinstance(refused, ubi.Rejected)
    assert "ordinal: got '-1'" in refused.reason or "ordinal: got -1" in refused.reason


def test_an_event_of_one_item_or_none_is_read_as_it_is() -> None:
    (plain,) = ubi.Event.each(EVENT)
    assert plain == ubi.Event.from_row(EVENT)
    (none,) = ubi.Event.each({"action_name": "login", "timestamp": 0})
    assert none.item_id == ""
    with pytest.raises(InvalidInput, match="action_name"):
        ubi.Event.each({"event_attributes.object.object_id": "A"})

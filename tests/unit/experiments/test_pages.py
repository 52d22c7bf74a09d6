"""Pages of an experiment out of rows of UBI's indexes, and what is left out of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from neuralrank import ubi
from neuralrank.experiments import Page, Skipped, pages, read_pages

Row = dict[str, Any]


def asked(query_id: str, user: str = "u", hits: Sequence[str] = (), **attributes: str) -> Row:
    return {
        "query_id": query_id,
        "user_id": user,
        "query_response_hit_ids": list(hits),
        "query_attributes": {"experiment": "x", **attributes},
    }


def did(query_id: str, action: str, item: str) -> Row:
    return {
        "query_id": query_id,
        "action_name": action,
        "event_attributes": {"object": {"object_id": item}},
    }


def read(
    monkeypatch: pytest.MonkeyPatch, queries: list[Row], events: list[Row]
) -> tuple[list[Page], Skipped]:
    """What is made of rows that OpenSearch gives in the order of query_id."""

    def rows(client: object, index: str, filters: object, fields: object) -> Iterator[Row]:
        del client, filters, fields
        found = queries if index == ubi.QUERIES_INDEX else events
        return iter(sorted(found, key=lambda row: str(row["query_id"])))

    monkeypatch.setattr(pages, "read_rows", rows)
    monkeypatch.setattr(pages, "require_fields", lambda *_: None)
    skipped = Skipped()
    return list(read_pages(None, "x", skipped)), skipped  # type: ignore[arg-type]


def test_what_was_done_on_a_page_of_an_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    found, skipped = read(
        monkeypatch,
        [asked("1", arm="B"), asked("2", arm="A") | {"user_id": "", "client_id": "phone"}],
        [
            did("1", "click", "i"),
            did("1", "click", "i"),  # twice: once
            did("1", "click", "j"),
            did("1", "purchase", "j"),
            did("elsewhere", "click", "i"),
        ],
    )
    assert found[0] == Page("u", "B", found[0].done)
    assert found[0].done == {("clicks", "B"): 2, ("purchases", "B"): 1}
    assert (found[1].user, found[1].arm, found[1].done) == ("phone", "A", {})
    assert skipped == {}


def test_a_query_that_is_not_ubi_costs_its_page_only(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = asked("1", arm="A")
    odd["query_attributes"]["logged_in"] = True
    found, skipped = read(monkeypatch, [odd, asked("2", arm="B")], [did("1", "click", "i")])
    assert [page.arm for page in found] == ["B"]
    assert skipped == {"pages whose query is not UBI": 1}


def test_of_an_interleaved_page_an_item_is_whose_team_took_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, skipped = read(
        monkeypatch,
        [
            asked("1", hits=["i", "j", "k", "l"], teams="ABB-"),
            # The next page of the same query.
            asked("1", hits=["m"], teams="A"),
        ],
        [did("1", "click", item) for item in ("i", "k", "l", "m", "elsewhere")],
    )
    (page,) = found
    assert (page.user, page.arm) == ("u", "")
    assert page.done == {("clicks", "A"): 2, ("clicks", "B"): 1}
    assert skipped == {"events on items that no arm has put on the page": 2}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([asked("1", user="", arm="A")], "pages of no user, or of several"),
        ([asked("1", arm="A"), asked("1", user="v", arm="A")], "pages of no user, or of several"),
        ([asked("1", arm="A"), asked("1", arm="B")], "pages of several arms, or of an unknown one"),
        ([asked("1", arm="C")], "pages of several arms, or of an unknown one"),
        (
            [asked("1", hits=["i", "j"], teams="A")],
            "interleaved pages whose teams don't fit query_response_hit_ids",
        ),
        (
            [asked("1", hits=["i"])],
            "interleaved pages whose teams don't fit query_response_hit_ids",
        ),
    ],
)
def test_what_can_not_be_used_is_counted(
    monkeypatch: pytest.MonkeyPatch, rows: list[Row], reason: str
) -> None:
    assert read(monkeypatch, rows, []) == ([], {reason: 1})

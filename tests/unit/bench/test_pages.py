"""Only pages that were ranked as usual are judged."""

from typing import Any
from unittest.mock import MagicMock

import pytest

from bench import pages
from bench.pages import Pages, patient_pages
from neuralrank.errors import Unavailable
from neuralrank.opensearch.page import Page

AS_USUAL = {"reranked": True}
LATE = {"reranked": False, "degraded": [{"reason": "timeout"}]}
LESS = {"reranked": True, "degraded": [{"reason": "deadline"}]}


def answering(monkeypatch: pytest.MonkeyPatch, *reports: dict) -> list[dict]:
    """`ask` gives pages with these reports in turn; how it was called."""
    asked: list[dict] = []
    left = iter(reports)

    def ask(*given: Any, **how: Any) -> Page:
        asked.append({"options": given[3], **how})
        return Page("", "", 1.0, 0, (), next(left))

    monkeypatch.setattr(pages, "ask", ask)
    return asked


def test_a_page_that_came_late_or_degraded_is_asked_for_again_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answering(monkeypatch, AS_USUAL, LATE, LESS, AS_USUAL)
    found = Pages(MagicMock(), "shop")
    assert found.whole({"similar_to": "a"}, 10).report == AS_USUAL
    assert found.whole({"similar_to": "b"}, 10).report == AS_USUAL
    assert found.retried == 2
    assert [call["options"]["similar_to"] for call in asked] == ["a", "b", "b", "b"]


def test_what_is_never_ranked_as_usual_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[LATE] * 5)
    with pytest.raises(Unavailable, match="timeout"):
        Pages(MagicMock(), "shop").whole({}, 10)


def test_the_pipeline_has_time_for_the_deadline_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, client = answering(monkeypatch, AS_USUAL), MagicMock()
    with patient_pages(client, "shop") as found:
        found.whole({}, 10)
    made = client.search_pipeline.put.call_args.kwargs
    assert asked[0]["pipeline"] == made["id"]
    patience = made["body"]["request_processors"][0]["neural_recall"]["timeout_ms"]
    assert patience > asked[0]["options"]["deadline_ms"]
    client.search_pipeline.delete.assert_called_once_with(id=made["id"])

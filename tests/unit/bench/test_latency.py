"""One query through the whole stack: what is asked, and in what order."""

from typing import Any

import pytest

from bench import latency
from neuralrank.opensearch.page import NO_PIPELINE, Page


def test_no_query_that_is_to_be_encoded_was_asked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, dict | None]] = []

    def ask(_: Any, __: str, query: dict, options: Any = None, **how: Any) -> Page:
        if how.get("pipeline") != NO_PIPELINE:
            asked.append((str(query), options))
        return Page("", "", 1.0, 0, (), {})

    monkeypatch.setattr(latency, "ask", ask)
    monkeypatch.setattr(latency.Report, "publish", lambda _: None)
    latency._measure(None)
    queries = [query for query, _ in asked]
    rounds = len(queries) // 3 // len(latency.QUERIES)
    assert rounds == 5
    full, again, hybrid = queries[::3], queries[1::3], queries[2::3]
    assert full == again
    # Each of these encodes its query.
    assert len({*full, *hybrid}) == 2 * rounds * len(latency.QUERIES)
    assert {query.lower() for query in full} == {query.lower() for query in hybrid}
    assert [options for _, options in asked[:3]] == [None, None, {"bundle": "none"}]

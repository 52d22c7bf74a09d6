"""Pages that are measured: sent as `neuralrank search` sends them, and asked again where late."""

from typing import Any, cast

from opensearchpy import OpenSearch

from opensearch_config.tuning.asking import ask, ask_well


class Answers:
    """Stands for the client: gives one answer after the other, keeps what was sent."""

    def __init__(self, *reports: dict[str, Any] | None) -> None:
        self.reports = list(reports)
        self.sent: list[dict[str, Any]] = []

    def search(self, **request: Any) -> dict[str, Any]:
        self.sent.append(request)
        report = self.reports.pop(0)
        rows = [{"_id": name, "_score": 1.0, "_source": {}} for name in ("a", "b")]
        body = {"hits": {"total": {"value": 2}, "hits": rows}}
        return body | ({"ext": {"neural_rank": report}} if report is not None else {})


LATE = {"reranked": True, "degraded": [{"reason": "deadline", "detail": "1 of 2 in time"}]}
GOOD = {"reranked": True, "degraded": []}


def asked(answers: Answers, pipeline: str = "tuned", well: bool = False, **more: Any) -> Any:
    client = cast(OpenSearch, answers)
    way = ask_well if well else ask
    return way(client, "shop", pipeline, {"match_all": {}}, 10, **more)


def test_a_page_is_asked_through_its_pipeline_and_no_more_is_counted_than_must_be() -> None:
    answers = Answers(GOOD)
    found = asked(answers, options={"fusion": "rrf"})
    (sent,) = answers.sent
    assert sent["params"] == {"search_pipeline": "tuned"}
    assert sent["body"]["ext"] == {"neural_rank": {"fusion": "rrf"}}
    assert sent["body"]["_source"] == ["title"]
    assert "track_total_hits" not in sent["body"]
    assert (found.items, found.degraded, found.ranked) == (["a", "b"], [], True)


def test_what_was_to_be_ranked_and_was_not_is_seen() -> None:
    assert not asked(Answers({"reranked": False})).ranked
    assert asked(Answers(None), pipeline="_none").ranked
    late = asked(Answers(LATE))
    assert (late.degraded, late.detail) == (["deadline"], "1 of 2 in time")


def test_a_page_that_came_late_is_asked_again() -> None:
    answers = Answers(LATE, GOOD, GOOD)
    assert asked(answers, well=True).degraded == []
    assert len(answers.sent) == 2
    assert asked(Answers(*[LATE] * 4), well=True).degraded == ["deadline"]

"""Experiments over HTTP: two models compared on users of a rerank API."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from neuralrank.errors import DeadlineExceeded, Unavailable
from sidecar.deadline import Deadline
from sidecar.domain import Arm, Experiment, Fusion, Mode
from sidecar.http.comparing import rank_in_experiment
from sidecar.http.texts import RELEVANCE_ALONE, TextQuery, TextRanker, TextRanking
from tests.unit.sidecar.parts import Bench, WordJudge, serving
from tests.unit.sidecar.test_cascade import Fixed
from tests.unit.sidecar.web import web

DOCUMENTS = ["blue phone", "red kettle", "red phone", "huawei computer"]
JUDGE, OTHER = "judge@000000000002", "words"


async def ask(bench: Bench, user: str | None = "u", **experiment: Any) -> dict[str, Any]:
    given = {"name": "models", "arms": {"A": {}, "B": {"model": OTHER}}} | experiment
    body = {"query": "red kettle", "documents": DOCUMENTS, "user": user, "experiment": given}
    async with web(bench) as client:
        answer: dict[str, Any] = (await client.post("/v2/rerank", json=body)).json()
        return answer


async def test_each_user_gets_the_model_of_their_arm(bench: Bench) -> None:
    seen = {}
    for number in range(20):
        answer = await ask(bench, f"u{number}")
        told = answer["meta"]["experiment"]
        assert (told["name"], told["mode"]) == ("models", "ab")
        seen[told["arm"]] = answer["model"]
        assert "team" not in answer["results"][0]
    assert seen == {"A": JUDGE, "B": "words@000000000001"}


async def test_an_arm_without_a_model_has_that_of_the_request(bench: Bench) -> None:
    arms = {"A": {}, "B": {"model": "judge"}}
    body = {"query": "red kettle", "documents": DOCUMENTS, "model": OTHER}
    seen = {}
    async with web(bench) as client:
        for number in range(20):
            more = {"user": f"u{number}", "experiment": {"name": "models", "arms": arms}}
            answer = (await client.post("/v1/rerank", json=body | more)).json()
            seen[answer["meta"]["experiment"]["arm"]] = answer["model"]
    assert seen == {"A": "words@000000000001", "B": JUDGE}


async def test_an_interleaved_answer_says_whose_each_result_is(bench: Bench) -> None:
    answer = await ask(bench, mode="interleave")
    assert sorted(row["index"] for row in answer["results"]) == [0, 1, 2, 3]
    assert sorted(row["team"] for row in answer["results"]) == ["A", "A", "B", "B"]
    scores = [row["relevance_score"] for row in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["model"] == f"{JUDGE}, words@000000000001"
    assert answer["meta"]["experiment"] == {"name": "models", "mode": "interleave"}
    assert (await ask(bench, mode="interleave"))["results"] == answer["results"]


@pytest.mark.parametrize("user", [None, ""])
async def test_nobody_takes_no_part(bench: Bench, user: str | None) -> None:
    answer = await ask(bench, user)
    assert answer["model"] == JUDGE
    assert answer["meta"]["experiment"]["left_out"] == "the request has no user id"


@pytest.mark.parametrize(
    ("experiment", "status", "words"),
    [
        ({"name": "a b"}, 400, "experiment.name is 'a b'"),
        ({"arms": {"A": {}}}, 400, "experiment.arms are 'A'; needed are 'A'"),
        ({"arms": {"A": {}, "B": {}}}, 400, "experiment.arms are the same"),
        # Cohere's own name is our default's.
        ({"arms": {"A": {}, "B": {"model": "rerank-v3.5"}}}, 400, "are the same"),
        ({"share": 0}, 400, "experiment.share is 0"),
        ({"weights": {}}, 400, "weights"),
        (
            {"arms": {"A": {}, "B": {"model": "gone"}}},
            404,
            "No model 'gone' that scores",
        ),
    ],
)
async def test_what_is_no_experiment_is_refused(
    bench: Bench, experiment: dict[str, Any], status: int, words: str
) -> None:
    given = {"name": "models", "arms": {"A": {}, "B": {"model": OTHER}}} | experiment
    body = {"query": "red kettle", "documents": DOCUMENTS, "user": "", "experiment": given}
    async with web(bench) as client:
        answer = await client.post("/v1/rerank", json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["message"]


class Judges:
    """Two cross-encoders that take a second of the bench's clock for a pair, and their pages."""

    def __init__(self) -> None:
        self.first = WordJudge(seconds=1.0)
        self.second = WordJudge(ref="second@000000000009", seconds=1.0)
        self.bench = Bench(judge=self.first, cost=Fixed())
        self.first.clock = self.second.clock = self.bench.clock
        models = self.bench.models
        other = serving(None, self.second, Fixed())
        models.serving = replace(models.serving, loaded=models.serving.loaded | other.loaded)

    async def page(self, query: str, seconds: float) -> TextRanking:
        arms = {
            name: Arm(ref, RELEVANCE_ALONE, Fusion.WEIGHTS)
            for name, ref in (("A", self.first.ref), ("B", self.second.ref))
        }
        bench = self.bench
        asked = TextQuery(
            query,
            DOCUMENTS,
            100,
            user="u",
            experiment=Experiment("models", Mode.INTERLEAVE, arms),
        )
        ranker = TextRanker(bench.ranker, bench.models, bench.inference, bench.metrics)
        return await rank_in_experiment(ranker, asked, Deadline.after(seconds, bench.clock))


@pytest.fixture
async def judges() -> AsyncIterator[Judges]:
    made = Judges()
    yield made
    await made.bench.close()


@pytest.mark.parametrize("query", ["red kettle", "blue kettle", "red phones", "blue phone"])
async def test_of_a_short_time_each_model_of_an_interleaved_answer_has_half(
    judges: Judges, query: str
) -> None:
    page = await judges.page(query, 4.1)
    assert page.model == f"{judges.first.ref}, {judges.second.ref}"
    assert page.experiment is not None
    assert page.experiment.left_out == ""
    assert set(page.teams.values()) == {"A", "B"}
    assert {note.reason.value for note in page.degraded} == {"deadline"}


async def test_of_an_interleaved_answer_that_one_model_can_not_give_the_other_does(
    judges: Judges,
) -> None:
    judges.second.error = RuntimeError("out of memory")
    page = await judges.page("red kettle", 60.0)
    assert page.model == judges.first.ref
    assert page.experiment is not None
    assert page.experiment.left_out.startswith("arm B failed: Not one text could be scored")
    assert page.teams == {}
    assert page.scores[0].index == 1


async def test_an_interleaved_answer_that_no_model_can_give_is_an_error(judges: Judges) -> None:
    with pytest.raises(DeadlineExceeded):
        await judges.page("red kettle", 0.5)
    judges.first.error = judges.second.error = RuntimeError("out of memory")
    with pytest.raises(Unavailable):
        await judges.page("red kettle", 60.0)

"""Experiments over HTTP: two models compared on users of a rerank API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.sidecar.parts import Bench, WordJudge
from tests.unit.sidecar.web import web

DOCUMENTS = ["blue phone", "red kettle", "red phone", "huawei computer"]
JUDGE, OTHER = "judge@000000000002", "words"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(judge=WordJudge())
    yield made
    made.close()


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
        ({"arms": {"A": {}, "B": {"model": "gone"}}}, 404, "No cross_encoder 'gone' is served"),
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

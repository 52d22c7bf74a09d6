"""Experiments on the real stack: users are dealt, pages are logged, and the report finds the better
arm."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.client import Client
from neuralrank.errors import InvalidInput
from neuralrank.experiments import query_attributes
from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from tests.conftest import CHECKOUT, neuralrank

INDEX = "experiment_test_products"
PIPELINE = "experiment_test"
USERS = [f"experiment-test-{number}" for number in range(80)]
# By words alone, a bag for computers is first for 电脑; by meaning, a computer is.
COMPUTERS = {"A", "B"}
ARMS = {
    "A": {"weights": {"relevance": 0, "affinity": 0, "retrieval": 1}},
    "B": {"weights": {"relevance": 1, "affinity": 0, "retrieval": 0}},
}

Run = Callable[..., dict[str, Any]]
Search = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run(stack: Settings) -> Run:
    """The command, as it is typed; what it prints as JSON."""

    def typed(*arguments: str | Path) -> dict[str, Any]:
        done = neuralrank(
            *arguments,
            NEURALRANK_HOME=str(stack.home),
            NEURALRANK_OPENSEARCH_URL=stack.opensearch_url,
            NEURALRANK_SIDECAR=stack.sidecar,
            NEURALRANK_REGISTRY=stack.registry_path,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else {"out": done.stdout}

    return typed


@pytest.fixture(scope="module")
def client(stack: Settings, run: Run) -> Iterator[OpenSearch]:
    with closing(connect(stack)) as opened:
        run("config", "apply", "--yes")
        run("index", CHECKOUT / "examples/catalogue/products.jsonl", "--index", INDEX)
        yield opened
        for index in opened.indices.get_alias(name=INDEX):
            opened.indices.delete(index=index)
        for index in (ubi.QUERIES_INDEX, ubi.EVENTS_INDEX):
            opened.delete_by_query(
                index=index,
                body={"query": {"prefix": {"user_id": "experiment-test-"}}},
                params={"refresh": "true", "conflicts": "proceed"},
            )
        opened.transport.perform_request("DELETE", f"/_search/pipeline/{PIPELINE}-*")


@pytest.fixture(scope="module")
def search(client: OpenSearch) -> Search:
    """One search through a pipeline with an experiment, as a shop with UBI sends it."""

    def ask(pipeline: str, query_id: str, user: str, **options: Any) -> dict[str, Any]:
        body = {
            "query": {"match": {"title": "电脑"}},
            "size": 5,
            "_source": False,
            "ext": {
                "neural_rank": options | ({"user_id": user} if user else {}),
                "ubi": {"query_id": query_id, "application": "experiment-test"},
            },
        }
        answer = client.search(
            index=INDEX, body=body, params={"search_pipeline": f"{PIPELINE}-{pipeline}"}
        )
        return dict(answer)

    return ask


def put_pipeline(client: OpenSearch, experiment: str, **more: Any) -> None:
    given = {"name": experiment, "arms": ARMS} | more
    body = {
        "request_processors": [{"neural_recall": {"timeout_ms": 5_000}}],
        "response_processors": [
            {"neural_rank": {"bundle": "none", "deadline_ms": 3_000, "experiment": given}}
        ],
    }
    client.transport.perform_request("PUT", f"/_search/pipeline/{PIPELINE}-{experiment}", body=body)


def hits(answer: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def told(answer: dict[str, Any]) -> dict[str, Any]:
    report: dict[str, Any] = answer["ext"]["neural_rank"]
    assert report["reranked"], report
    found: dict[str, Any] = report["experiment"]
    return found


def click(user: str, query_id: str, item: str, place: int) -> dict[str, Any]:
    return {
        "action_name": "click",
        "user_id": user,
        "query_id": query_id,
        "user_query": "电脑",
        "event_attributes": {"object": {"object_id": item}, "position": {"ordinal": place}},
    }


def load(run: Run, folder: Path, events: list[dict[str, Any]]) -> None:
    file = folder / "events.ndjson"
    file.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    assert run("feedback", "load", file, "--json")["events"] == len(events)


def logged(client: OpenSearch, experiment: str, count: int) -> list[dict[str, Any]]:
    """The pages in ubi_queries, once all are there: nobody waits for their being written."""
    query = {"term": {"query_attributes.experiment": experiment}}
    for _ in range(100):
        client.indices.refresh(index=ubi.QUERIES_INDEX)
        found = client.search(index=ubi.QUERIES_INDEX, body={"query": query, "size": 1_000})[
            "hits"
        ]["hits"]
        if len(found) >= count:
            break
        time.sleep(0.1)
    assert len(found) == count
    return [hit["_source"] for hit in found]


def test_an_ab_test_finds_the_better_arm(
    client: OpenSearch, run: Run, search: Search, tmp_path: Path
) -> None:
    put_pipeline(client, "ab")
    chance, events, arms = random.Random(5), [], {}
    for user in USERS:
        query_id = f"ab-{user}"
        answer = search("ab", query_id, user)
        arms[user] = told(answer)["arm"]
        first = hits(answer)[0]
        assert (first in COMPUTERS) == (arms[user] == "B"), answer["ext"]
        if chance.random() < (0.9 if first in COMPUTERS else 0.1):
            events.append(click(user, query_id, first, 1))
    # Whoever comes back gets the same.
    assert told(search("ab", "ab-again", USERS[0]))["arm"] == arms[USERS[0]]
    load(run, tmp_path, events)

    pages = logged(client, "ab", len(USERS) + 1)
    assert {page["user_id"]: page["query_attributes"]["arm"] for page in pages} == arms
    assert all(len(page["query_response_hit_ids"]) == 5 for page in pages)
    report = run("experiment", "report", "ab", "--json")
    found = report["ab"]
    assert dict(zip("AB", found["users"], strict=True)) == Counter(arms.values())
    assert not found["is_lopsided"]
    ctr = next(row for row in found["differences"] if row["measure"] == "ctr")
    assert 0 < ctr["a"] < ctr["b"]
    assert ctr["p"] < 0.01
    assert ctr["users_needed"] < len(USERS)
    assert report["interleaved"] is None
    shown = run("experiment", "report", "ab")["out"]
    assert "B has more ctr (p <0.001)." in shown


def test_interleaving_finds_it_too(
    client: OpenSearch, run: Run, search: Search, tmp_path: Path
) -> None:
    put_pipeline(client, "both", mode="interleave")
    events = []
    for user in USERS[:30]:
        query_id = f"both-{user}"
        answer = search("both", query_id, user)
        teams = told(answer)["teams"]
        assert sorted(Counter(teams).values()) == [2, 3]
        scores = [hit["_score"] for hit in answer["hits"]["hits"]]
        assert scores == sorted(scores, reverse=True)
        # Each reads from the top and takes the first computer.
        place, item = next((n, item) for n, item in enumerate(hits(answer)) if item in COMPUTERS)
        events.append(click(user, query_id, item, place + 1))
    load(run, tmp_path, events)
    pages = logged(client, "both", 30)
    assert all(
        len(page["query_attributes"]["teams"]) == len(page["query_response_hit_ids"])
        for page in pages
    )
    report = run("experiment", "report", "both", "--json")
    clicks = report["interleaved"]["preferences"][0]
    assert (clicks["measure"], clicks["a"] + clicks["b"]) == ("clicks", 30)
    assert clicks["share"] > 0.8
    assert clicks["p"] < 0.001
    assert report["skipped"] == {}
    assert "Users prefer B by clicks" in run("experiment", "report", "both")["out"]


def test_who_has_no_id_is_ranked_and_not_logged(client: OpenSearch, search: Search) -> None:
    put_pipeline(client, "nobody")
    answer = search("nobody", "nobody-1", "")
    assert told(answer) == {
        "name": "nobody",
        "mode": "ab",
        "left_out": "the request has no user id",
    }
    logged(client, "nobody", 0)


def test_a_request_brings_its_own(client: OpenSearch, search: Search) -> None:
    put_pipeline(client, "theirs")
    own = {"name": "mine", "arms": ARMS, "share": 1}
    assert told(search("theirs", "mine-1", USERS[0], experiment=own))["name"] == "mine"
    assert len(logged(client, "mine", 1)) == 1


def test_a_bundle_that_is_not_there_costs_no_page_and_is_said(
    client: OpenSearch, search: Search
) -> None:
    put_pipeline(client, "gone", arms={"A": {}, "B": {"bundle": "gone"}})
    report = search("gone", "gone-1", USERS[0])["ext"]["neural_rank"]
    assert not report["reranked"]
    (note,) = (note for note in report["degraded"] if note["reason"] == "model_unavailable")
    assert "'gone'" in note["detail"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"arms": ARMS}, "experiment.name is []"),
        ({"name": "x", "arms": {"A": {}}}, "experiment.arms is [{A={}}]"),
        ({"name": "x", "arms": {"A": {}, "B": {}}}, "A and B are the same"),
        ({"name": "x", "arms": ARMS, "users": 5}, "unknown key [users]"),
        ({"name": "x", "arms": ARMS, "share": 0}, "share is [0]"),
    ],
)
def test_what_is_no_experiment_is_refused(
    client: OpenSearch, search: Search, given: dict[str, Any], words: str
) -> None:
    put_pipeline(client, "refused")
    with pytest.raises(InvalidInput) as refused:
        search("refused", "refused-1", USERS[0], experiment=given)
    assert words in str(refused.value)
    with pytest.raises(InvalidInput) as refused:
        client.transport.perform_request(
            "PUT",
            f"/_search/pipeline/{PIPELINE}-refused",
            body={"response_processors": [{"neural_rank": {"experiment": given}}]},
        )
    assert words in str(refused.value)


def test_a_service_logs_what_the_answer_says(stack: Settings, client: OpenSearch) -> None:
    assert client.indices.exists(index=INDEX)
    experiment = pb.Experiment(
        name="grpc",
        mode=pb.EXPERIMENT_MODE_INTERLEAVE,
        arms={
            "A": pb.Arm(weights=pb.Weights(relevance=0, affinity=0, retrieval=1)),
            "B": pb.Arm(weights=pb.Weights(relevance=1, affinity=0, retrieval=0)),
        },
    )
    request = pb.RankRequest(
        query="电脑",
        user=pb.User(id=USERS[0]),
        index=INDEX,
        candidates=[pb.Candidate(id=name) for name in ("bag-laptop-156", "A", "B", "C")],
        options=pb.RankOptions(experiment=experiment, deadline_ms=3_000, bundle="none"),
    )
    with Client.of(stack) as sidecar:
        answer = sidecar.rank(request)
        attributes = query_attributes(answer, [hit.id for hit in answer.results][:2])
        assert attributes["experiment"] == "grpc"
        assert sorted(attributes["teams"]) == ["A", "B"]
        del request.options.experiment.arms["A"]
        with pytest.raises(InvalidInput, match=r"arms are 'B'; needed are 'A'"):
            sidecar.rank(request)


def test_nothing_logged_is_said(stack: Settings, client: OpenSearch) -> None:
    assert client.ping()
    done = neuralrank(
        "experiment", "report", "never", NEURALRANK_OPENSEARCH_URL=stack.opensearch_url
    )
    assert done.returncode == 4
    assert "No page of the experiment 'never' is in ubi_queries" in done.stderr

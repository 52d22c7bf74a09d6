"""From clicks in OpenSearch to a personal ranker in service: a habit that content does not say is
learned, swapped in, and seen in what new users get."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from bench.running import Running
from neuralrank.bundles.registry import Registry
from neuralrank.client import Client
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from tests.conftest import neuralrank
from tests.integration.conftest import log
from tests.integration.habits import catalogue as products
from tests.integration.habits import event, habits, item

BEGIN = datetime(2016, 3, 1, tzinfo=UTC)
INDEX = "personal_habits"
USERS = 90


@pytest.fixture
def client(logging_client: OpenSearch) -> Iterator[OpenSearch]:
    yield logging_client
    logging_client.indices.delete(index=f"{INDEX}*", params={"ignore_unavailable": "true"})


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def kinds(names: Iterable[str]) -> set[str]:
    return {name.split("-")[0] for name in names}


@contextmanager
def asked_by_the_plugin(client: OpenSearch, address: str) -> Iterator[None]:
    """The stack's plugin asks another sidecar meanwhile."""
    client.cluster.put_settings(body={"transient": {"neural_rank.endpoint": [address]}})
    try:
        yield
    finally:
        client.cluster.put_settings(body={"transient": {"neural_rank.endpoint": None}})


def test_a_habit_is_learned_from_logs_and_served_to_new_users(
    stack: Settings, client: OpenSearch, registry: Registry, tmp_path: Path
) -> None:
    where = {
        "NEURALRANK_OPENSEARCH_URL": stack.opensearch_url,
        "NEURALRANK_REGISTRY": registry.url,
        "NEURALRANK_HOME": str(tmp_path / "home"),
    }

    def run(*arguments: str | Path) -> Any:
        done = neuralrank(*arguments, "--json", **where)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    catalogue = tmp_path / "catalogue.jsonl"
    catalogue.write_text("\n".join(map(json.dumps, products())))
    run("index", catalogue, "--index", INDEX)
    log(client, habits(BEGIN, timedelta(hours=1), range(USERS)), "habit")
    # Two whom no training has seen.
    now = datetime.now(UTC)
    views = [
        event(user, "", "click", item(kind, n), 1, now - timedelta(minutes=5 - n))
        for user, kind in (("brews", "kettle"), ("films", "camera"))
        for n in range(2)
    ]
    log(client, views, "habit-view")
    weights = pb.Weights(relevance=0.01, affinity=1, retrieval=0.01)
    options = pb.RankOptions(explain=True, deadline_ms=5_000, weights=weights)

    with Running(
        tmp_path / "sidecar.log",
        opensearch_url=stack.opensearch_url,
        registry=registry.url,
        registry_poll_seconds=0.2,
    ) as sidecar:
        sidecar.ready()

        def ranked(user: str, query: str = "") -> tuple[list[str], pb.RankResponse]:
            # What is near by content first, as a search of neighbours would have it.
            names = ["kettle-5", "camera-5", "tea-5", "tripod-5"]
            request = pb.RankRequest(
                index=INDEX, query=query, options=options,
                candidates=[pb.Candidate(id=name) for name in names],
            )  # fmt: skip
            if user:
                request.user.id = user
            with Client(sidecar.address) as caller:
                answer = caller.rank(request)
            return [hit.id.split("-")[0] for hit in answer.results], answer

        assert ranked("brews")[0][0] == "kettle"
        assert ranked("films")[0][0] == "camera"
        nobody, before = ranked("nobody")

        def found_for(user: str, **options: Any) -> list[str]:
            """What the plugin ranks for a user: one hit and up to six neighbours."""
            wanted = {"user_id": user, "window": 1, "k": 6, **options}
            body = {"size": 7, "ext": {"neural_rank": wanted}}
            answer: dict[str, Any] = {}

            def in_time() -> bool:
                answer.update(client.search(index=INDEX, body=body,
                                            params={"search_pipeline": "neural_rank"}))  # fmt: skip
                said = answer["ext"]["neural_rank"]
                return bool(said["reranked"]) and "deadline" not in str(said["degraded"])

            until(in_time)
            count = answer["ext"]["neural_rank"]["candidates"]
            return [hit["_id"] for hit in answer["hits"]["hits"]][:count]

        logs, data = tmp_path / "logs", tmp_path / "data"
        run("train", "pull", "--from", "2016-01-01", "--until", "2016-12-31", "--out", logs)
        run("train", "dataset", "--logs", logs, "--catalogue", catalogue, "--out", data,
            "--encoder", "none")  # fmt: skip
        training = ("--track", "none", "--batch-size", "20", "--epochs", "12", "--id-events", "0")
        made = run("train", "personal", data, "--out", tmp_path / "run", *training)
        assert made["best"]["nDCG@10 recommendation"] > made["before"]["nDCG@10 recommendation"]

        def serves(ref: str) -> bool:
            with Client(sidecar.address) as caller:
                status = caller.model_status().bundles
            found = [row for row in status if f"{row.name}@{row.hash}" == ref]
            return bool(found) and pb.BUNDLE_ROLE_SERVING in found[0].roles

        until(lambda: serves(made["ref"]))
        for query in ("", "present number 3"):
            for user, first in (("brews", "tea"), ("films", "tripod")):
                order, answer = ranked(user, query)
                assert order[0] == first, (query, user, answer)
                assert made["ref"] in answer.bundles
                stages = [stage.name for stage in answer.stages]
                assert "personal" in stages
                top = answer.results[0].explanation
                assert top.affinity > answer.results[1].explanation.affinity
                assert "fits the user" in top.summary
        # Nobody in particular gets what they got.
        order, answer = ranked("nobody")
        assert order == nobody
        assert list(answer.bundles) == list(before.bundles)
        assert [row.reason for row in answer.degraded] == [row.reason for row in before.degraded]

        # What they went on to is found, too, where no text is near to it.
        with Client(sidecar.address) as caller:
            likely = caller.collaborative("brews", index=INDEX, most=6)
            popular = caller.collaborative("nobody", index=INDEX, most=3)
        assert len(set(popular)) == 3
        assert kinds(likely) == {"kettle", "tea"}
        with asked_by_the_plugin(client, sidecar.address):
            assert "tea" not in kinds(found_for("brews", collaborative=False))
            assert "tea" in kinds(found_for("brews"))
            assert "tripod" in kinds(found_for("films"))
            # Who has done nothing yet gets what most have.
            assert found_for("nobody")[:3] == popular

        # Another one is a candidate, and takes the place of the first when it is promoted.
        second = run(
            "train", "personal", data, "--out", tmp_path / "again", *training, "--seed", "1"
        )
        assert not serves(second["ref"])
        run("models", "promote", second["ref"], "--force", "--reason", "as good, and newer")
        until(lambda: serves(second["ref"]))
        order, answer = ranked("brews")
        assert order[0] == "tea"
        assert second["ref"] in answer.bundles
        run("models", "rollback", "personal-ranker")
        until(lambda: serves(made["ref"]))

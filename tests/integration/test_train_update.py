"""Continual learning on the logs of a real OpenSearch, with tiny models: two rounds of what
`neuralrank train update` does every hour, for a cross-encoder and for a personal ranker."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opensearchpy import OpenSearch

from neuralrank.bundles.registry import Registry
from neuralrank.settings import Settings
from tests.conftest import neuralrank
from tests.integration.conftest import log
from tests.integration.habits import catalogue as products
from tests.integration.habits import habits
from tests.tiny import tiny_cross_encoder
from trainer.dataset import Dataset

BEGIN = datetime(2017, 5, 1, tzinfo=UTC)
HABITS = datetime(2015, 3, 1, tzinfo=UTC)
ENDS = ("ettle", "hone", "amp", "ofa", "ink", "able", "ook", "ell", "oat", "ing")
WORDS = [f"{a}{b}" for a in "bcfklprs" for b in ENDS]
SHOWN, PAGES = 6, 600


def visits(begin: datetime, step: timedelta, seed: int, words: list[str]) -> list[Any]:
    """Pages on which the item is clicked that is asked for, if it stands high or by chance."""
    chance = Random(seed)
    documents = []
    for page in range(PAGES):
        word = chance.choice(words)
        others = chance.sample([w for w in WORDS if w != word], SHOWN - 1)
        shown = chance.sample([word, *others], SHOWN)
        who = {
            "client_id": f"logged-{seed}-{page}",
            "query_id": f"logged-{seed}-{page}",
            "timestamp": (begin + page * step).isoformat(),
        }
        documents.append(("ubi_queries", who | {"user_query": word}))
        for place, item in enumerate(shown, start=1):
            attributes = {"object": {"object_id": item}, "position": {"ordinal": place}}
            row = who | {"event_attributes": attributes, "user_query": word}
            documents.append(("ubi_events", row | {"action_name": "impression"}))
            if item == word and chance.random() < 1 / place:
                documents.append(("ubi_events", row | {"action_name": "click"}))
    return documents


def test_rounds_learn_what_arrived_remember_and_go_through_the_gate(
    stack: Settings, logging_client: OpenSearch, tmp_path: Path
) -> None:
    catalogue = tmp_path / "catalogue.jsonl"
    catalogue.write_text("".join(json.dumps({"id": w, "title": f"the {w}"}) + "\n" for w in WORDS))
    registry = Registry(str(tmp_path / "models"))
    first = registry.publish(tiny_cross_encoder(tmp_path / "bundle", 1)).ref
    where = {
        "NEURALRANK_OPENSEARCH_URL": stack.opensearch_url,
        "NEURALRANK_REGISTRY": registry.url,
    }
    state = tmp_path / "state"

    def update() -> Any:
        done = neuralrank(
            *("train", "update", "swapped", "--catalogue", catalogue, "--out", state),
            *("--from", BEGIN.isoformat(), "--encoder", "none", "--track", "none"),
            *("--learning-rate", "1e-3", "--epochs", "2", "--dev", "0.2", "--json"),
            **where,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    log(logging_client, visits(BEGIN, timedelta(minutes=1), 1, WORDS[:60]), "update-1")
    one = update()
    assert one["number"] == 1
    assert one["parent"] == first
    assert one["candidate"] in registry.refs()
    assert one["counts"]["clicks"] > PAGES / 10
    assert one["counts"]["remembered examples"] == 0
    assert one["before"] is not None
    assert one["forgotten"] is None
    serving = one["candidate"] if one["outcome"] == "promoted" else first
    assert registry.resolve("swapped") == serving
    (row,) = json.loads(neuralrank("models", "candidates", "--json", **where).stdout)
    assert row["ref"] == one["candidate"]
    assert row["outcome"] == ("passed" if one["outcome"] == "promoted" else "refused")

    later = datetime.fromisoformat(one["until"])
    log(logging_client, visits(later, timedelta(milliseconds=2), 2, WORDS[20:]), "update-2")
    two = update()
    assert two["number"] == 2
    assert two["since"] == one["until"]
    assert two["parent"] == serving
    assert two["counts"]["remembered examples"] > 0
    assert two["forgotten"] == pytest.approx(two["old_before"] - two["old_after"])


def test_a_personal_ranker_learns_on_from_what_its_users_did_before(
    stack: Settings, logging_client: OpenSearch, registry: Registry, tmp_path: Path
) -> None:
    catalogue = tmp_path / "catalogue.jsonl"
    catalogue.write_text("\n".join(map(json.dumps, products())))
    where = {
        "NEURALRANK_OPENSEARCH_URL": stack.opensearch_url,
        "NEURALRANK_REGISTRY": registry.url,
        "NEURALRANK_HOME": str(tmp_path / "home"),
    }

    def train(*arguments: str | Path) -> Any:
        done = neuralrank("train", *arguments, "--json", **where)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    shares = ("--dev", "0.2", "--test", "0.2", "--encoder", "none")
    fast = ("--track", "none", "--batch-size", "20", "--epochs", "4", "--id-events", "0")
    middle = HABITS + timedelta(days=20)

    def update() -> Any:
        return train(
            *("update", "personal-ranker", "--catalogue", catalogue, "--out", tmp_path / "state"),
            *("--from", middle.isoformat(), *shares[:4], *fast),
        )

    log(logging_client, habits(HABITS, timedelta(hours=1), range(90)), "first")
    log(logging_client, habits(middle, timedelta(hours=1), range(60, 150)), "second")
    logs, data = tmp_path / "logs", tmp_path / "data"
    train("pull", "--from", HABITS.isoformat(), "--until", middle.isoformat(), "--out", logs)
    train("dataset", "--logs", logs, "--catalogue", catalogue, "--out", data, *shares)
    first = train("personal", data, "--out", tmp_path / "run", *fast)["ref"]
    assert registry.resolve("personal-ranker") == first

    one = update()
    assert (one["number"], one["parent"]) == (1, first)
    made = registry.manifest(one["candidate"])
    assert made.parent == first
    assert made.personal == registry.manifest(first).personal
    assert one["since"] == middle.isoformat()
    assert one["counts"]["clicks"] >= 90 * 3
    assert one["counts"]["train examples"] > 90
    assert one["counts"]["remembered examples"] == 0
    assert one["before"] is not None
    assert one["forgotten"] is None
    serving = one["candidate"] if one["outcome"] == "promoted" else first
    assert registry.resolve("personal-ranker") == serving

    later = datetime.fromisoformat(one["until"])
    log(logging_client, habits(later, timedelta(milliseconds=20), range(120, 210)), "third")
    two = update()
    assert (two["number"], two["parent"], two["since"]) == (2, serving, one["until"])
    assert two["counts"]["clicks"] >= 90 * 3
    assert two["counts"]["remembered examples"] > 0
    assert two["before"] is not None
    assert two["forgotten"] == pytest.approx(two["old_before"] - two["old_after"])
    rows = json.loads(neuralrank("models", "candidates", "--json", **where).stdout)
    (row,) = (row for row in rows if row["ref"] == two["candidate"])
    assert "nDCG@10 of what users chose" in {check["name"] for check in row["checks"]}
    measured = train(
        *("evaluate", tmp_path / "state/rounds/0002/data", "--bundle", two["candidate"]),
        *("--baseline", serving, "--out", tmp_path / "report.html"),
    )
    assert set(measured["systems"]) == {two["candidate"], serving}
    values = {ref: found["nDCG@10"] for ref, found in measured["systems"].items()}
    assert values[serving] == pytest.approx(two["before"], abs=1e-4)
    assert values[two["candidate"]] == pytest.approx(two["after"], abs=1e-4)
    # Who came back is known by what they did before.
    mixed = Dataset.open(tmp_path / "state/rounds/0002/data").of("sequences", "train")
    users = dict(zip(mixed["user_id"].to_pylist(), mixed["items"].to_pylist(), strict=True))
    assert len(users["trained-120"]) > len(users["trained-150"])

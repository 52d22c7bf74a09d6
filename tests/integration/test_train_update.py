"""Continual learning on the logs of a real OpenSearch, with a tiny model: two rounds of what
`neuralrank train update` does every hour."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opensearchpy import OpenSearch

from bench.swaps import tiny_cross_encoder
from neuralrank.opensearch import connect
from neuralrank.registry import Registry
from neuralrank.settings import Settings
from neuralrank.writing import bulk_write
from opensearch_config import apply_ubi
from tests.conftest import neuralrank

BEGIN = datetime(2017, 5, 1, tzinfo=UTC)
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
            "client_id": f"update-{seed}-{page}",
            "query_id": f"update-{seed}-{page}",
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


@pytest.fixture
def client(stack: Settings) -> Iterator[OpenSearch]:
    with closing(connect(stack, timeout=120.0)) as opened:
        apply_ubi(opened)
        yield opened
        opened.delete_by_query(
            index="ubi_events,ubi_queries",
            body={"query": {"prefix": {"client_id": "update-"}}},
            params={"refresh": "true"},
        )


def log(client: OpenSearch, documents: list[Any], prefix: str) -> None:
    for index in ("ubi_queries", "ubi_events"):
        rows = [
            (f"{prefix}-{n}", row) for n, (where, row) in enumerate(documents) if where == index
        ]
        assert not list(bulk_write(client, index, rows, refresh=True))


def test_rounds_learn_what_arrived_remember_and_go_through_the_gate(
    stack: Settings, client: OpenSearch, tmp_path: Path
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

    log(client, visits(BEGIN, timedelta(minutes=1), 1, WORDS[:60]), "update-1")
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
    log(client, visits(later, timedelta(milliseconds=2), 2, WORDS[20:]), "update-2")
    two = update()
    assert two["number"] == 2
    assert two["since"] == one["until"]
    assert two["parent"] == serving
    assert two["counts"]["remembered examples"] > 0
    assert two["forgotten"] == pytest.approx(two["old_before"] - two["old_after"])

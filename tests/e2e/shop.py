"""The example shop on the real stack: what the tests of this folder share."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2, ranking_pb2_grpc

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CATALOGUE = EXAMPLES / "catalogue" / "products.jsonl"
EVENTS = EXAMPLES / "events" / "ubi.ndjson"
# Not the alias that the demo makes, in case someone's stack is tested on.
INDEX = "e2e_examples"
# Reasons that are a matter of time, and gone when the same is asked again.
TOO_LATE = {"deadline", "features_unavailable", "overload", "sidecar_unavailable"}


@dataclass(frozen=True)
class Shop:
    """The `neuralrank` command on a stack that holds the example catalogue and its events."""

    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "NEURALRANK_HOME": str(self.settings.home),
            "NEURALRANK_OPENSEARCH_URL": self.settings.opensearch_url,
            "NEURALRANK_SIDECAR": self.settings.sidecar,
            "NEURALRANK_REGISTRY": self.settings.registry_path,
            # Wide, so that a table's cells are not cut.
            "COLUMNS": "240",
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the command as a person would; the exit code is for the test to look at."""
        return subprocess.run(
            [sys.executable, "-c", "from neuralrank.cli import main; main()", *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Runs the command with --json; standard output must be JSON and nothing else.

        A page that came too late for all of its parts (cold caches on a busy machine) says so and
        is asked for again: what the tests look at is the whole ranking.
        """
        answer: dict[str, Any] = {}

        def whole() -> bool:
            done = self.run(*arguments, "--json")
            assert done.returncode == 0, done.stderr
            answer.update(json.loads(done.stdout))
            notes = answer.get("degraded", ())
            # A cross-encoder that could not read everything is what a deadline is for.
            late = [note for note in notes if "cross-encoder" not in note["detail"]]
            return not TOO_LATE & {note["reason"] for note in late}

        assert eventually(whole, 30), answer["degraded"]
        return answer

    def load(self, folder: Path, *events: dict[str, Any]) -> None:
        """Puts events into ubi_events, through the command."""
        file = folder / "events.ndjson"
        file.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
        done = self.run("feedback", "load", str(file))
        assert done.returncode == 0, done.stderr

    def vectors(self, *inputs: ranking_pb2.EncodeInput) -> list[np.ndarray]:
        """What `Encode` gives; an empty array where there is no vector."""
        with grpc.insecure_channel(self.settings.sidecar) as channel:
            answer = ranking_pb2_grpc.RankingStub(channel).Encode(
                ranking_pb2.EncodeRequest(inputs=inputs, index=INDEX), timeout=20
            )
        return [np.frombuffer(encoding.vector, "<f4") for encoding in answer.encodings]

    def similarity(self, user: str, item: str) -> float:
        """Cosine of a user's vector and an item's; NaN for a user without vector."""
        one, other = self.vectors(
            ranking_pb2.EncodeInput(user=ranking_pb2.User(id=user)),
            ranking_pb2.EncodeInput(item_id=item),
        )
        return float(one @ other) if one.size else float("nan")


def open_shop(settings: Settings) -> Shop:
    """The shop; what is not there yet is indexed and loaded. Safe to call for every module."""
    shop = Shop(settings)
    client = connect(settings)
    try:
        if not client.indices.exists(index=INDEX):
            done = shop.run("index", str(CATALOGUE), "--index", INDEX)
            assert done.returncode == 0, done.stderr
    finally:
        client.close()
    done = shop.run("feedback", "load", str(EVENTS))
    assert done.returncode == 0, done.stderr
    return shop


def event(user: str, action: str, item: str, **more: Any) -> dict[str, Any]:
    """An event of now."""
    return {
        "application": "e2e",
        "action_name": action,
        "user_id": user,
        "timestamp": int(time.time() * 1000),
        "event_attributes": {
            "object": {"object_id": item, "object_id_field": "id"},
            "position": {"ordinal": 1},
        },
        **more,
    }


def ids(page: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in page["hits"]]


def in_department(page: dict[str, Any], names: Iterable[str]) -> list[bool]:
    """For each hit, whether one of its categories is among the names."""
    return [bool(set(names) & set(hit["category"])) for hit in page["hits"]]


def eventually(check: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether something becomes true: profiles are cached for seconds, breakers close again."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True

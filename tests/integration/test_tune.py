"""`neuralrank tune` on a real node: compared, resumed, and nothing is left behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opensearchpy import OpenSearch

from neuralrank.encoders.matryoshka import cut
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.packing import PACKED, VECTOR, pack
from neuralrank.settings import Settings
from opensearch_config import product_index
from opensearch_config.tuning.bench import PREFIX, Bench
from opensearch_config.tuning.spec import read_spec
from opensearch_config.tuning.variants import Source, plan
from tests.conftest import CHECKOUT, ENVIRONMENT, neuralrank

ALIAS = "tune-test"
CATALOGUE = CHECKOUT / "examples" / "catalogue" / "products.jsonl"
# What is obvious in the example catalogue; x is none of it.
QRELS = """\
pc 0 A 3
pc 0 B 3
phone 0 C 3
phone 0 D 3
phone 0 x 2
apple 0 A 3
apple 0 D 3
shoe 0 A 0
lost 0 A 1
"""
QUERIES = "pc\t电脑\nphone\t手机\napple\tapple\nshoe\trunning shoes\nnobody\tjudged this\n"
SPEC = """\
index: tune-test
judgments: {file: mine.qrels, queries: mine.tsv}
recall_at: 10
variants:
  - name: as it is
    timeout_ms: 5000
"""


@pytest.fixture(scope="module")
def client(stack: Settings) -> Iterator[OpenSearch]:
    made = command(stack, "index", CATALOGUE, "--index", ALIAS)
    assert made.returncode == 0, made.stderr
    assert command(stack, "config", "apply", "--yes", "--no-reindex").returncode == 0
    with closing(connect(stack)) as opened:
        yield opened
        opened.indices.delete(index=f"{ALIAS}-*")


def command(stack: Settings, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return neuralrank(*arguments, **environment(stack))


def environment(stack: Settings) -> dict[str, str]:
    return {
        "NEURALRANK_HOME": str(stack.home),
        "NEURALRANK_OPENSEARCH_URL": stack.opensearch_url,
        "NEURALRANK_SIDECAR": stack.sidecar,
        "NEURALRANK_REGISTRY": str(stack.registry),
    }


def spec(folder: Path, more: str) -> Path:
    (folder / "mine.qrels").write_text(QRELS)
    (folder / "mine.tsv").write_text(QUERIES)
    path = folder / "tune.yml"
    path.write_text(SPEC + more)
    return path


def left(client: OpenSearch) -> list[str]:
    indexes = client.indices.get_settings(index=f"{PREFIX}*")
    return [*indexes, *(name for name in client.search_pipeline.get() if name.startswith(PREFIX))]


def test_variants_are_made_side_by_side_and_compared(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    path = spec(
        tmp_path,
        """\
  - name: words only
    rank: false
  - name: other index
    m: 4
    quantization: sq
    synonyms: ["laptop, 电脑"]
    timeout_ms: 5000
  - name: by place
    fusion: rrf
    ef_search: 100
    weights: {affinity: 0}
    timeout_ms: 5000
search:
  trials: 3
  held_back: 0.5
  over:
    weights.retrieval: {low: 0, high: 1}
    weights.cross_encoder: {low: 0, high: 1}
    window: {low: 20, high: 100}
    boosts.title: {low: 1, high: 6}
    fusion: {one_of: [weights, rrf]}
""",
    )
    page = tmp_path / "report.html"
    done = command(stack, "tune", path, "--json", "--report", page)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["judgments"] == {
        "queries": 4,
        "judgments": 8,
        "unknown_items": ["x"],
        "queries_without_text": ["lost"],
        "queries_without_judgment": ["nobody"],
    }
    rows: dict[str, Any] = {row["name"]: row for row in found["variants"]}
    assert list(rows) == ["as it is", "words only", "other index", "by place"]
    assert rows["as it is"]["index"] == rows["by place"]["index"] != rows["other index"]["index"]
    for row in rows.values():
        assert 0 < row["nDCG@10"] <= 1
        assert row["index_bytes"] > 10_000
        assert row["indexing_seconds"] > 0
        assert 0 < row["ms_p50"] <= row["ms_p95"]
    assert rows["words only"]["knn_recall"] is None
    assert rows["as it is"]["knn_recall"] == {"k": 10, "mean": 1.0}
    assert 0.5 < rows["other index"]["knn_recall"]["mean"] <= 1
    assert rows["by place"]["pipeline"]["response_processors"][0]["neural_rank"]["fusion"] == "rrf"
    versus = rows["words only"]["versus_first"]
    assert versus["wins"] + versus["losses"] <= 4
    assert found["search"]["trials"] == 3
    assert all(0 <= each["weights.cross_encoder"] <= 1 for each in found["search"]["tried"])
    tuned = found["search"]["tuned_on"]
    assert bool(found["search"]["best"]) == (tuned["nDCG@10"] > tuned["nDCG@10_before"])
    assert max(found["search"]["history"]) <= tuned["nDCG@10"]
    assert found["search"]["held_back"]["queries"] == 2
    assert "other index against as it is" in page.read_text(encoding="utf-8")
    assert left(client) == []
    assert not list((stack.home / "tune").rglob("journal.ndjson"))


def test_variants_of_queries_alone_search_the_index_itself(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    done = command(stack, "tune", spec(tmp_path, "  - name: b\n    boosts: {title: 8}\n"), "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["variants"]
    assert {row["index"] for row in rows} == set(client.indices.get_alias(name=ALIAS))
    assert [row["indexing_seconds"] for row in rows] == [None, None]
    assert left(client) == []


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_ended_goes_on_and_cleans_up(
    stack: Settings, client: OpenSearch, tmp_path: Path, ended_by: signal.Signals
) -> None:
    path = spec(tmp_path, "  - name: small\n    m: 4\n    timeout_ms: 5000\nrepeats: 30\n")
    run = subprocess.Popen(
        [sys.executable, "-c", "from neuralrank.cli import main; main()", "tune", str(path)],
        env=os.environ | ENVIRONMENT | environment(stack),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = _journal(stack, run)
    until = time.monotonic() + 120
    while len(_known(journal)) < 20:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    assert left(client)
    run.send_signal(ended_by)
    _, errors = run.communicate(timeout=60)
    if ended_by is signal.SIGKILL:
        assert left(client)
    else:
        assert run.returncode == 130
        assert "the same command goes on" in errors
        assert left(client) == []
    before = _known(journal)
    done = command(stack, "tune", path, "--json")
    assert done.returncode == 0, done.stderr
    assert len(before) >= 20
    assert [row["name"] for row in json.loads(done.stdout)["variants"]] == ["as it is", "small"]
    assert left(client) == []


def test_what_a_killed_run_left_can_be_discarded(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    path = spec(tmp_path, "")
    name = f"{PREFIX}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    client.indices.create(index=f"{name}-left")
    client.search_pipeline.put(id=f"{name}-0", body={"request_processors": []})
    done = command(stack, "tune", path, "--discard", "--json")
    assert json.loads(done.stdout) == {"deleted": [f"{name}-left", f"{name}-0"]}
    assert left(client) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            "    bundel: none\n",
            "tune.yml:7: variants[0].bundel: this key is not known. Did you mean",
        ),
        (
            "    bundle: nowhere\n",
            "tune.yml:7: variants[0].bundle: the sidecar has no cross-encoder",
        ),
        ("    dimensions: 100\n", "tune.yml:7: variants[0].dimensions: got 100; vectors of"),
        (
            "    analyzers: {title: nowhere}\n",
            "variants[0].analyzers: combined_fields",
        ),
        (
            "    query: {match: {title: '{{query}}'}}\n    analyzers: {title: nowhere}\n",
            "The index of variant 'as it is'",
        ),
    ],
)
def test_what_is_wrong_costs_nothing_and_leaves_nothing(
    stack: Settings, client: OpenSearch, tmp_path: Path, more: str, words: str
) -> None:
    done = command(stack, "tune", spec(tmp_path, more))
    assert done.returncode == 3, done.stderr
    assert words in done.stderr
    assert left(client) == []


@pytest.mark.usefixtures("client")
def test_judgments_may_come_from_clicks(stack: Settings, tmp_path: Path) -> None:
    events = CHECKOUT / "examples" / "events" / "ubi.ndjson"
    assert command(stack, "feedback", "load", events).returncode == 0
    source = "{clicks: {model: sdbn, min_impressions: 1, since: 2020-01-01}}"
    path = spec(tmp_path, "  - name: rrf\n    fusion: rrf\n    timeout_ms: 5000\n")
    path.write_text(path.read_text().replace("{file: mine.qrels, queries: mine.tsv}", source))
    done = command(stack, "tune", path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["judgments"]["queries"] > 5
    assert found["judgments"]["unknown_items"] == []
    assert all(row["nDCG@10"] > 0 for row in found["variants"])


def test_vectors_are_cut_on_the_way_whether_packed_or_not(
    client: OpenSearch, tmp_path: Path
) -> None:
    name = "tune-test-whole"
    wide = np.eye(8, dtype=np.float32)[:2] + np.float32(0.5)
    path = tmp_path / "tune.yml"
    path.write_text(
        f"index: {name}\njudgments: {{file: a.json}}\n"
        "variants: [{name: whole}, {name: cut, dimensions: 4}]\n"
    )
    client.indices.delete(index=name, params={"ignore_unavailable": "true"})
    client.indices.create(index=name, body=product_index("words@000000000001", 8))
    bench: Bench | None = None
    try:
        packed = {"title": "a", VECTOR: wide[0], PACKED: pack(wide[0])}
        client.index(index=name, id="packed", body=packed)
        plain = {"title": "b", VECTOR: wide[1]}
        client.index(index=name, id="plain", body=plain, params={"refresh": "true"})
        source = Source.of(client, name)
        _, planned = plan(*read_spec(path), source)
        bench = Bench(client, "test", source)
        built = bench.index(planned, lambda _done, _total: None)
        for row, identity in enumerate(("packed", "plain")):
            clause = {"knn": {VECTOR: {"vector": cut(wide[row], 4).tolist(), "k": 1}}}
            body = {"query": clause, "_source": [PACKED]}
            hit = client.search(index=built.index, body=body)["hits"]["hits"][0]
            assert hit["_id"] == identity
            # Lucene's score of an inner product of 1: vectors have length 1 again.
            assert hit["_score"] == pytest.approx(2.0, abs=1e-3)
            # What ranking reads stays whole.
            assert hit["_source"].get(PACKED) == (pack(wide[0]) if row == 0 else None)
        # One that is complete is taken as it is.
        assert bench.index(planned, lambda _done, _total: None) == built
    finally:
        if bench:
            assert bench.clear() == [built.index]
        client.indices.delete(index=name)


def _journal(stack: Settings, run: subprocess.Popen[str]) -> Path:
    """The journal of the one run that there is."""
    until = time.monotonic() + 120
    while not (found := list((stack.home / "tune").rglob("journal.ndjson"))):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    return found[0]


def _known(journal: Path) -> list[str]:
    return journal.read_text().splitlines()

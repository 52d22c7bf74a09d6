"""What was recorded is used again; only what ranks by id needs the index beside it."""

import gzip
import json
from pathlib import Path

import pytest

from bench import candidates
from bench.candidates import Found, judged_by_query, recorded
from neuralrank.bundles.registry import Registry
from neuralrank.errors import Unavailable
from neuralrank.settings import Settings
from tests.unit.conftest import tiny_bundle


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with an encoder, a set of two queries, and an OpenSearch that isn't there."""
    monkeypatch.setattr(candidates, "DATA", tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "qrels.dev.tsv").write_text("q1 0 a 3\nq1 0 b 0\nq2 0 c 1\n")
    with gzip.open(tmp_path / "shop" / "catalogue.jsonl.gz", "wt") as catalogue:
        catalogue.write('{"id": "a", "title": "red lamp"}\n')
    (tmp_path / "shop" / "queries.dev.tsv").write_text("q1\tred lamp\nq2\tdesk\n")
    settings = Settings(home=tmp_path / "home", opensearch_url="http://127.0.0.1:9")
    made = tiny_bundle(tmp_path / "encoder", "encoder", name="multilingual-e5-small")
    bundle = Registry(settings.registry_path).publish(made)
    found = {"text": "red lamp", "candidates": [["b", 2.0], ["a", None]]}
    known = {"encoder": bundle.ref, "queries": {"q1": found}}
    file = settings.home / "bench" / "candidates-shop.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(known))
    return settings


def test_a_recording_alone_is_enough_where_no_index_is_needed(settings: Settings) -> None:
    data = recorded("shop", settings, indexed=False)
    assert data.queries == {"q1": Found("red lamp", (("b", 2.0), ("a", None)))}
    assert data.qrels["q1"]["a"] == 3
    found = judged_by_query({"q1": ["a", "b"]}, data).mean("nDCG@10")
    assert found == 1.0 > judged_by_query({"q1": ["b", "a"]}, data).mean("nDCG@10")


def test_a_sidecar_that_ranks_by_id_needs_the_index(settings: Settings) -> None:
    with pytest.raises(Unavailable):
        recorded("shop", settings)


def test_a_recording_of_another_encoder_is_not_used(settings: Settings) -> None:
    file = settings.home / "bench" / "candidates-shop.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "encoder": "multilingual-e5-small@000000000000"}))
    with pytest.raises(Unavailable):
        recorded("shop", settings, indexed=False)

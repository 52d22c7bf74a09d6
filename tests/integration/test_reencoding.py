"""A live index gets another encoder's vectors: on a real node, while it is searched and written."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from bench.running import Running
from indexer import Reencoded, index_catalogue, reencode
from neuralrank import errors
from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.product import headline
from neuralrank.catalogue.reading import Catalogue
from neuralrank.cli.commands import app
from neuralrank.client import Client
from neuralrank.encoders.encoder import Encoder
from neuralrank.encoders.matryoshka import cut
from neuralrank.opensearch.generation import create
from neuralrank.opensearch.packing import PACKED, VECTOR, unpack
from neuralrank.opensearch.succession import find_live, read_only
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from opensearch_config import product_index, with_encoder
from tests.unit.conftest import tiny_bundle

COUNT = 2_500
TITLES = ("red kettle", "苹果手机", "apple laptop", "笔记本电脑")


class Letters:
    """Counts letters, times a factor on one of them: two factors are two encoders."""

    def __init__(
        self, ref: str, factor: float = 1.0, before: Callable[[int], None] | None = None
    ) -> None:
        self.ref = ref
        self.dimensions = 26
        self._factor = factor
        self._before = before
        self._calls = 0

    def encode_passages(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        if self._before:
            self._before(self._calls)
        self._calls += 1
        counts = np.array(
            [[text.lower().count(chr(97 + i)) + 0.01 for i in range(26)] for text in texts]
        )
        counts[:, 4] *= self._factor
        if progress:
            progress(len(texts))
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


FIRST = Letters("first@000000000001")


@pytest.fixture
def shop(client: OpenSearch, tmp_path: Path) -> Iterator[str]:
    """An alias over `COUNT` products with vectors of `FIRST`."""
    name = f"reencoding{uuid4().hex[:8]}"
    rows = [{"id": f"p{n}", "title": f"kettle {n}", "price": n} for n in range(COUNT)]
    make(client, name, rows, FIRST, tmp_path)
    yield name
    client.indices.delete(index=f"{name}*")


def make(client: OpenSearch, name: str, rows: list[Any], encoder: Any, folder: Path) -> None:
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    body = product_index(encoder.ref, encoder.dimensions) if encoder else product_index()
    index_catalogue(client, Catalogue(path), name, body, encoder, folder / "rejects")


def run(client: OpenSearch, name: str, encoder: Any, **options: Any) -> Reencoded:
    live = find_live(client, name)
    width = options.get("dimensions") or encoder.dimensions
    body = with_encoder(live.body, encoder.ref, width)
    return reencode(client, live, body, encoder, **options)


def sources(client: OpenSearch, index: str) -> dict[str, dict[str, Any]]:
    client.indices.refresh(index=index)
    answer = client.search(
        index=index,
        body={"size": 10_000, "query": {"match_all": {}}},
        params={"search_pipeline": "_none"},
    )
    return {hit["_id"]: hit["_source"] for hit in answer["hits"]["hits"]}


def generations(client: OpenSearch, name: str) -> list[str]:
    return sorted(client.indices.get(index=f"{name}-*"))


def test_vectors_are_the_new_encoders_and_everything_else_is_as_it_was(
    client: OpenSearch, shop: str
) -> None:
    client.indices.put_settings(
        index=shop, body={"index.search.default_pipeline": "neural_rank_only"}
    )
    client.indices.put_mapping(index=shop, body={"properties": {"shelf": {"type": "keyword"}}})
    (before,) = generations(client, shop)
    cheap = {"filter": {"range": {"price": {"lt": 10}}}}
    client.indices.put_alias(index=before, name=f"{shop}_cheap", body=cheap)
    old = sources(client, shop)
    seen: list[tuple[int, int]] = []
    second = Letters("second@000000000002", factor=3.0)
    done = run(client, shop, second, progress=lambda *pair: seen.append(pair))
    assert (done.before, done.encoder_before, done.documents) == (before, FIRST.ref, COUNT)
    assert done.encoded == COUNT
    assert seen[-1] == (COUNT, COUNT)
    assert seen == sorted(seen)
    assert list(client.indices.get_alias(name=shop)) == [done.index]
    assert list(client.indices.get_alias(name=f"{shop}_cheap")) == [done.index]
    assert client.count(index=f"{shop}_cheap")["count"] == 10
    new = sources(client, shop)
    assert new.keys() == old.keys()
    for identity, document in new.items():
        (expected,) = second.encode_passages([headline(document)])
        packed = unpack(document.pop(PACKED))
        assert packed is not None
        np.testing.assert_array_equal(packed, expected)
        plain = {k: v for k, v in old[identity].items() if k != PACKED}
        assert VECTOR not in document
        assert document == plain
    body = client.indices.get(index=done.index)[done.index]
    assert body["mappings"]["_meta"]["neuralrank"]["encoder"] == second.ref
    assert body["mappings"]["properties"]["shelf"] == {"type": "keyword"}
    was = client.indices.get(index=before)[before]
    assert body["settings"]["index"]["analysis"] == was["settings"]["index"]["analysis"]
    assert body["settings"]["index"]["search"]["default_pipeline"] == "neural_rank_only"
    # The vectors can be searched, and the old index can be gone back to and written to.
    knn = {"knn": {VECTOR: {"vector": second.encode_passages(["kettle 7"])[0], "k": 3}}}
    found = client.search(index=shop, body={"query": knn}, params={"search_pipeline": "_none"})
    assert found["hits"]["hits"]
    assert generations(client, shop) == [before, done.index]
    client.index(index=before, id="x", body={"title": "sofa"})


def test_what_is_written_and_deleted_meanwhile_is_neither_lost_nor_kept(
    client: OpenSearch, shop: str
) -> None:
    def write(call: int) -> None:
        if call == 1:  # p0 is copied already, the last one is not
            client.index(index=shop, id="p0", body={"id": "p0", "title": "teapot", "price": 1})
            client.update(index=shop, id="p5", body={"doc": {"price": 99.5}})
            client.index(index=shop, id="late", body={"id": "late", "title": "late cup"})
            client.delete(index=shop, id="p1")
            client.delete(index=shop, id=f"p{COUNT - 1}")
        if call == 3:  # while the second pass copies those: for the last one
            client.update(index=shop, id="p6", body={"doc": {"price": 98.5}})

    second = Letters("second@000000000002", factor=3.0, before=write)
    done = run(client, shop, second)
    new = sources(client, shop)
    assert done.documents == len(new) == COUNT - 1
    assert new["p0"]["title"] == "teapot"
    assert new["p5"]["price"] == 99.5
    assert new["p6"]["price"] == 98.5
    assert new["late"]["title"] == "late cup"
    assert not new.keys() & {"p1", f"p{COUNT - 1}"}
    (teapot,) = Letters("", factor=3.0).encode_passages(["teapot"])
    np.testing.assert_array_equal(unpack(new["p0"][PACKED]), teapot)
    assert done.read_only_seconds < done.seconds


def test_writes_are_refused_only_while_the_last_pass_runs(client: OpenSearch, shop: str) -> None:
    (before,) = generations(client, shop)
    blocked: list[Any] = []

    def look(_: int) -> None:
        settings = client.indices.get_settings(index=before, params={"flat_settings": "true"})
        blocked.append(settings[before]["settings"].get("index.blocks.write"))

    run(client, shop, Letters("second@000000000002", before=look))
    assert blocked
    assert set(blocked) == {None}
    client.index(index=before, id="x", body={"title": "sofa"})


def test_a_block_that_a_killed_run_left_is_off_while_documents_are_encoded(
    client: OpenSearch, shop: str
) -> None:
    (before,) = generations(client, shop)
    killed = read_only(client, before)
    killed.__enter__()  # and never left

    def write(call: int) -> None:
        if call == 1:
            client.index(index=shop, id="late", body={"id": "late", "title": "late cup"})

    done = run(client, shop, Letters("second@000000000002", before=write))
    assert [said.partition(",")[0] for said in done.warnings] == [f"{before} refused writes"]
    assert sources(client, shop)["late"]["title"] == "late cup"
    for index in generations(client, shop):
        client.index(index=index, id="x", body={"title": "sofa"})
    assert "read_only" not in find_live(client, shop).noted


def test_an_interrupted_run_goes_on_and_takes_what_changed_in_between(
    client: OpenSearch, shop: str
) -> None:
    (before,) = generations(client, shop)

    def interrupt(call: int) -> None:
        if call == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="--resume"):
        run(client, shop, Letters("second@000000000002", before=interrupt))
    assert list(client.indices.get_alias(name=shop)) == [before]
    client.index(index=shop, id="p0", body={"id": "p0", "title": "teapot"})
    with pytest.raises(errors.InvalidInput, match="its encoder is"):
        run(client, shop, Letters("third@000000000003"), resume=True)
    done = run(client, shop, Letters("second@000000000002"), resume=True)
    assert done.documents == COUNT
    assert 0 < done.encoded < COUNT
    assert sources(client, shop)["p0"]["title"] == "teapot"
    assert len(generations(client, shop)) == 2


def test_an_index_without_vectors_gets_its_first(
    client: OpenSearch, tmp_path: Path, shop: str
) -> None:
    name = f"{shop}text"
    make(client, name, [{"id": "a", "title": "kettle"}], None, tmp_path)
    done = run(client, name, FIRST)
    assert (done.encoder_before, done.documents) == ("", 1)
    knn = {"knn": {VECTOR: {"vector": FIRST.encode_passages(["kettle"])[0], "k": 1}}}
    answer = client.search(index=name, body={"query": knn}, params={"search_pipeline": "_none"})
    assert [hit["_id"] for hit in answer["hits"]["hits"]] == ["a"]
    noted = find_live(client, name).noted
    assert noted["packed_vectors"] == {VECTOR: PACKED}


def test_ingest_pipelines_do_not_see_their_documents_again(client: OpenSearch, shop: str) -> None:
    stamp = {"processors": [{"append": {"field": "stamps", "value": "stamped"}}]}
    client.ingest.put_pipeline(id=f"{shop}_stamp", body=stamp)
    chosen = {f"index.{which}_pipeline": f"{shop}_stamp" for which in ("default", "final")}
    client.indices.put_settings(index=shop, body=chosen)
    client.index(index=shop, id="p0", body={"title": "teapot"}, refresh=True)
    done = run(client, shop, Letters("second@000000000002"))
    assert sources(client, shop)["p0"]["stamps"] == ["stamped"] * 2
    flat = client.indices.get_settings(index=done.index, params={"flat_settings": "true"})
    kept = flat[done.index]["settings"]
    assert {name: kept.get(name) for name in chosen} == chosen


def test_vectors_are_cut_for_search_and_kept_whole_for_ranking(
    client: OpenSearch, shop: str
) -> None:
    second = Letters("second@000000000002", factor=3.0)
    run(client, shop, second, dimensions=12)
    document = sources(client, shop)["p7"]
    (whole,) = second.encode_passages(["kettle 7"])
    np.testing.assert_array_equal(unpack(document[PACKED]), whole)
    np.testing.assert_allclose(document[VECTOR], cut(whole, 12), atol=1e-6)
    # By inner product, of vectors of length 1.
    query = {"knn": {VECTOR: {"vector": cut(whole, 12), "k": 1}}}
    found = client.search(index=shop, body={"query": query}, params={"search_pipeline": "_none"})
    assert found["hits"]["hits"][0]["_score"] == pytest.approx(2.0, abs=1e-5)
    assert find_live(client, shop).noted["dimensions"] == 12


def test_what_can_not_be_reencoded_is_said_and_changes_nothing(
    client: OpenSearch, shop: str
) -> None:
    with pytest.raises(errors.InvalidInput, match="holds vectors of first@000000000001 already"):
        run(client, shop, FIRST)
    with pytest.raises(errors.NotFound, match="There is no index 'nothing-there'"):
        run(client, "nothing-there", FIRST)
    with pytest.raises(errors.InvalidInput, match="stands for"):
        run(client, "ubi_*", FIRST)
    assert len(generations(client, shop)) == 1
    with pytest.raises(errors.NotFound, match="leave out --resume"):
        run(client, shop, Letters("second@000000000002"), resume=True)


def test_a_document_that_can_not_be_encoded_costs_nothing_that_is(
    client: OpenSearch, shop: str
) -> None:
    (before,) = generations(client, shop)
    client.index(index=shop, id="bad", body={"id": "bad"})
    with pytest.raises(errors.InvalidInput, match=r"'bad' of .* has no title.*as it was.*--resume"):
        run(client, shop, Letters("second@000000000002"))
    assert list(client.indices.get_alias(name=shop)) == [before]
    client.delete(index=shop, id="bad")
    done = run(client, shop, Letters("second@000000000002"), resume=True)
    assert done.documents == COUNT
    assert 0 < done.encoded < COUNT


def test_a_point_in_time_that_is_gone_is_opened_anew(
    client: OpenSearch, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.reencoding._PAGE", 1_000)
    encoder = Letters(
        "second@000000000002", before=lambda call: client.delete_all_pits() if call < 2 else None
    )
    done = run(client, shop, encoder)
    assert (done.documents, done.encoded) == (COUNT, COUNT)
    assert len(sources(client, shop)) == COUNT


def test_where_no_point_in_time_lasts_what_was_encoded_is_kept(
    client: OpenSearch, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.reencoding._PAGE", 1_000)
    (before,) = generations(client, shop)
    create_pit = client.create_pit

    def lost(call: int) -> None:
        def gone(**arguments: Any) -> Any:
            made = create_pit(**arguments)
            client.delete_all_pits()
            return made

        if call == 0:
            client.delete_all_pits()
            monkeypatch.setattr(client, "create_pit", gone)

    with pytest.raises(errors.Unavailable, match=r"point in time.*gone.*as it was.*--resume"):
        run(client, shop, Letters("second@000000000002", before=lost))
    assert list(client.indices.get_alias(name=shop)) == [before]
    monkeypatch.setattr(client, "create_pit", create_pit)
    done = run(client, shop, Letters("second@000000000002"), resume=True)
    assert 0 < done.encoded < done.documents == COUNT


def test_an_index_that_went_live_meanwhile_stays(client: OpenSearch, shop: str) -> None:
    tonight = create(client, shop, product_index(), {"catalogue": "tonight"})

    def overtaken(call: int) -> None:
        if call == 1:
            client.index(index=tonight.index, id="new", body={"id": "new", "title": "cup"})
            tonight.finish(client, 1, keep=1)

    with pytest.raises(errors.NotFound, match=rf"moved meanwhile.*{tonight.index}.*was deleted"):
        run(client, shop, Letters("second@000000000002", before=overtaken))
    assert list(client.indices.get_alias(name=shop)) == [tonight.index]
    assert list(sources(client, shop)) == ["new"]
    assert len(generations(client, shop)) == 2


def test_a_shard_that_is_away_is_not_taken_for_documents_that_are_deleted(
    client: OpenSearch, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{shop}half"
    before = f"{name}-20260101000000-00"
    body = product_index(FIRST.ref, FIRST.dimensions)
    # On one node the second shard finds no place, and its documents are refused.
    body["settings"]["index"] |= {
        "number_of_shards": 2,
        "routing.allocation.total_shards_per_node": 1,
    }
    body["aliases"] = {name: {}}
    client.indices.create(index=before, body=body, params={"wait_for_active_shards": "0"})
    lines = [
        line
        for n in range(20)
        for line in ({"index": {"_id": str(n)}}, {"id": str(n), "title": f"kettle {n}"})
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    # The client's own method takes `timeout` for how long it waits itself.
    client.transport.perform_request("POST", f"/{before}/_bulk?timeout=1s&refresh=true", body=text)
    assert client.count(index=name)["count"] > 0
    # It waits a minute for the shard, and then says nothing.
    refresh = client.indices.refresh
    monkeypatch.setattr(
        client.indices, "refresh", lambda index: None if index == before else refresh(index=index)
    )
    with pytest.raises(errors.Unavailable, match=r"missing shards.*as it was.*--resume"):
        run(client, name, Letters("second@000000000002"))
    assert list(client.indices.get_alias(name=name)) == [before]


def test_a_document_that_can_not_be_read_is_not_taken_for_a_deleted_one(
    client: OpenSearch, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = generations(client, shop)
    mget = client.mget

    def away(**arguments: Any) -> Any:
        answer = mget(**arguments)
        # As of a shard that went between listing and reading.
        reason = {"type": "no_shard_available_action_exception", "reason": "No shard available"}
        answer["docs"][1] = {"_index": before, "_id": "p1", "error": reason}
        return answer

    monkeypatch.setattr(client, "mget", away)
    with pytest.raises(errors.Unavailable, match=r"'p1'.*No shard available.*--resume"):
        run(client, shop, Letters("second@000000000002"))
    assert list(client.indices.get_alias(name=shop)) == [before]


@pytest.fixture
def sidecar(stack: Settings, tmp_path: Path) -> Iterator[tuple[Running, Registry]]:
    """A sidecar on the stack's node, whose registry holds one tiny encoder."""
    (tmp_path / "models").mkdir()
    registry = Registry(str(tmp_path / "models"))
    registry.publish(tiny_bundle(tmp_path / "one", "encoder", name="shop"))
    with Running(
        tmp_path / "sidecar.log",
        opensearch_url=stack.opensearch_url,
        registry=registry.url,
        registry_poll_seconds=0.1,
        index_ttl_seconds=0,
    ) as running:
        running.ready()
        yield running, registry


def test_the_sidecar_holds_both_encoders_and_each_index_has_its_own(
    sidecar: tuple[Running, Registry],
    stack: Settings,
    client: OpenSearch,
    tmp_path: Path,
    shop: str,
) -> None:
    running, registry = sidecar
    old = Encoder.load(registry.get("shop"))
    name = f"{shop}tiny"
    rows = [{"id": str(n), "title": title} for n, title in enumerate(TITLES)]
    make(client, name, rows, old, tmp_path)
    (before,) = client.indices.get_alias(name=name)
    # A candidate: nobody promoted it, and it does not serve by itself.
    bundle = tiny_bundle(tmp_path / "two", "encoder", name="shop", query_prefix="apple ")
    new = Encoder.load(registry.publish(bundle, candidate=True))
    assert registry.resolve("shop") == old.ref
    assert not np.allclose(old.encode_queries(["kettle"]), new.encode_queries(["kettle"]))

    done = CliRunner().invoke(
        app,
        ["reencode", name, "--encoder", new.ref, "--json"],
        env={
            "NEURALRANK_OPENSEARCH_URL": stack.opensearch_url,
            "NEURALRANK_REGISTRY": registry.url,
        },
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["encoder"] == new.ref

    def query_vector(index: str) -> NDArray[np.float32]:
        """As soon as the sidecar has loaded what the index names."""
        end = time.monotonic() + 60
        while True:
            try:
                with Client(running.address) as ranking:
                    (vector,) = ranking.encode(queries=["kettle"], index=index)
                return vector
            except errors.Unavailable:  # "is being loaded"
                assert time.monotonic() < end
                time.sleep(0.1)

    np.testing.assert_allclose(query_vector(name), new.encode_queries(["kettle"])[0], atol=1e-5)
    np.testing.assert_allclose(query_vector(before), old.encode_queries(["kettle"])[0], atol=1e-5)
    with Client(running.address) as ranking:
        loaded = {
            f"{row.name}@{row.hash}"
            for row in ranking.model_status().bundles
            if row.state == pb.BUNDLE_STATE_SERVING
        }
    assert loaded == {old.ref, new.ref}

"""Catalogue to index, on a real OpenSearch."""

import gzip
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from indexer import Catalogue, Summary, index_catalogue
from neuralrank import errors
from neuralrank.cli.commands import app
from neuralrank.opensearch.packing import PACKED, VECTOR, unpack
from neuralrank.opensearch.succession import read_only as hold_read_only
from neuralrank.settings import Settings
from opensearch_config import lexical_query, product_index


class LetterEncoder:
    """Counts letters: near texts have near vectors, and it costs nothing."""

    ref = "letters@0123456789ab"
    dimensions = 26

    def __init__(self, before: Callable[[int], None] | None = None) -> None:
        self.encoded = 0
        self._calls = 0
        self._before = before

    def encode_passages(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        if self._before:
            self._before(self._calls)
        self._calls += 1
        self.encoded += len(texts)
        counts = [[text.lower().count(chr(97 + i)) + 0.01 for i in range(26)] for text in texts]
        vectors = np.array(counts, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def name(client: OpenSearch) -> Iterator[str]:
    made = f"indexer-{uuid4().hex[:8]}"
    yield made
    client.indices.delete(index=f"{made}*", params={"expand_wildcards": "all"})


def product(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"p{number}", "title": f"kettle number {number}", "price": number, **fields}


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def run(
    client: OpenSearch,
    path: Path,
    name: str,
    encoder: LetterEncoder | None = None,
    **options: Any,
) -> Summary:
    body = product_index(encoder.ref, encoder.dimensions) if encoder else product_index()
    rejects = path.with_suffix(".rejects")
    return index_catalogue(client, Catalogue(path), name, body, encoder, rejects, **options)


def command(stack: Settings, *arguments: str) -> Any:
    environment = {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url, "COLUMNS": "200"}
    return CliRunner().invoke(app, arguments, env=environment)


def ids(client: OpenSearch, index: str, query: dict[str, Any]) -> list[str]:
    answer = client.search(index=index, body={"query": query, "size": 100})
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def test_good_rows_go_in_and_bad_ones_to_the_rejects(
    stack: Settings, client: OpenSearch, name: str, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "shop.jsonl",
        [product(1), "{broken", product(2, price="cheap"), product(3, price=1e300), product(1)],
    )
    rejects = tmp_path / "out" / "bad.jsonl"
    done = command(
        stack,
        "index",
        str(path),
        "--index",
        name,
        "--no-vectors",
        "--json",
        "--rejects",
        str(rejects),
        "--max-rejected",
        "0.8",
    )
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["read"], summary["written"], summary["rejected"]) == (5, 1, 4)
    assert summary["alias"] == name
    assert summary["encoder"] == ""
    assert summary["rejects"] == str(rejects)
    assert ids(client, name, {"match_all": {}}) == ["p1"]
    rejected = {entry["line"]: entry for entry in map(json.loads, rejects.read_text().splitlines())}
    assert sorted(rejected) == [2, 3, 4, 5]
    assert "is not JSON" in rejected[2]["reason"]
    assert rejected[2]["row"] == "{broken"
    assert "price: got 'cheap'" in rejected[3]["reason"]
    assert "OpenSearch refused it" in rejected[4]["reason"]
    assert "already in line 1" in rejected[5]["reason"]
    assert rejected[5]["row"] == product(1)


def test_every_format_gives_the_same_documents(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    row = product(
        1,
        category=["Home", "Kettles"],
        attributes={"volts": 230, "cordless": True},
        in_stock=False,
        price=9.5,
        description='says "hot", then 水开了',
    )
    bare = {"id": "p2", "title": "电热水壶"}
    plain = write(tmp_path / "a.jsonl", [row, bare])
    zipped = tmp_path / "b.ndjson.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    separated = tmp_path / "c.csv"
    separated.write_text(
        "id,title,category,attributes,in_stock,price,description\n"
        'p1,kettle number 1,Home > Kettles,"{""volts"": 230, ""cordless"": true}",false,9.5,'
        '"says ""hot"", then 水开了"\n'
        "p2,电热水壶,,,,,\n",
        encoding="utf-8-sig",
    )
    columns = tmp_path / "d.parquet"
    pq.write_table(pa.Table.from_pylist([row, bare], schema=pa.schema([
        ("id", pa.string()),
        ("title", pa.string()),
        ("category", pa.list_(pa.string())),
        ("attributes", pa.struct([("volts", pa.int64()), ("cordless", pa.bool_())])),
        ("in_stock", pa.bool_()),
        ("price", pa.float64()),
        ("description", pa.string()),
    ])), columns)  # fmt: skip
    found = []
    for path in (plain, zipped, separated, columns):
        summary = run(client, path, name)
        assert (summary.written, summary.rejected) == (2, 0)
        found.append([client.get(index=name, id=i)["_source"] for i in ("p1", "p2")])
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][0]["attributes"] == {"volts": 230, "cordless": True}
    # Both languages, attributes as text and as filter.
    assert ids(client, name, lexical_query("热水壶"))[0] == "p2"
    assert ids(client, name, lexical_query("cordless KETTLES")) == ["p1"]
    assert ids(client, name, {"term": {"attributes.volts": "230"}}) == ["p1"]
    assert ids(client, name, {"term": {"category.keyword": "Kettles"}}) == ["p1"]


def test_a_typo_finds_what_was_meant_and_moves_nothing_that_is_found_without_it(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    titles = {
        "t1": "Trident tripod for phones",
        "t2": "Tripods",
        "m1": "Wireless mouse, black",
        "m2": "Doll house with a mouse",
        "h1": "Moose, a doll",
        "z1": "无线鼠标 Logitech M185",
    }
    rows = [{"id": id_, "title": title} for id_, title in titles.items()]
    rows.append({"id": "n1", "title": "Trail shoes 40", "brand": "Saucony"})
    run(client, write(tmp_path / "a.jsonl", rows), name)
    assert set(ids(client, name, lexical_query("tripdo"))) == {"t1", "t2"}
    assert ids(client, name, lexical_query("saucnoy")) == ["n1"]
    assert ids(client, name, lexical_query("logitehc 鼠标"))[0] == "z1"
    # What says the word itself stands before what says a like one.
    assert ids(client, name, lexical_query("mouse")) == ["m1", "m2", "h1"]
    # Short words and Chinese are meant as they are.
    assert ids(client, name, lexical_query("m186")) == ["z1"]
    assert ids(client, name, lexical_query("鼠狗")) == ["z1"]
    assert ids(client, name, lexical_query("40s")) == ["n1"]


@pytest.mark.parametrize("numbers", [False, True])
def test_vectors_are_searchable_and_say_who_made_them(
    client: OpenSearch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: bool
) -> None:
    if numbers:  # a cluster without the plugin; here it is
        monkeypatch.setattr("indexer.run.are_indexed_packed", lambda *_: False)
    rows = [product(1), {"id": "z", "title": "zzz"}]
    encoder = LetterEncoder()
    summary = run(client, write(tmp_path / "a.jsonl", rows), name, encoder)
    assert summary.encoder == encoder.ref
    (mapping,) = client.indices.get_mapping(index=name).values()
    meta = mapping["mappings"]["_meta"]["neuralrank"]
    assert (meta["encoder"], meta["dimensions"], meta["state"]) == (encoder.ref, 26, "complete")
    vector = encoder.encode_passages(["zz"])[0]
    query = {"knn": {"text_vector": {"vector": vector, "k": 1}}}
    assert ids(client, name, query) == ["z"]
    assert meta["packed_vectors"] == {VECTOR: PACKED}
    source = client.get(index=name, id="z")["_source"]
    packed = unpack(source[PACKED])
    assert packed is not None
    np.testing.assert_allclose(packed, encoder.encode_passages(["zzz"])[0], atol=1e-6)
    assert (VECTOR in source) == numbers
    if numbers:
        np.testing.assert_allclose(packed, source[VECTOR], atol=1e-6)


def test_the_alias_moves_and_one_earlier_generation_stays(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    made = []
    for count in (1, 2, 3):
        summary = run(client, write(path, [product(n) for n in range(count)]), name)
        made.append(summary.index)
        assert list(client.indices.get_alias(name=name)) == [summary.index]
        assert client.count(index=name)["count"] == count
    assert summary.deleted == (made[0],)
    assert sorted(client.indices.get(index=f"{name}-*")) == sorted(made[1:])
    settings = client.indices.get_settings(index=name)[made[2]]["settings"]["index"]
    assert (settings["refresh_interval"], settings["auto_expand_replicas"]) == ("1s", "0-1")


def test_what_was_set_on_the_index_before_is_handed_on(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", [product(1), product(2, language="zh")])
    before = run(client, path, name).index

    # Set while the next run is under way: what holds in the end counts.
    def configure(_: int) -> None:
        client.indices.put_settings(
            index=name, body={"index.search.default_pipeline": "neural_rank_only"}
        )
        chinese = {"filter": {"term": {"language": "zh"}}, "routing": "a"}
        for alias in (name, f"{name}_zh"):
            client.indices.put_alias(index=before, name=alias, body=chinese)

    after = run(client, path, name, LetterEncoder(configure)).index
    found = client.indices.get(index=after, params={"flat_settings": "true"})[after]
    assert found["settings"]["index.search.default_pipeline"] == "neural_rank_only"
    options = {
        "filter": {"term": {"language": "zh"}},
        "index_routing": "a",
        "search_routing": "a",
    }
    assert found["aliases"][f"{name}_zh"] == options
    assert found["aliases"][name] == {**options, "is_write_index": True}
    assert list(client.indices.get_alias(name=f"{name}_zh")) == [after]


def test_an_index_that_was_made_otherwise_keeps_its_other_aliases(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    own = f"{name}.by-hand"
    client.indices.create(index=own, body={"aliases": {name: {}, f"{name}_own": {}}})
    made = run(client, write(tmp_path / "a.jsonl", [product(1)]), name).index
    assert list(client.indices.get_alias(name=name)) == [made]
    assert list(client.indices.get_alias(name=f"{name}_own")) == [own]


def test_an_earlier_index_that_can_not_be_deleted_is_said_and_the_new_one_serves(
    stack: Settings, client: OpenSearch, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", [product(1)])
    first, second = (run(client, path, name).index for _ in range(2))
    # OpenSearch refuses as it does while a snapshot is made of it.
    client.indices.put_settings(index=first, body={"index.blocks.read_only": True})
    try:
        done = command(stack, "index", str(path), "--index", name, "--no-vectors")
        assert done.exit_code == 0, done.output
        said = " ".join(done.stdout.split())
        assert f"could not delete {first}" in said
        assert "by hand" in said
        (third,) = client.indices.get_alias(name=name)
        assert third not in (first, second)
        assert ids(client, name, {"match_all": {}}) == ["p1"]
    finally:
        client.indices.put_settings(index=first, body={"index.blocks.read_only": None})
    summary = run(client, path, name)
    assert (summary.deleted, summary.warnings) == ((first, second), ())


def test_ctrl_c_while_earlier_indexes_are_deleted_leaves_the_new_one(
    client: OpenSearch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", [product(1)])
    run(client, path, name)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(client.indices, "delete", interrupted)
        with pytest.raises(KeyboardInterrupt, match="stands for the new index"):
            run(client, path, name, keep=0)
    assert ids(client, name, {"match_all": {}}) == ["p1"]


def test_a_switch_whose_answer_does_not_come_is_not_taken_back(
    client: OpenSearch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", [product(1)])
    before = run(client, path, name).index
    switch = client.indices.update_aliases

    def slow(**arguments: Any) -> None:
        switch(**arguments)
        raise errors.Unavailable("OpenSearch did not answer in time.")

    with monkeypatch.context() as patched:
        patched.setattr(client.indices, "update_aliases", slow)
        with pytest.raises(errors.Unavailable, match="stands for the new index"):
            run(client, path, name)
    (after,) = client.indices.get_alias(name=name)
    assert after != before
    # It is served, but what comes after the switch was not done: this does it.
    assert run(client, path, name, resume=True).index == after
    (mapping,) = client.indices.get_mapping(index=name).values()
    assert mapping["mappings"]["_meta"]["neuralrank"]["state"] == "complete"
    assert sorted(client.indices.get(index=f"{name}-*")) == [before, after]


def test_an_index_that_is_no_alias_is_left_alone(
    stack: Settings, client: OpenSearch, name: str, tmp_path: Path
) -> None:
    client.index(index=name, id="1", body={"mine": True}, params={"refresh": "true"})
    path = write(tmp_path / "a.jsonl", [product(1)])
    done = command(stack, "index", str(path), "--index", name, "--no-vectors")
    assert isinstance(done.exception, errors.InvalidInput)
    assert "is an index, not an alias" in str(done.exception)
    assert client.count(index=name)["count"] == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "holds no product"), ("\n\n", "holds no product"), ('{"id": 1}\n', "None of the 1 rows")],
)
def test_a_catalogue_without_products_changes_nothing(
    client: OpenSearch, name: str, tmp_path: Path, content: str, says: str
) -> None:
    good = run(client, write(tmp_path / "good.jsonl", [product(1)]), name)
    bad = tmp_path / "bad.jsonl"
    bad.write_text(content)
    with pytest.raises(errors.InvalidInput, match=says):
        run(client, bad, name)
    assert list(client.indices.get(index=f"{name}-*")) == [good.index]
    assert ids(client, name, {"match_all": {}}) == ["p1"]


def test_a_damaged_file_changes_nothing(client: OpenSearch, name: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    rows = "\n".join(json.dumps(product(n, description=os.urandom(50).hex())) for n in range(3000))
    path.write_bytes(gzip.compress(rows.encode())[:-5000])
    with pytest.raises(errors.InvalidInput, match="damaged gzip file"):
        run(client, path, name)
    assert client.indices.get(index=f"{name}-*") == {}


def block(client: OpenSearch, name: str, setting: str, value: bool | None) -> None:
    client.indices.put_settings(index=f"{name}-*", body={f"index.blocks.{setting}": value})


def test_writes_that_a_killed_run_left_refused_are_let_in_while_it_is_indexed_anew(
    client: OpenSearch, tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / "a.jsonl", [product(n) for n in range(3)])
    before = run(client, path, name).index
    killed = hold_read_only(client, before)
    killed.__enter__()  # and never left

    def add(_: int) -> None:
        client.index(index=name, id="late", body={"title": "late kettle"})

    done = run(client, path, name, LetterEncoder(add))
    assert [said.partition(",")[0] for said in done.warnings] == [f"{before} refused writes"]


def test_read_only_in_the_middle_keeps_the_old_index_and_can_be_resumed(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    old = run(client, write(tmp_path / "old.jsonl", [product(1)]), name)
    path = write(tmp_path / "new.jsonl", [product(n) for n in range(5000)])

    def read_only(call: int) -> None:
        if call == 3:
            block(client, name, "write", True)

    with pytest.raises(errors.Unavailable, match=r"read_only.*left as it was.*--resume"):
        run(client, path, name, LetterEncoder(read_only))
    assert list(client.indices.get_alias(name=name)) == [old.index]
    assert ids(client, name, {"match_all": {}}) == ["p1"]

    block(client, name, "write", None)
    encoder = LetterEncoder()
    summary = run(client, path, name, encoder, resume=True)
    assert 0 < summary.resumed < 5000
    assert summary.resumed + encoder.encoded == summary.written == 5000
    assert client.count(index=name)["count"] == 5000


def test_an_index_that_takes_the_name_meanwhile_costs_nothing_that_is_encoded(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", [product(n) for n in range(3000)])

    def written(call: int) -> None:
        if call == 2:  # an application that does not know that the name is not there yet
            client.index(index=name, id="x", body={"title": "kettle"})

    with pytest.raises(errors.Unavailable, match=r"was made meanwhile.*is kept: go on with --res"):
        run(client, path, name, LetterEncoder(written))
    client.indices.delete(index=name)
    encoder = LetterEncoder()
    done = run(client, path, name, encoder, resume=True)
    assert (done.resumed, done.written, encoder.encoded) == (3000, 3000, 0)
    assert list(client.indices.get_alias(name=name)) == [done.index]


def test_a_full_disk_is_said_and_the_unfinished_index_gives_its_space_back(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    old = run(client, write(tmp_path / "old.jsonl", [product(1)]), name)
    path = write(tmp_path / "new.jsonl", [product(n) for n in range(3000)])

    def flood(call: int) -> None:
        if call == 1:
            block(client, name, "read_only_allow_delete", True)

    with pytest.raises(errors.Unsupported, match=r"disk is full.*unfinished index was deleted"):
        run(client, path, name, LetterEncoder(flood))
    assert list(client.indices.get(index=f"{name}-*")) == [old.index]


def test_an_interrupted_run_can_be_resumed(client: OpenSearch, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [product(n) for n in range(3000)])

    def interrupt(call: int) -> None:
        if call == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="--resume"):
        run(client, path, name, LetterEncoder(interrupt))
    assert not client.indices.exists_alias(name=name)

    with pytest.raises(errors.InvalidInput, match="its encoder is"):
        run(client, path, name, resume=True)
    summary = run(client, path, name, LetterEncoder(), resume=True)
    assert summary.written == 3000
    assert summary.resumed > 0
    with pytest.raises(errors.NotFound, match="leave out --resume"):
        run(client, path, name, LetterEncoder(), resume=True)


def test_an_index_deleted_in_the_middle_is_not_served(
    client: OpenSearch, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", [product(n) for n in range(1500)])

    def delete(call: int) -> None:
        if call == 1:
            client.indices.delete(index=f"{name}-*")

    with pytest.raises(errors.NeuralrankError, match=r"deleted|does not have it"):
        run(client, path, name, LetterEncoder(delete))
    assert not client.indices.exists_alias(name=name)


@pytest.mark.parametrize("wrong", ["Shop", "-a", "a b", "a*", "_x", ""])
def test_a_name_that_can_be_no_alias(client: OpenSearch, tmp_path: Path, wrong: str) -> None:
    path = write(tmp_path / "a.jsonl", [product(1)])
    with pytest.raises(errors.InvalidInput, match="--index"):
        run(client, path, wrong)


def test_a_person_reads_a_summary(
    stack: Settings, client: OpenSearch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", [product(1), "x"])
    arguments = ("index", "a.jsonl", "--index", name, "--no-vectors")
    done = command(stack, *arguments)
    assert "1 of the 2 rows of a.jsonl were rejected" in str(done.exception)
    assert not client.indices.exists_alias(name=name)
    done = command(stack, *arguments, "--max-rejected", "0.5")
    assert done.exit_code == 0, done.output
    assert f"{name} → {name}-" in done.stdout
    assert "documents/s" in done.stdout
    assert f"1 (see {name}.rejects.jsonl)" in done.stdout
    assert (tmp_path / f"{name}.rejects.jsonl").is_file()

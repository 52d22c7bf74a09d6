"""What becomes of the alias when a catalogue is indexed, without a cluster."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from indexer import Catalogue, Summary, index_catalogue
from neuralrank.cli.commands import app
from neuralrank.encoders.matryoshka import cut
from neuralrank.errors import InvalidInput, Overloaded, Unavailable
from neuralrank.opensearch.packing import PACKED, VECTOR, unpack
from tests.unit.opensearch.test_generation import Cluster

BODY: dict[str, Any] = {"settings": {}, "mappings": {}}


class Shop(Cluster):
    """Takes documents; `away` after so many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.away = False
        self.documents: dict[str, Mapping[str, Any]] = {}
        monkeypatch.setattr("indexer.run.bulk_write", self.write)

    def write(
        self, _: object, index: str, documents: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> list[Any]:
        self.ids[index].update(id for id, _ in documents)
        self.documents.update(documents)
        if self.away:
            raise Unavailable("OpenSearch is away.")
        return []

    def info(self) -> None: ...

    def close(self) -> None: ...

    def mget(self, index: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"docs": [{"_id": id, "found": id in self.ids[index]} for id in body["ids"]]}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(monkeypatch)


def run(shop: Shop, folder: Path, good: int, bad: int, **options: Any) -> Summary:
    path = folder / "feed.jsonl"
    rows = [{"id": str(n), "title": "kettle" if n < good else ""} for n in range(good + bad)]
    if not options.get("resume"):  # which goes by the file's time, too
        path.write_text("\n".join(map(json.dumps, rows)))
    rejects = folder / "shop.rejects.jsonl"
    client = cast(OpenSearch, shop)
    return index_catalogue(client, Catalogue(path), "shop", BODY, None, rejects, **options)


def test_a_broken_feed_replaces_nothing_however_often_it_comes(shop: Shop, tmp_path: Path) -> None:
    """The first one took the alias, and the second deleted the last good index."""
    good = run(shop, tmp_path, 192, 0)
    for _ in range(2):
        with pytest.raises(InvalidInput) as caught:
            run(shop, tmp_path, 1, 191)
        said = str(caught.value)
        assert "191 of the 192 rows of" in said
        assert "a share of 0.9948; --max-rejected allows 0.1. " in said
        assert "shop.rejects.jsonl says why" in said
        assert f"'shop' was left as it was, on {good.index}; the unfinished index was del" in said
    assert shop.serving("shop") == list(shop.made) == [good.index]


@pytest.mark.parametrize(("bad", "allowed"), [(10, 0.1), (29, 0.29), (98, 0.98), (0, 0.0)])
def test_the_share_that_is_allowed_goes_live(
    shop: Shop, tmp_path: Path, bad: int, allowed: float
) -> None:
    summary = run(shop, tmp_path, 100 - bad, bad, max_rejected=allowed)
    assert (summary.written, summary.rejected) == (100 - bad, bad)
    with pytest.raises(InvalidInput, match="max-rejected"):
        run(shop, tmp_path, 100 - bad - 1, bad + 1, max_rejected=allowed - 1e-9)
    assert shop.serving("shop") == [summary.index]


def test_of_a_resumed_run_the_rows_of_both_count(shop: Shop, tmp_path: Path) -> None:
    """Of what the second run writes itself all may be rejected, or nothing."""
    shop.away = True
    with pytest.raises(Unavailable, match="--resume"):
        run(shop, tmp_path, 90, 10)
    shop.away = False
    resumed = run(shop, tmp_path, 90, 10, resume=True)
    assert (resumed.resumed, resumed.written, resumed.rejected) == (90, 90, 10)
    shop.away = True
    with pytest.raises(Unavailable, match="--resume"):
        run(shop, tmp_path, 80, 20)
    shop.away = False
    with pytest.raises(InvalidInput, match="20 of the 100 rows"):
        run(shop, tmp_path, 80, 20, resume=True)
    assert shop.serving("shop") == [resumed.index]


def test_what_an_opensearch_that_is_too_busy_has_taken_is_kept(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise Overloaded("OpenSearch has too much to do.")

    with monkeypatch.context() as until_then:
        until_then.setattr("indexer.run.bulk_write", busy)
        with pytest.raises(Overloaded, match="is kept: go on with --resume"):
            run(shop, tmp_path, 9, 0)
    assert run(shop, tmp_path, 9, 0, resume=True).written == 9


def test_vectors_are_of_title_and_brand_and_cut_where_they_are_searched_alone(
    shop: Shop, tmp_path: Path
) -> None:
    vectors = np.array([[3, 4, 12], [12, 4, 3]], np.float32) / np.float32(13)
    read: list[str] = []

    class Given:
        ref, dimensions = "given@000000000001", 3

        def encode_passages(
            self, texts: Sequence[str], _: Callable[[int], None] | None = None
        ) -> NDArray[np.float32]:
            read.extend(texts)
            return vectors

    feed = tmp_path / "feed.jsonl"
    feed.write_text(
        '{"id": 1, "title": "kettle", "brand": "Bosch", "color": "red"}\n'
        '{"id": 2, "title": "cup"}\n'
    )
    index_catalogue(
        cast(OpenSearch, shop), Catalogue(feed), "shop", BODY, Given(), tmp_path / "rejects",
        dimensions=2,
    )  # fmt: skip
    assert read == ["kettle\nBosch", "cup"]
    for name, vector in zip("12", vectors, strict=True):
        document = shop.documents[name]
        np.testing.assert_allclose(document[VECTOR], cut(vector, 2))
        np.testing.assert_array_equal(unpack(document[PACKED]), vector)


def test_the_commonest_reasons_for_rejects_are_named(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = ["$1.50", "$2.50", "3 €", 4, 5]
    rows = [{"id": n, "title": "kettle", "price": price} for n, price in enumerate(prices)]
    rows += [{"id": 4, "title": "kettle"}, {"id": 4, "title": "kettle"}, {"id": 6}]
    feed = tmp_path / "feed.jsonl"
    feed.write_text("\n".join([*map(json.dumps, rows), "{", "[broken"]))
    monkeypatch.setattr("neuralrank.cli.index.connect", lambda *_, **__: shop)
    monkeypatch.setattr("opensearch_config.require_engine", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    command = ["index", "feed.jsonl", "--index", "shop", "--no-vectors"]
    refused = CliRunner().invoke(app, command)
    price = (
        "price: input should be a valid number, without currency or separators of thousands, such "
        "as 1299.00"
    )
    assert f"The commonest reasons: {price} (3 ×), id: is already in an" in str(refused.exception)
    command += ["--max-rejected", "1"]
    shown = " ".join(CliRunner().invoke(app, command).stdout.split())
    assert f"(see shop.rejects.jsonl) {price} 3 × id: is already in an earlier line 2 ×" in shown
    assert json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["reject_reasons"] == {
        price: 3,
        "id: is already in an earlier line": 2,
        "title: it is required": 1,
    }


@pytest.mark.parametrize("name", ["shop.rejects.jsonl", "shop.photos.jsonl"])
def test_the_file_that_is_read_is_never_written_over(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As where somebody mends the rejects of the last run and indexes them."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_text('{"id": "1"}\n{"id": "2", "title": "kettle"}\n')
    text = path.read_text()
    with pytest.raises(InvalidInput, match="which is the file that is read"):
        index_catalogue(
            cast(OpenSearch, shop), Catalogue(path), "shop", BODY, None, Path("shop.rejects.jsonl")
        )
    assert path.read_text() == text
    assert shop.made == {}


def test_what_is_resumed_has_the_same_fields_and_settings(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.away = True
    with pytest.raises(Unavailable, match="--resume"):
        run(shop, tmp_path, 90, 10)
    shop.away = False
    mended = {**BODY, "mappings": {**BODY["mappings"], "dynamic": "strict"}}
    monkeypatch.setattr("tests.unit.indexer.test_run.BODY", mended)
    with pytest.raises(InvalidInput, match=r"mappings_and_settings is .* to begin anew"):
        run(shop, tmp_path, 90, 10, resume=True)


def test_what_is_resumed_is_of_the_same_catalogue_and_photos(shop: Shop, tmp_path: Path) -> None:
    """Documents that are there are not written again."""
    shop.away = True
    with pytest.raises(Unavailable, match="--resume"):
        run(shop, tmp_path, 90, 10)
    shop.away = False
    photos = SimpleNamespace(encoder=SimpleNamespace(ref="images@000000000001", dimensions=3))
    with pytest.raises(InvalidInput, match=r"its image_encoder is ''.* to begin anew"):
        run(shop, tmp_path, 90, 10, resume=True, photos=photos)
    (tmp_path / "feed.jsonl").write_text('{"id": "0", "title": "teapot"}')
    with pytest.raises(InvalidInput, match=r"its catalogue is .* to begin anew"):
        run(shop, tmp_path, 90, 10, resume=True)


def test_the_command_allows_more_where_asked(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("neuralrank.cli.index.connect", lambda *_, **__: shop)
    monkeypatch.setattr("opensearch_config.require_engine", lambda *_: None)
    Path("feed.jsonl").write_text('{"id": "1", "title": "kettle"}\n{"id": "2"}\n')
    command = ["index", "feed.jsonl", "--index", "shop", "--no-vectors"]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, InvalidInput)
    assert "1 of the 2 rows of feed.jsonl were rejected, a share of 0.5;" in str(refused.exception)
    assert shop.made == {}
    allowed = CliRunner().invoke(app, [*command, "--max-rejected", "0.5"])
    assert allowed.exit_code == 0, allowed.output
    assert shop.serving("shop") == list(shop.made)

"""Photos of a catalogue: from disk and from addresses, and what of those that can't be had."""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import urllib3
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from indexer.photos import LiveVectors, Photos
from neuralrank.catalogue.product import Product
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.encoders.pictures import MAX_BYTES
from neuralrank.opensearch.packing import IMAGE_PACKED, pack
from tests.unit.conftest import tiny_image_bundle
from tests.unit.encoders.test_pictures import GREEN, RED, file, plain


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return ImageEncoder.load(tiny_image_bundle(tmp_path_factory.mktemp("bundle")), threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "red.png").write_bytes(file(plain(colour=RED)))
    (tmp_path / "photos" / "green.jpg").write_bytes(file(plain(colour=GREEN), "JPEG"))
    (tmp_path / "photos" / "text.png").write_bytes(b"a text")
    return tmp_path


def product(name: str, image: str | None = None, **fields: str) -> Product:
    return Product.from_row({"id": name, "title": name, "image": image, **fields})


def test_every_photo_is_a_vector_and_what_fails_costs_its_own_alone(
    encoder: ImageEncoder, folder: Path
) -> None:
    (folder.parent / "outside.png").write_bytes(file(plain()))
    products = [
        product("1", "photos/red.png"),
        product("2"),
        product("3", "photos/none.png"),
        product("4", "photos/text.png"),
        product("5", "photos/green.jpg", image_url="ftp://example.org/a.png"),
        product("6", "../outside.png"),
        product("7", "photos"),
        product("8", "a\0b"),
        product("9", image_url="ftp://example.org/a.png"),
    ]
    with closing(Photos(encoder, folder)) as photos:
        seen = photos.see(products)
    given = [place for place, vector in enumerate(seen.vectors) if vector is not None]
    assert given == [0, 4]
    np.testing.assert_allclose(seen.vectors[0], [1, 0, 0], atol=0.02)
    np.testing.assert_allclose(seen.vectors[4], [0, 1, 0], atol=0.02)
    # A product without a photo has no problem.
    assert sorted(seen.problems) == [2, 3, 5, 6, 7, 8]
    assert "No such file" in seen.problems[2]
    assert "allowed are JPEG" in seen.problems[3]
    assert "leads out of" in seen.problems[5]
    assert "--image-folder" in seen.problems[5]


def test_more_photos_than_are_decoded_ahead_keep_their_places(
    encoder: ImageEncoder, folder: Path
) -> None:
    kinds = ["photos/red.png", "photos/green.jpg", None, "photos/none.png"]
    products = [product(str(number), kinds[number % 4]) for number in range(203)]
    with closing(Photos(encoder, folder)) as photos:
        seen = photos.see(products)
    for number, vector in enumerate(seen.vectors):
        expected = [[1, 0, 0], [0, 1, 0], None, None][number % 4]
        if expected is None:
            assert vector is None
        else:
            np.testing.assert_allclose(vector, expected, atol=0.02)
    assert sorted(seen.problems) == list(range(3, 203, 4))


class Shop(BaseHTTPRequestHandler):
    """Serves photos, and what servers of photos serve besides."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        red = file(plain(colour=RED))
        failing = self.path == "/again.png" and self.asked.count(self.path) == 1
        answers = {
            "/red.png": (200, red),
            "/again.png": (503, b"") if failing else (200, red),
            "/moved.png": (302, b""),
            "/huge.png": (200, b"\x89PNG" + b"x" * MAX_BYTES),
            "/page.png": (200, b"<html>please log in</html>"),
        }
        status, body = answers.get(self.path, (404, b"none"))
        self.send_response(status)
        if status == 503:
            self.send_header("retry-after", "3600")
        if status == 302:
            self.send_header("location", "/red.png")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[tuple[str, list[str]]]:
    handler = type("Asked", (Shop,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()


def test_photos_are_fetched_from_addresses(
    encoder: ImageEncoder, folder: Path, shop: tuple[str, list[str]]
) -> None:
    url, asked = shop
    names = ["red", "moved", "again", "none", "huge", "page"]
    products = [product(name, f"{url}/{name}.png") for name in names]
    products.append(product("by url", image_url=f"{url}/red.png"))
    products.append(product("nobody", "http://127.0.0.1:1/red.png"))
    with closing(Photos(encoder, folder)) as photos:
        seen = photos.see(products)
    assert [vector is not None for vector in seen.vectors] == [
        True, True, True, False, False, False, True, False,
    ]  # fmt: skip
    assert f"{url}/none.png answers 404" in seen.problems[3]
    assert "allowed are 1 to" in seen.problems[4]
    assert "no photo that can be read" in seen.problems[5]
    assert "can't be fetched" in seen.problems[7]
    assert asked.count("/again.png") == 2


def test_a_photo_that_drips_in_is_given_up(
    encoder: ImageEncoder,
    folder: Path,
    shop: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, _ = shop
    monkeypatch.setattr("indexer.photos._PART", 16)
    with closing(Photos(encoder, folder)) as photos:
        whole = photos.see([product("1", f"{url}/red.png")])
        monkeypatch.setattr("indexer.photos._WHOLE", 0.0)
        seen = photos.see([product("1", f"{url}/red.png")])
    assert whole.vectors[0] is not None
    assert seen.vectors == [None]
    assert f"{url}/red.png can't be fetched: after 0 seconds 16 bytes" in seen.problems[0]


def test_a_machine_that_never_answers_is_not_waited_for_each_time(
    encoder: ImageEncoder,
    folder: Path,
    shop: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("indexer.photos._TIMEOUT", urllib3.Timeout(0.05))
    monkeypatch.setattr("indexer.photos._RETRIES", urllib3.Retry(0))
    url, _ = shop
    with socket.create_server(("127.0.0.1", 0), backlog=256) as hangs:
        silent = f"http://user:secret@127.0.0.1:{hangs.getsockname()[1]}"
        products = [product(str(number), f"{silent}/{number}.png") for number in range(128)]
        products.append(product("red", f"{url}/red.png"))
        with closing(Photos(encoder, folder)) as photos:
            seen = photos.see(products)
        asked = 0
        hangs.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                hangs.accept()[0].close()
                asked += 1
    # 16 at once, and what was begun before the last of them was known to have failed.
    assert 16 <= asked < 48
    assert sorted(seen.problems) == list(range(128))
    assert "timed out" in seen.problems[0]
    host = silent.removeprefix("http://user:secret@")
    assert f"{host} gave no answer to" in seen.problems[127]
    assert "Index again when it answers" in seen.problems[127]
    assert seen.vectors[128] is not None


def test_what_was_fetched_before_is_not_fetched_again(
    encoder: ImageEncoder, folder: Path, shop: tuple[str, list[str]]
) -> None:
    url, asked = shop
    before = np.array([0, 0, 1], np.float32)

    class Before:
        def of(self, products: Sequence[Product]) -> Mapping[str, NDArray[np.float32]]:
            # A photo on disk may be another under the same name; it is read anew.
            assert [product.id for product in products] == ["old", "new"]
            return {"old": before}

    products = [
        product("old", f"{url}/red.png"),
        product("new", f"{url}/red.png?2"),
        product("disk", "photos/red.png"),
    ]
    with closing(Photos(encoder, folder, Before())) as photos:
        seen = photos.see(products)
    assert seen.vectors[0] is before
    assert asked == ["/red.png?2"]
    np.testing.assert_allclose(seen.vectors[2], [1, 0, 0], atol=0.02)


def test_a_vector_of_the_live_index_is_of_the_same_address_alone() -> None:
    vector = np.array([0, 1, 0], np.float32)
    first, other = "http://a/1.png", "http://a/2.png"
    live: dict[str, dict[str, str]] = {
        "same": {"image": first, "image_url": other},
        "other": {"image": other, "image_url": first},
        "url": {"image_url": first},
        "unseen": {"image": first},
        "gone": {},
    }
    docs = [
        {
            "_id": name,
            "_source": source | ({} if name == "unseen" else {IMAGE_PACKED: pack(vector)}),
        }
        for name, source in live.items()
    ]
    client = SimpleNamespace(mget=lambda **_: {"docs": [*docs, {"_id": "new", "found": False}]})
    products = [product(name, first) for name in (*live, "new")]
    products[2] = product("url", image_url=first)
    found = LiveVectors(cast(OpenSearch, client), "shop").of(products)
    assert sorted(found) == ["same", "url"]
    np.testing.assert_array_equal(found["same"], vector)


def test_what_a_cosine_means_is_measured_on_the_catalogue(
    encoder: ImageEncoder, tmp_path: Path
) -> None:
    # Ten shades of each of six colours: the nearest is nearly the same, any two are not.
    products = []
    for number in range(60):
        colour = [30, 30, 30]
        colour[number % 3] = 200 + number // 6
        colour[(number + 1 + number // 3 % 2) % 3] = 100 + number // 6
        (tmp_path / f"{number}.png").write_bytes(file(plain(colour=tuple(colour))))
        products.append(product(str(number), f"{number}.png"))
    with closing(Photos(encoder, tmp_path)) as photos:
        photos.see(products[:40])
        assert photos.similarity() is None  # too few to say
        vectors = [*photos.see(products[:40]).vectors, *photos.see(products[40:]).vectors]
        found = photos.similarity()
    assert found is not None
    # All are in the sample; the first forty twice.
    matrix = np.stack([*vectors[:40], *vectors])  # type: ignore[list-item]
    cosines = matrix @ matrix.T
    low = np.median(cosines[np.triu_indices(len(matrix), 1)])
    assert found["low"] == pytest.approx(float(low), abs=1e-3)
    assert found["low"] < 0.95 < found["high"] <= 1.0001


def test_a_catalogue_of_one_photo_tells_nothing(encoder: ImageEncoder, folder: Path) -> None:
    products = [product(str(number), "photos/red.png") for number in range(60)]
    with closing(Photos(encoder, folder)) as photos:
        photos.see(products)
        assert photos.similarity() is None

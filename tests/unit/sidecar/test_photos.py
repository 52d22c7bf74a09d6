"""Similar items by their photos, and photos as vectors."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralrank.bundles.bundle import Calibration
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.errors import EncoderMismatch, InvalidInput, NotFound, Unavailable
from neuralrank.opensearch.packing import pack
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.deadline import Deadline
from sidecar.domain import EncodeInput, Floats
from sidecar.features.opensearch import PhotosInfo
from sidecar.models.serving import Loaded, State, Status
from sidecar.ranking.blend import with_image
from sidecar.ranking.score import image_cosines
from tests.unit.conftest import tiny_image_bundle
from tests.unit.encoders.test_pictures import GREEN, RED, file, plain
from tests.unit.sidecar.parts import Bench, ids, item, request, shop
from tests.unit.sidecar.test_features import Client, document, features

PHOTOS = PhotosInfo("colours@1", "image_vector_packed", Calibration(low=0.0, high=1.0))


def unit(*numbers: float) -> Floats:
    return np.array(numbers, np.float32) / np.float32(np.linalg.norm(numbers))


@pytest.fixture
def bench() -> Bench:
    """B and D look like A, B nearly; of C there is no photo."""
    catalogue = shop()
    catalogue.photos = PHOTOS
    looks = {"A": unit(1, 0, 0), "B": unit(5, 1, 0), "D": unit(1, 0, 0)}
    catalogue.contents = {
        name: replace(found, image=looks.get(name)) for name, found in catalogue.contents.items()
    }
    return Bench(catalogue)


async def similar(bench: Bench, **fields: object) -> dict[str, tuple[float | None, float | None]]:
    """Relevance and likeness of photos, by id."""
    options = pb.RankOptions(explain=True, weights=pb.Weights(retrieval=0))
    ranking = await bench.rank(request(similar_to="A", options=options, **fields))
    explained = {result.id: result.explanation for result in ranking.results}
    return {
        name: (found.relevance, found.image_similarity)
        for name, found in explained.items()
        if found is not None
    }


async def test_photos_count_half_of_how_alike_two_items_are(bench: Bench) -> None:
    found = await similar(bench)
    without = await similar(Bench())
    assert found["B"][1] == pytest.approx(5 / 26**0.5)
    assert found["D"][1] == pytest.approx(1.0)
    assert found["C"][1] is None
    assert {name: image for name, (_, image) in without.items()} == dict.fromkeys("BCD")
    # By text B and D are as near to A: a word of two. The categories are 0.45 of relevance.
    for name in ("B", "D"):
        text, image = 0.5**2, found[name][1]
        assert image is not None
        gain = 0.55 * ((text + image) / 2 - text)
        assert found[name][0] == pytest.approx(without[name][0] + gain, abs=1e-5)
    # Of one without a photo the texts say what they said before.
    assert found["C"][0] == pytest.approx(without["C"][0])


async def test_the_answer_names_who_compared_the_photos(bench: Bench) -> None:
    ranking = await bench.rank(request(similar_to="A"))
    assert set(ranking.bundles) == {"words@000000000001", "colours@1"}
    ranking = await bench.rank(request(query="computer"))
    assert set(ranking.bundles) == {"words@000000000001"}


async def test_candidates_that_bring_all_else_are_looked_up_for_their_photos(bench: Bench) -> None:
    made = pb.RankRequest(index="shop", similar_to="A")
    made.options.explain = True
    for name in "BD":
        product = item(name, "apple phone")
        assert product.vector is not None
        candidate = made.candidates.add(
            id=name, text="t", brand="b", price=1.0, in_stock=True, category=["c"],
            vector=product.vector.tobytes(),
        )  # fmt: skip
        candidate.attributes["a"].values.append("b")
    ranking = await bench.rank(made)
    assert all(
        result.explanation is not None and result.explanation.image_similarity is not None
        for result in ranking.results
    )


async def test_the_photos_that_happen_to_be_cached_do_not_order_the_page(bench: Bench) -> None:
    await bench.rank(request("D", similar_to="A"))
    bench.catalogue.error = Unavailable("down")
    made = request("C", "B", "D", similar_to="A", options=pb.RankOptions(explain=True))
    ranking = await bench.rank(made)
    assert ids(ranking) == ["C", "B", "D"]
    assert all(
        hit.explanation is not None and hit.explanation.image_similarity is None
        for hit in ranking.results
    )


async def test_an_index_of_photos_alone_finds_similar_items_too(bench: Bench) -> None:
    bench.catalogue.encoder = ""
    found = await similar(bench)
    # B is of A's categories, too.
    assert list(found) == ["B", "D", "C"]


async def test_photos_of_another_length_are_none(bench: Bench) -> None:
    b = bench.catalogue.contents["B"]
    bench.catalogue.contents["B"] = replace(b, image=unit(1, 1))
    assert (await similar(bench))["B"][1] is None


def test_cosines_are_of_those_that_have_a_photo() -> None:
    looks = {"a": unit(1, 0), "b": unit(0, 1), "c": None}
    items = {name: item(name, "x", image=image) for name, image in looks.items()}
    found = image_cosines(["a", "b", "c", "gone"], items, items["a"])
    np.testing.assert_allclose(found, [1.0, 0.0, np.nan, np.nan])
    assert np.isnan(image_cosines(["a"], items, items["c"])).all()
    assert np.isnan(image_cosines(["a"], items, None)).all()


def test_what_is_absent_does_not_count() -> None:
    nan = float("nan")
    text = np.array([0.2, nan, 0.4, nan], np.float32)
    image = np.array([0.6, 0.8, nan, nan], np.float32)
    np.testing.assert_allclose(with_image(text, image), [0.4, 0.8, 0.4, nan], atol=1e-6)


# ------------------------------------------------------------------------- what an index says


def noted(**fields: object) -> dict[str, object]:
    return {
        "shop-1": {
            "settings": {"index": {"uuid": "u"}},
            "mappings": {"_meta": {"neuralrank": {"encoder": "e@1", **fields}}},
        }
    }


SAID = {
    "image_encoder": "colours@1",
    "packed_vectors": {"text_vector": "text_vector_packed", "image_vector": "image_vector_packed"},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"image_encoder": "colours@1"}, None),
        (SAID, Calibration(low=0.3, high=0.9)),
        ({**SAID, "image_similarity": {"low": 0.2, "high": 0.7}}, Calibration(low=0.2, high=0.7)),
        ({**SAID, "image_similarity": {"low": 0.7, "high": 0.2}}, Calibration(low=0.3, high=0.9)),
        ({**SAID, "image_similarity": {"low": "x"}}, Calibration(low=0.3, high=0.9)),
        ({**SAID, "image_similarity": 7}, Calibration(low=0.3, high=0.9)),
    ],
)
async def test_an_index_says_what_its_photos_are(
    fields: dict[str, object], expected: Calibration | None
) -> None:
    info = await features(Client({}, noted(**fields))).index("shop", 5.0)
    if expected is None:
        assert info.photos is None
    else:
        assert info.photos == PhotosInfo("colours@1", "image_vector_packed", expected)


async def test_photos_are_read_with_the_items_where_the_index_has_them() -> None:
    seen = {**document(packed=True), "image_vector_packed": pack(unit(3, 4, 0))}
    client = Client({"a": seen, "b": document(packed=True)}, noted(**SAID))
    source = features(client)
    info = await source.index("shop", 5.0)
    a, b = await source.items(info, ["a", "b"], 5.0)
    np.testing.assert_allclose(a.image, [0.6, 0.8, 0.0], atol=1e-6)
    assert b.image is None
    assert a.size > b.size


# ------------------------------------------------------------------------------- as vectors


@pytest.fixture
def seeing(bench: Bench, tmp_path: Path) -> Bench:
    model = ImageEncoder.load(tiny_image_bundle(tmp_path / "bundle"), threads=1)
    name, _, digits = model.ref.partition("@")
    status = Status(name, digits, "image_encoder", (), State.SERVING)
    loaded = Loaded(status, datetime(2026, 1, 1, tzinfo=UTC), image=model)
    serving = bench.models.serving
    bench.models.serving = replace(serving, loaded={**serving.loaded, model.ref: loaded})
    bench.catalogue.photos = replace(PHOTOS, encoder=model.ref)
    return bench


async def encoded(
    bench: Bench, *inputs: EncodeInput, encoder: str = "", index: str = ""
) -> tuple[list[Floats | None], str]:
    deadline = Deadline.after(5.0, bench.clock)
    found, ref = await bench.vectors.encode(inputs, encoder, index, deadline)
    return [encoding.vector for encoding in found], ref


def image(colour: tuple[int, ...]) -> EncodeInput:
    return EncodeInput("image", "", image=file(plain(colour=colour)))


async def test_photos_become_vectors_in_their_order(seeing: Bench) -> None:
    vectors, ref = await encoded(seeing, image(RED), image(GREEN), image(RED))
    assert ref.startswith("tiny-images@")
    np.testing.assert_allclose(vectors, [[1, 0, 0], [0, 1, 0], [1, 0, 0]], atol=1e-3)
    (alone,), _ = await encoded(seeing, image(GREEN))
    np.testing.assert_allclose(alone, vectors[1], atol=1e-6)


async def test_photos_of_items_come_from_the_index(seeing: Bench) -> None:
    made = [EncodeInput("photo", "B"), image(GREEN), EncodeInput("photo", "C")]
    vectors, _ = await encoded(seeing, *made, index="shop")
    np.testing.assert_allclose(vectors[0], unit(5, 1, 0), atol=1e-6)
    np.testing.assert_allclose(vectors[1], [0, 1, 0], atol=1e-3)
    assert vectors[2] is None
    with pytest.raises(NotFound, match="has no item 'Z'"):
        await encoded(seeing, EncodeInput("photo", "Z"), index="shop")


async def test_what_is_no_photo_is_the_callers_fault(seeing: Bench) -> None:
    with pytest.raises(InvalidInput, match="no photo that can be read"):
        await encoded(seeing, EncodeInput("image", "", image=b"text"))


async def test_vectors_of_another_space_are_refused(seeing: Bench) -> None:
    assert seeing.catalogue.photos is not None
    seeing.catalogue.photos = replace(seeing.catalogue.photos, encoder="others@2")
    with pytest.raises(NotFound, match=r"No image_encoder 'others@2' is served"):
        await encoded(seeing, image(RED), index="shop")
    seeing.clock.now += 5
    with pytest.raises(EncoderMismatch, match="vectors of photos by others@2, and tiny-images@"):
        await encoded(seeing, image(RED), index="shop", encoder="tiny-images")
    seeing.catalogue.photos = None
    seeing.clock.now += 5
    with pytest.raises(EncoderMismatch, match=r"no vectors of photos\. Index the catalogue with"):
        await encoded(seeing, image(RED), index="shop")


@pytest.mark.parametrize(
    ("named", "error"),
    [("nonsense", NotFound), ("words", NotFound), ("tiny-images", EncoderMismatch)],
)
async def test_photos_of_items_are_of_no_other_encoder_than_the_index_s(
    seeing: Bench, named: str, error: type[Exception]
) -> None:
    photo = EncodeInput("photo", "B")
    assert seeing.catalogue.photos is not None
    held = seeing.catalogue.photos.encoder
    assert (await encoded(seeing, photo, index="shop", encoder="tiny-images"))[1] == held
    seeing.catalogue.photos = replace(seeing.catalogue.photos, encoder="others@2")
    seeing.clock.now += 5
    # They need no model, and are what the index says.
    assert (await encoded(seeing, photo, index="shop"))[1] == "others@2"
    with pytest.raises(error):
        await encoded(seeing, photo, index="shop", encoder=named)


async def test_texts_are_tokenised_while_photos_are_opened(
    seeing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeing.models.serving.image_encoder("")
    opening, opened = threading.Event(), threading.Event()

    def read(_photos: Sequence[bytes]) -> list[Any]:
        opening.set()
        assert opened.wait(20)
        raise InvalidInput("not a photo")

    monkeypatch.setattr(type(model), "read", lambda _, photos: read(photos))
    searches = [asyncio.ensure_future(encoded(seeing, image(RED))) for _ in range(4)]
    assert await asyncio.to_thread(opening.wait, 20)
    (vector,), _ = await encoded(seeing, EncodeInput("query", "apple computer"))
    assert vector is not None
    opened.set()
    for error in await asyncio.gather(*searches, return_exceptions=True):
        assert isinstance(error, InvalidInput)


async def test_without_an_image_encoder_it_says_so(bench: Bench) -> None:
    with pytest.raises(NotFound, match=r"No image_encoder is served. Served: none"):
        await encoded(bench, image(RED))

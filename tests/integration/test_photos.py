"""Photos through the real parts: indexed, found, compared, carried over, fetched once."""

import colorsys
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from bench.running import Running
from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.errors import EncoderMismatch, InvalidInput
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, unpack
from neuralrank.settings import Settings
from tests.e2e.shop import TOO_LATE
from tests.unit.conftest import tiny_bundle, tiny_image_bundle
from tests.unit.encoders.test_pictures import file, plain
from tests.unit.indexer.test_photos import shop  # noqa: F401

# Vases of one title, so that a photo says all there is to tell them by. More than neighbours by
# text that are asked for, so that what looks alike has to be searched for.
COUNT = 360
ALIKE = 12


def colour(number: int) -> tuple[int, ...]:
    """Of each three hundred and sixtieth turn of the colour wheel."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number / COUNT, 0.9, 0.9))


@pytest.fixture
def name(client: OpenSearch) -> Iterator[str]:
    made = f"photos-{uuid4().hex[:8]}"
    yield made
    client.indices.delete(index=f"{made}*", params={"expand_wildcards": "all"})


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """The vases; the last one's photo is missing, and the one before has none."""
    (tmp_path / "photos").mkdir()
    rows: list[dict[str, Any]] = []
    for number in range(COUNT):
        (tmp_path / "photos" / f"{number}.png").write_bytes(file(plain(colour=colour(number))))
        vase = {"id": f"v{number}", "title": "vase", "image": f"photos/{number}.png"}
        rows.append({**vase, "price": number})
    rows += [{"id": "bare", "title": "vase"}, {"id": "lost", "title": "vase", "image": "no.png"}]
    path = tmp_path / "vases.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


class Shell:
    """The command line of a shop whose registry has an image encoder too."""

    def __init__(self, stack: Settings, registry: Registry, sidecar: str = "") -> None:
        self._variables = {
            "NEURALRANK_OPENSEARCH_URL": stack.opensearch_url,
            "NEURALRANK_REGISTRY": registry.url,
            "NEURALRANK_SIDECAR": sidecar or stack.sidecar,
        }

    def run(self, *arguments: str | Path) -> Any:
        """Raises what the command does."""
        command = [*map(str, arguments)]
        done = CliRunner().invoke(app, command, env=self._variables, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def page(self, *arguments: str | Path) -> Any:
        """A page that lacks nothing for lack of time: caches are cold, and machines are busy."""
        for _ in range(30):
            page = self.run(*arguments, "--json")
            if TOO_LATE.isdisjoint(entry["reason"] for entry in page["degraded"]):
                break
        return page

    def index(self, catalogue: Path, name: str, *more: str | Path) -> Any:
        rejects = catalogue.with_suffix(".rejects.jsonl")
        return self.run(
            "index", catalogue, "--index", name, "--rejects", rejects,
            "--image-encoder", "tiny-images", "--json", *more,
        )  # fmt: skip


@pytest.fixture
def shell(stack: Settings, registry: Registry, tmp_path: Path) -> Shell:
    registry.publish(tiny_image_bundle(tmp_path / "images"))
    return Shell(stack, registry)


def numbers(hits: list[dict[str, Any]]) -> set[int]:
    return {int(hit["id"][1:]) for hit in hits if hit["id"][1:].isdigit()}


def test_a_run_that_goes_on_counts_the_photos_of_the_one_before_for_similarity(
    shell: Shell,
    client: OpenSearch,
    catalogue: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def noted() -> Any:
        (mapping,) = client.indices.get_mapping(index=name).values()
        return mapping["mappings"]["_meta"]["neuralrank"]["image_similarity"]

    # Four chunks are seen, and some of them written.
    monkeypatch.setattr("indexer.run._CHUNK", 60)
    shell.index(catalogue, name, "--no-vectors")
    of_all = noted()
    encode = ImageEncoder.encode
    calls = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise KeyboardInterrupt
        return encode(*arguments)

    with monkeypatch.context() as until_then:
        until_then.setattr(ImageEncoder, "encode", interrupted)
        with pytest.raises(AssertionError, match="--resume"):
            shell.index(catalogue, name, "--no-vectors")
    summary = shell.index(catalogue, name, "--no-vectors", "--resume")
    assert 0 < summary["resumed"] < COUNT
    assert noted() == of_all


def test_a_catalogue_with_photos_is_found_by_what_it_looks_like(
    shell: Shell, client: OpenSearch, catalogue: Path, name: str
) -> None:
    summary = shell.index(catalogue, name)
    assert summary["written"] == COUNT + 2
    assert (summary["photos"], summary["photos_failed"], summary["rejected"]) == (COUNT, 1, 0)
    (problem,) = map(json.loads, Path(summary["photo_problems"]).read_text().splitlines())
    assert problem["row"]["id"] == "lost"
    assert "no.png" in problem["reason"]
    (mapping,) = client.indices.get_mapping(index=name).values()
    noted = mapping["mappings"]["_meta"]["neuralrank"]
    assert noted["image_encoder"] == summary["image_encoder"]
    assert 0 < noted["image_similarity"]["low"] < noted["image_similarity"]["high"] <= 1.0001

    page = shell.page("similar", name, "v100", "--size", ALIKE)
    assert page["reranked"] is True
    assert summary["image_encoder"] in page["bundles"]
    # By text all are the same; by their photos those next on the wheel are nearest.
    assert numbers(page["hits"]) == {100 + step for step in range(-6, 7)} - {100}
    parts = page["hits"][0]["parts"]
    assert parts["image_similarity"] == pytest.approx(1.0, abs=0.01)
    assert parts["query_similarity"] == pytest.approx(1.0, abs=0.01)


def test_an_item_without_a_photo_still_has_similar_ones(
    shell: Shell, catalogue: Path, name: str
) -> None:
    shell.index(catalogue, name)
    page = shell.page("similar", name, "bare")
    assert len(page["hits"]) == 10
    assert page["degraded"] == []
    assert all("image_similarity" not in hit["parts"] for hit in page["hits"])


@pytest.fixture
def seeing(stack: Settings, registry: Registry, shell: Shell, tmp_path: Path) -> Iterator[Shell]:
    """With a sidecar that serves the image encoder."""
    del shell  # it has published it
    with Running(
        tmp_path / "sidecar.log", opensearch_url=stack.opensearch_url, registry=registry.url
    ) as running:
        running.ready()
        yield Shell(stack, registry, running.address)


def test_a_photo_finds_what_looks_like_it(
    seeing: Shell, catalogue: Path, name: str, tmp_path: Path
) -> None:
    seeing.index(catalogue, name)
    photo = tmp_path / "customer.jpg"
    photo.write_bytes(file(plain((300, 300), colour(200)), "JPEG"))
    page = seeing.page("look", name, photo, "--size", 5)
    assert numbers(page["hits"]) == {198, 199, 200, 201, 202}
    # In the user's order.
    page = seeing.page("look", name, photo, "--size", 5, "--user", "B")
    assert page["reranked"] is True
    assert numbers(page["hits"]) == {198, 199, 200, 201, 202}
    # A hundred and more are nearer than what the filter lets through.
    page = seeing.page("look", name, photo, "--size", 5, "--max-price", "20")
    assert numbers(page["hits"]) == {16, 17, 18, 19, 20}
    (tmp_path / "note.txt").write_text("no photo")
    with pytest.raises(InvalidInput, match="no photo that can be read"):
        seeing.run("look", name, tmp_path / "note.txt")


def test_an_index_without_photos_says_what_to_do(
    seeing: Shell, catalogue: Path, name: str, tmp_path: Path
) -> None:
    seeing.run("index", catalogue, "--index", name, "--json")
    photo = tmp_path / "photos" / "1.png"
    with pytest.raises(EncoderMismatch, match=r"no vectors of photos\. Index the catalogue with"):
        seeing.run("look", name, photo)


def test_another_encoder_of_texts_keeps_the_photos(
    shell: Shell, client: OpenSearch, registry: Registry, catalogue: Path, name: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    assert shell.index(catalogue, name)["warnings"] == []
    before = client.get(index=name, id="v7")["_source"]
    # Vectors stand in documents once, packed.
    assert {IMAGE_PACKED, "text_vector_packed"} <= before.keys()
    assert not {IMAGE_VECTOR, "text_vector"} & before.keys()
    (mapping,) = client.indices.get_mapping(index=name).values()
    noted = mapping["mappings"]["_meta"]["neuralrank"]
    registry.publish(tiny_bundle(tmp_path / "other", "encoder", name="other"))
    done = shell.run("reencode", name, "--encoder", "other", "--json")
    # The stack's sidecar reads another registry than this shell.
    (said,) = done["warnings"]
    assert f"neither serves {done['encoder']} nor finds it in its registry" in said
    after = client.get(index=name, id="v7")["_source"]
    assert after["text_vector_packed"] != before["text_vector_packed"]
    assert after[IMAGE_PACKED] == before[IMAGE_PACKED]
    assert not {IMAGE_VECTOR, "text_vector"} & after.keys()
    (mapping,) = client.indices.get_mapping(index=name).values()
    now = mapping["mappings"]["_meta"]["neuralrank"]
    for kept in ("image_encoder", "image_dimensions", "image_similarity", "packed_vectors"):
        assert now[kept] == noted[kept], kept
    # The nearest by photo are found in the new index, too.
    vector = unpack(after[IMAGE_PACKED])
    assert vector is not None
    query = {"knn": {IMAGE_VECTOR: {"vector": vector.tolist(), "k": 3}}}
    found = client.search(index=name, body={"query": query, "size": 3})["hits"]["hits"]
    assert numbers([{"id": hit["_id"]} for hit in found]) == {6, 7, 8}


def test_a_photo_at_an_address_is_fetched_once(
    shell: Shell,
    client: OpenSearch,
    name: str,
    tmp_path: Path,
    shop: tuple[str, list[str]],  # noqa: F811
) -> None:
    url, asked = shop
    path = tmp_path / "shop.jsonl"

    def write(*images: str) -> None:
        rows = [
            {"id": str(number), "title": "vase", "image_url": f"{url}{image}"}
            for number, image in enumerate(images)
        ]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    write("/red.png", "/moved.png", "/gone.png")
    assert shell.index(path, name)["photos"] == 2
    first = client.get(index=name, id="0")["_source"][IMAGE_PACKED]
    asked.clear()
    # The next night: one product has a new photo; what failed is tried again.
    write("/red.png", "/red.png?new", "/gone.png")
    summary = shell.index(path, name)
    assert (summary["photos"], summary["photos_failed"]) == (1, 2)
    assert sorted(asked) == ["/gone.png", "/red.png?new"]
    assert client.get(index=name, id="0")["_source"][IMAGE_PACKED] == first
    asked.clear()
    shell.index(path, name, "--fetch-again")
    assert sorted(asked) == ["/gone.png", "/red.png", "/red.png?new"]
    np.testing.assert_allclose(unpack(first), [1, 0, 0], atol=0.02)

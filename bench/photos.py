"""What photos are worth: of the ten items most like an item, how many are of its kind and colour,
with titles alone, with titles and photos, and for its photo alone.

Needs the running stack of `neuralrank up`, the bundle `efficientnet-lite0` and the photos of
`fashion_images_en` (evaluation only). Kind, colour and gender judge and are not in the index.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from opensearchpy import OpenSearch

from bench.candidates import folder_of
from bench.pages import Pages, patient_pages
from bench.report import Report
from indexer import Catalogue, Photos, index_catalogue
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.encoder import Encoder
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.models import add
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, unpack
from neuralrank.opensearch.page import NO_PIPELINE, ask
from neuralrank.settings import Settings, load_settings
from opensearch_config import product_index

__all__ = ["run"]

_SET: Final = "fashion_images_en"
_IMAGE_ENCODER: Final = "efficientnet-lite0"
_INDEX: Final = "bench-photos"
# Items that are asked for, a few hundred milliseconds each.
_ASKED: Final = 400
_BEST: Final = 10
# What shops write of an item, and what some do.
_TITLES: Final = {"whole titles": 100, "two words of them": 2}


def run() -> None:
    """Prints and writes the report."""
    settings = load_settings()
    with gzip.open(folder_of(_SET) / "catalogue.jsonl.gz", "rt", encoding="utf-8") as lines:
        items = [row for row in map(json.loads, lines) if row.get("image")]
    labels = {row["id"]: _labels(row) for row in items}
    asked = np.random.default_rng(7).permutation(sorted(labels))[:_ASKED].tolist()
    rows = []
    with (
        closing(connect(settings, timeout=120.0)) as client,
        patient_pages(client, _INDEX) as pages,
    ):
        for name, words in _TITLES.items():
            for photos in (False, True):
                _index(client, settings, items, words, photos)
                similar = {item: _similar(pages, item) for item in asked}
                what = f"{name}{' and photos' if photos else ''}"
                rows.append({"what": what, **_shares(similar, labels)})
        seen = {item: _alike(client, item) for item in asked}
        rows.append({"what": "photos alone, in the order of OpenSearch", **_shares(seen, labels)})
        client.indices.delete(index=f"{_INDEX}-*")
    Report(
        "photos",
        "Similar items: shares of the first ten",
        rows,
        f"{len(items):,} items with a photo, {len(asked)} of them asked for, through OpenSearch "
        "and the sidecar. Judged by catalogue attributes that are not in the index. "
        f"{pages.retried} pages that came late or degraded were asked for again.",
    ).publish()


def _labels(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind, colour and gender."""
    said = row["attributes"]
    return row["category"][-1], said.get("baseColour", ""), said.get("gender", "")


def _index(
    client: OpenSearch,
    settings: Settings,
    items: Sequence[Mapping[str, Any]],
    words: int,
    photos: bool,
) -> None:
    registry = Registry(settings.registry_path)
    if not any(ref.startswith(f"{_IMAGE_ENCODER}@") for ref in registry.refs()):
        add(registry, f"package:{_IMAGE_ENCODER}", progress=print)
    encoder = Encoder.load(registry.get("multilingual-e5-small"))
    seeing = ImageEncoder.load(registry.get(_IMAGE_ENCODER))
    said = {"image_encoder": seeing.ref, "image_dimensions": seeing.dimensions} if photos else {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "items.jsonl"
        file.write_text(
            "".join(
                json.dumps(
                    {
                        "id": row["id"],
                        "title": " ".join(row["title"].split()[:words]),
                        "image": row["image"],
                    }
                )
                + "\n"
                for row in items
            )
        )
        with closing(Photos(seeing, folder_of(_SET))) as reading:
            index_catalogue(
                client,
                Catalogue(file),
                _INDEX,
                product_index(encoder.ref, encoder.dimensions, **said),
                encoder,
                Path(folder) / "rejects.jsonl",
                photos=reading if photos else None,
                keep=0,
            )


def _similar(pages: Pages, item: str) -> list[str]:
    return [hit.id for hit in pages.whole({"similar_to": item}, _BEST).hits]


def _alike(client: OpenSearch, item: str) -> list[str]:
    """The nearest by photo, as one would search with a photo of the item."""
    found = client.get(index=_INDEX, id=item, params={"_source_includes": IMAGE_PACKED})
    vector = unpack(found["_source"][IMAGE_PACKED])
    assert vector is not None  # all of them have a photo
    query = {"knn": {IMAGE_VECTOR: {"vector": vector.tolist(), "k": 4 * _BEST}}}
    page = ask(client, _INDEX, query, size=_BEST + 1, pipeline=NO_PIPELINE)
    return [hit.id for hit in page.hits if hit.id != item][:_BEST]


def _shares(
    pages: Mapping[str, Sequence[str]], labels: Mapping[str, tuple[str, str, str]]
) -> dict[str, float]:
    same = np.array(
        [
            [one == other for one, other in zip(labels[item], labels[hit], strict=True)]
            for item, page in pages.items()
            for hit in page
        ]
    )
    kind, colour, gender = same.mean(axis=0)
    return {
        "same kind": round(float(kind), 3),
        "same colour": round(float(colour), 3),
        "same gender": round(float(gender), 3),
        "all three": round(float(same.all(axis=1).mean()), 3),
    }

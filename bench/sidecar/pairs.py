"""Real queries with the products that a search would recall for them, as the sidecar has a
cross-encoder read them: what decides its cost is how long these texts are and how they differ."""

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np

from neuralrank.catalogue.product import Product, document, passage
from neuralrank.errors import NotFound

__all__ = ["SETS", "PairSet", "read_sets"]

SETS = ("esci_en", "icecat_en", "taobao_zh")
_DATA = Path(__file__).parents[3] / "shared/data"
# A word of letters and digits, or one Chinese character.
_WORD = re.compile(r"[a-z0-9]+|[一-鿿]")


@dataclass(frozen=True)
class PairSet:
    """Queries of one catalogue, each with its candidates' texts."""

    name: str
    queries: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]

    @property
    def pairs(self) -> int:
        return sum(map(len, self.texts))


def read_sets(queries: int, candidates: int, characters: int) -> list[PairSet]:
    """The three sets, cut to so many queries; the same ones each time.

    Raises:
        NotFound: the data is not there.
    """
    return [_read(name, queries, candidates, characters) for name in SETS]


def _read(name: str, count: int, candidates: int, characters: int) -> PairSet:
    folder = _DATA / name
    if not (folder / "catalogue.jsonl.gz").is_file():
        raise NotFound(
            f"No {folder}: this benchmark measures on real catalogues, which are not part of the "
            "repository. Put them there, or run `python -m bench.sidecar load` alone."
        )
    with gzip.open(folder / "catalogue.jsonl.gz", "rt", encoding="utf-8") as lines:
        products = [Product.from_row(json.loads(line)) for line in lines]
    rows = (folder / "queries.dev.tsv").read_text("utf-8").splitlines()
    asked = [row.split("\t")[1] for row in rows]
    chosen = [asked[place] for place in np.linspace(0, len(asked) - 1, count).astype(int)]
    index = bm25s.BM25()
    index.index([_words(_searched(product)) for product in products], show_progress=False)
    found, _ = index.retrieve(
        [_words(query) for query in chosen], k=candidates, show_progress=False
    )
    return PairSet(
        name,
        tuple(chosen),
        tuple(tuple(passage(products[place], characters) for place in row) for row in found),
    )


def _searched(product: Product) -> str:
    source = document(product)
    return f"{source['title']} {source.get('brand') or ''}"


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower()) or [""]

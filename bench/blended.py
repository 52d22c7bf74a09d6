"""The sidecar's formulas on recorded candidates, without a sidecar: for models that don't serve,
and for shares that no setting has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.candidates import DATA, Found, Recorded
from neuralrank.catalogue.product import Product, headline, passage
from neuralrank.catalogue.reading import Catalogue
from neuralrank.encoders.encoder import Encoder
from neuralrank.text.exclusions import as_read
from sidecar.domain import Candidates, Floats, Weights
from sidecar.ranking.blend import blend, feedback, order, relevance, retrieval
from sidecar.ranking.score import centroid_match, similarities
from sidecar.settings import SidecarSettings
from trainer.dataset.finding import item_vectors

__all__ = ["Page", "Texts", "pages", "read_texts"]

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Texts:
    """What an encoder and what a cross-encoder reads of a set's items, by their ids."""

    headlines: Mapping[str, str]
    passages: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Page:
    """One query's candidates with the parts of their scores that are there before a model reads,
    float32 [candidates] each."""

    # As models read it.
    query: str
    ids: list[str]
    match: Floats
    context: Floats
    retrieval: Floats
    scores_in: Floats

    def order(self, logits: Floats | None = None, share: float = 0.0) -> Places:
        """Places of the candidates, best first.

        Args:
            logits: of a model, NaN where not read; None: none has read.
            share: what it counts in relevance, among those that it read.
        """
        nothing = np.full(len(self.ids), np.nan, np.float32)
        read = nothing if logits is None else logits
        parts = relevance(self.match, self.context, read, share)
        return order(blend(parts, nothing, self.retrieval, _weights()).scores, self.scores_in)

    def names(self, places: Sequence[int] | Places) -> list[str]:
        return [self.ids[place] for place in places]


def read_texts(name: str, data: Recorded) -> Texts:
    """Of the items that were found.

    Raises:
        NotFound: the catalogue is not there.
    """
    wanted = {id_ for found in data.queries.values() for id_, _ in found.candidates}
    characters = SidecarSettings().rerank_characters
    headlines, passages = {}, {}
    for row in Catalogue(DATA / name / "catalogue.jsonl.gz").rows():
        if str(row.value["id"]) in wanted:
            product = Product.from_row(row.value)
            headlines[product.id] = headline(product)
            passages[product.id] = passage(product)[:characters]
    return Texts(headlines, passages)


def pages(
    data: Recorded, texts: Texts, encoder: Encoder, cache: Path
) -> Iterator[tuple[str, Page]]:
    """Each query's page, by the query's id.

    Args:
        cache: where vectors of items are kept.
    """
    ids = sorted(texts.headlines)
    vectors = item_vectors(encoder, [texts.headlines[id_] for id_ in ids], cache, lambda *_: None)
    place = {id_: at for at, id_ in enumerate(ids)}
    for query, found in data.queries.items():
        rows = vectors[[place[id_] for id_, _ in found.candidates]]
        yield query, _page(found, rows, encoder)


def _page(found: Found, vectors: Floats, encoder: Encoder) -> Page:
    count = len(found.candidates)
    scores = [np.nan if score is None else score for _, score in found.candidates]
    candidates = Candidates.bare(
        [id_ for id_, _ in found.candidates], [None] * count, np.array(scores, np.float32), vectors
    )
    query = as_read(found.text)
    near = similarities(candidates, encoder, encoder.encode_queries([query])[0], None)
    given = retrieval(candidates.retrieval, has_query=True)
    centroid = feedback(near.query_match, given, vectors, np.arange(count))
    context = centroid_match(candidates, encoder, centroid)
    return Page(query, candidates.ids, near.query_match, context, given, candidates.retrieval)


@cache
def _weights() -> Weights:
    settings = SidecarSettings()
    return Weights(settings.weight_relevance, settings.weight_affinity, settings.weight_retrieval)

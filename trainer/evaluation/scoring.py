"""Scores of a bundle, by the code that serves it: the same runtime, tokens and texts, queries
without what they exclude; no torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuralrank.bundles.bundle import MANIFEST, Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.product import headline
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidBundle
from neuralrank.text.exclusions import as_read
from trainer.evaluation.held_back import Item

__all__ = ["Scorer", "Scores", "Track", "find_bundle", "load_scorer", "score_all"]

Floats = NDArray[np.float64]
# By query and item.
Scores = Mapping[str, Mapping[str, float]]


class Track(Protocol):
    """Gives things out one by one while somebody sees how far it is; `rich.progress.track` does."""

    def __call__(self, things: Sequence[str], what: str) -> Iterable[str]: ...


class Scorer(Protocol):
    """Scores items for a query; higher is better."""

    @property
    def bundle(self) -> Bundle: ...

    def score(self, query: str, items: Sequence[Item]) -> Floats:
        """The model's own numbers, float64 [items]."""

    def probability(self, scores: Floats) -> Floats:
        """The same as relevance in [0, 1], as the ranking service uses it."""


def find_bundle(ref: str, registry: Registry) -> Bundle:
    """A bundle by `name`, `name@hash` or the path of its folder.

    Raises:
        NotFound: there is none.
        InvalidBundle: it is damaged.
    """
    folder = Path(ref)
    return Bundle.open(folder) if (folder / MANIFEST).is_file() else registry.get(ref)


def load_scorer(bundle: Bundle) -> Scorer:
    """Loads a bundle and checks its golden outputs.

    Raises:
        InvalidBundle: it can't be loaded, computes other numbers than when it was made, or is of a
            kind that has no score for a query and a text.
    """
    match bundle.manifest.kind:
        case "cross_encoder":
            return _ByCrossEncoder(CrossEncoder.load(bundle))
        case "encoder":
            return _ByEncoder(Encoder.load(bundle))
        case kind:
            raise InvalidBundle(
                f"{bundle.ref} is of kind {kind}, which has no score for a query and a text alone. "
                "Allowed are cross_encoder and encoder."
            )


class _ByCrossEncoder:
    def __init__(self, model: CrossEncoder) -> None:
        self._model = model
        self._known: dict[tuple[str, str], float] = {}

    @property
    def bundle(self) -> Bundle:
        return self._model.bundle

    def score(self, query: str, items: Sequence[Item]) -> Floats:
        query = as_read(query)
        new = [item for item in items if (query, item.id) not in self._known]
        if new:
            logits = self._model.score(query, [item.text for item in new])
            self._known.update(
                ((query, item.id), float(logit)) for item, logit in zip(new, logits, strict=True)
            )
        return np.array([self._known[query, item.id] for item in items], np.float64)

    def probability(self, scores: Floats) -> Floats:
        return self._model.probability(scores.astype(np.float32)).astype(np.float64)


class _ByEncoder:
    def __init__(self, model: Encoder) -> None:
        self._model = model
        self._items: dict[str, NDArray[np.float32]] = {}

    @property
    def bundle(self) -> Bundle:
        return self._model.bundle

    def score(self, query: str, items: Sequence[Item]) -> Floats:
        new = list({item.id: item for item in items if item.id not in self._items}.values())
        if new:
            texts = [headline({"title": item.title, "brand": item.brand}) for item in new]
            vectors = self._model.encode_passages(texts)
            self._items.update(zip((item.id for item in new), vectors, strict=True))
        if not items:
            return np.empty(0)
        vector = self._model.encode_queries([as_read(query)])[0]
        return (np.stack([self._items[item.id] for item in items]) @ vector).astype(np.float64)

    def probability(self, scores: Floats) -> Floats:
        return self._model.calibrate_query(scores.astype(np.float32)).astype(np.float64)


def score_all(
    scorer: Scorer,
    texts: Mapping[str, str],
    wanted: Mapping[str, Iterable[str]],
    items: Mapping[str, Item],
    track: Track,
    what: str,
) -> Scores:
    """Scores by query and item.

    Args:
        texts: of the queries, by id.
        wanted: the items of each query.
        what: is being scored, for the progress bar.
    """
    found = {}
    for query in track(list(wanted), what):
        ordered = list(wanted[query])
        scores = scorer.score(texts[query], [items[item] for item in ordered])
        found[query] = dict(zip(ordered, scores.tolist(), strict=True))
    return found

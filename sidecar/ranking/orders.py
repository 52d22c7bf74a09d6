"""From the parts of the score to orders, one for each way of ranking, and to the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from sidecar.domain import Dropped, DropReason, Floats, Fusion, RankQuery
from sidecar.ranking.blend import (
    Blend,
    as_others,
    blend,
    by_place,
    lowered,
    raised,
    relevance,
)
from sidecar.ranking.experiment import ARMS, draft
from sidecar.ranking.score import Similarities

__all__ = ["Order", "Page", "Parts", "page_of", "with_low"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the score that are there before a cross-encoder reads, float32 [n]."""

    query: RankQuery
    # Positions of the candidates that may be shown.
    kept: npt.NDArray[np.intp]
    similarities: Similarities
    context: Floats
    # NaN: not known of this candidate.
    affinity: Floats
    retrieval: Floats
    # int8 [n], of `sidecar.ranking.exclusions.mentions`; None: the query excludes nothing.
    mentions: npt.NDArray[np.int8] | None = None

    def blend(self, cross: Floats) -> tuple[tuple[Floats, Floats, Floats], Blend]:
        """Relevance, affinity and retrieval as they count, and the blended scores, given what a
        cross-encoder has read."""
        weights = self.query.weights
        # An order without scores is no scale to measure a reading by.
        scored = weights.retrieval > 0 and not np.isnan(self.query.candidates.retrieval).all()
        found, near = self.retrieval, self.similarities.query_match
        # Without vectors the caller's own scores are what there is of relevance.
        by_scores = scored and bool(np.isnan(near).all())
        if self.mentions is not None:
            found = lowered(found, self.mentions)
            found = raised(found, self.mentions) if by_scores else found
        match = relevance(
            near, self.context, cross, weights.cross_encoder, found if scored else None
        )
        if self.mentions is not None and not by_scores:
            match = raised(lowered(match, self.mentions), self.mentions)
        taste = self.affinity
        if self.query.fusion is Fusion.RRF:
            match, found = by_place(match, self.kept), by_place(found, self.kept)
            taste = by_place(taste, self.kept[~np.isnan(taste[self.kept])])
        parts = (match, as_others(taste, self.kept), found)
        return parts, blend(*parts, weights)


@dataclass(frozen=True, slots=True)
class Order:
    """What one way of ranking has made of the candidates."""

    # Positions, best first.
    ranked: npt.NDArray[np.intp]
    # float32 [n], NaN: not read.
    logits: Floats
    # Relevance, affinity and retrieval as they count.
    parts: tuple[Floats, Floats, Floats]
    blended: Blend
    # float32 [n]: those of the blend, or with novelty in them.
    scores: Floats
    # float32 [n]; None: it does not count.
    novelty: Floats | None


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered: positions, best first, with the score and the way that each is `by`."""

    ranked: npt.NDArray[np.intp]
    scores: Floats
    by: list[str]


def page_of(orders: Mapping[str, Order], chance: Random, top_k: int) -> Page:
    """The one order there is, or both interleaved."""
    if len(orders) == 1:
        ((name, one),) = orders.items()
        ranked = one.ranked[: top_k or None]
        return Page(ranked, one.scores[ranked], [name] * len(ranked))
    a, b = (orders[name].ranked.tolist() for name in ARMS)
    taken = draft(a, b, chance)[: top_k or None]
    scores = np.array([orders[by].scores[at] for at, by in taken], np.float32)
    return Page(
        np.array([at for at, _ in taken], np.intp),
        # Who sorts by score must find the page as it is.
        np.minimum.accumulate(scores),
        [by for _, by in taken],
    )


def with_low(
    query: RankQuery,
    orders: Mapping[str, Order],
    kept: npt.NDArray[np.intp],
    dropped: list[Dropped],
) -> list[Dropped]:
    """What was dropped, with what is below the threshold in every way, in the request's order."""
    low = np.setdiff1d(kept, np.concatenate([one.ranked for one in orders.values()]))
    below = [
        Dropped(
            query.candidates.ids[position],
            position,
            DropReason.BELOW_MIN_SCORE,
            f"score {max(one.blended.scores[position] for one in orders.values()):.3f} is below "
            f"min_score {query.min_score:.3f}",
        )
        for position in low.tolist()
    ]
    return sorted([*dropped, *below], key=lambda drop: drop.position)

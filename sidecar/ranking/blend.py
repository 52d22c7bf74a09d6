"""How the parts of a score come about and are put together. Every formula of ranking is here, but
for what the trainer computes too: `neuralrank.personal.affinity`.

Pure functions on float32 arrays, one row a candidate; NaN means "absent", and every result that is
not NaN lies in [0, 1]. No function looks at more than the request at hand.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

import neuralrank.personal.affinity as fits
from neuralrank.personal.affinity import bounded, weighted_mean
from sidecar.domain import Floats, Weights

__all__ = [
    "Blend",
    "as_others",
    "blend",
    "by_place",
    "feedback",
    "lowered",
    "order",
    "raised",
    "relevance",
    "retrieval",
    "with_image",
]

# What the query's vector counts within relevance, and what the items that it is about.
_QUERY_SHARE: Final = 0.55
_CONTEXT_SHARE: Final = 0.45
# What photos count beside texts, in how alike two items are.
_IMAGE_SHARE: Final = 0.5
# An order without scores says who comes first, not by how much: it counts half.
_ORDER_FLOOR: Final = 0.5
# The most that is believed of a candidate of which nothing is known.
_UNKNOWN_RELEVANCE: Final = 0.5
# Of how many others something has to be known for a line through them, and between which of them
# what is not known is looked for.
_TOLD: Final = 3
_USUAL: Final = (0.1, 0.9)
# The first ranking, which feedback is taken from: the user has no part in it.
_FIRST: Final = Weights(relevance=0.4, affinity=0.0, retrieval=0.6)
# How many of its best are taken: one of four candidates, five at most. Fewer than three would say
# more of the first hit than of the query.
_FEEDBACK_ITEMS: Final = 5
_FEEDBACK_LEAST: Final = 3
_FEEDBACK_OF: Final = 4
# The constant of reciprocal rank fusion, from its paper: the larger, the less the first stand out.
_RRF: Final = 60
# What it counts that a title names what the query excludes, or says that it lacks it. More orders
# little better, and is worse where a title was misread (docs/decisions/027-exclusions.md).
_EXCLUSION_SHARE: Final = np.float32(0.5)
_Real = TypeVar("_Real", np.float32, np.float64)


def with_image(text_match: Floats, image_match: Floats) -> Floats:
    """How alike an item and each candidate are by texts and by photos, float32 [n]: a mean of what
    is known, by fixed shares (docs/decisions/024-images.md); NaN: neither is."""
    shares = np.array([1.0 - _IMAGE_SHARE, _IMAGE_SHARE], np.float32)
    mixed, _ = weighted_mean([text_match, image_match], shares)
    return mixed


def feedback(
    query_match: Floats, retrieval: Floats, vectors: Floats, kept: npt.NDArray[np.intp]
) -> Floats | None:
    """The centroid of the best of a first ranking: what the query was about, in items.

    Pseudo-relevance feedback on dense vectors: Li et al., "Pseudo Relevance Feedback with Deep
    Language Models and Dense Retrievers" (2021), after Rocchio (1971).

    Args:
        query_match: calibrated cosine of query and item; NaN: no vector.
        vectors: float32 [n, d] of length 1; rows without vector are not looked at.
        kept: positions of the candidates that may be shown.

    Returns:
        float32 [d] of length 1; None where there are too few candidates to learn from.
    """
    usable = kept[~np.isnan(query_match[kept])]
    count = min(_FEEDBACK_ITEMS, len(usable) // _FEEDBACK_OF)
    if count < _FEEDBACK_LEAST:
        return None
    nothing = np.full(len(usable), np.nan, np.float32)
    first = blend(query_match[usable], nothing, retrieval[usable], _FIRST).scores
    best = np.argsort(-first, kind="stable")[:count]
    centroid = first[best] @ vectors[usable[best]]
    length = float(np.linalg.norm(centroid))
    return np.asarray(centroid / length, np.float32) if length > 0 else None


def relevance(
    query_match: Floats,
    context_match: Floats,
    cross_encoder: Floats,
    share: float,
    found: Floats | None = None,
) -> Floats:
    """How well a candidate answers the query, from vectors and a cross-encoder that read some.

    Among those that were read, the cross-encoder's order is mixed in with their mean and spread
    kept: so read and unread lie on one scale, and being read is neither a bonus nor a penalty.

    Where no candidate has a vector, that scale is the caller's own: those that were read move among
    themselves by it, and the others have no relevance. Without either, the reading is all there is.

    A candidate of which nothing is known, where of others something is, gets what those have whom
    the caller's own query scored alike: that a vector is lacking says nothing of an item. Where
    there are no such scores it gets their lower quartile: by what else it has alone it would be
    ahead of all that were looked at.

    Args:
        query_match: calibrated cosine of query and item; NaN: no vector.
        context_match: the same to the centroid of `feedback`; for similar items, the share of the
            candidate's categories that the item has too. NaN: none.
        cross_encoder: calibrated score; NaN: not read.
        share: of the cross-encoder's order among those that were read, in [0, 1].
        found: `retrieval`; None where the caller gave no scores, or they are to count nothing.
    """
    shares = np.array([_QUERY_SHARE, _CONTEXT_SHARE], np.float32)
    match, _ = weighted_mean([query_match, context_match], shares)
    match = np.where(np.isnan(query_match), np.float32("nan"), match)
    read, known = ~np.isnan(cross_encoder), ~np.isnan(match)
    if read.any() and known.any():
        # One without vector is taken for an average one of those that were read.
        compared = read & known if (read & known).any() else known
        match = np.where(read & ~known, np.mean(match[compared]), match).astype(np.float32)
        match[read] = _mixed(match[read], cross_encoder[read], share)
    elif read.any() and found is not None:
        match[read] = _mixed(found[read], cross_encoder[read], share)
        return bounded(match)
    elif read.any():
        match = cross_encoder.copy()
    known = ~np.isnan(match)
    if known.any() and not known.all():
        match = np.where(known, match, _expected(match, known, found))
    return bounded(match)


def _expected(match: Floats, known: npt.NDArray[np.bool_], found: Floats | None) -> Floats:
    """What the relevance of each candidate would be by what is known of others, float32 [n]: least
    squares on `found`, which may not fall, within what all but the extremes of the others have."""
    told = known & ~np.isnan(found) if found is not None else np.zeros_like(known)
    if found is None or np.count_nonzero(told) < _TOLD or not np.ptp(found[told]):
        least = min(float(np.quantile(match[known], 0.25)), _UNKNOWN_RELEVANCE)
        return np.full(len(match), least, np.float32)
    x, y = found[told].astype(np.float64), match[told].astype(np.float64)
    slope = max(float(np.cov(x, y, bias=True)[0, 1] / x.var()), 0.0)
    line = y.mean() + slope * (np.nan_to_num(found) - x.mean())
    low, high = np.quantile(y, _USUAL)
    return np.asarray(np.minimum(np.maximum(line, low), high), np.float32)


def lowered(part: npt.NDArray[_Real], mentions: npt.NDArray[np.int8]) -> npt.NDArray[_Real]:
    """A part (or a score) where titles name what the query excludes, [n].

    Args:
        part: NaN: absent, and stays so.
        mentions: int8 [n] of `sidecar.ranking.exclusions.mentions`.
    """
    return np.where(mentions < 0, part * (1 - _EXCLUSION_SHARE), part)


def raised(part: npt.NDArray[_Real], mentions: npt.NDArray[np.int8]) -> npt.NDArray[_Real]:
    """The same where titles say that they lack it: so far on the way to 1."""
    return np.where(mentions > 0, part + _EXCLUSION_SHARE * (1 - part), part)


def _mixed(own: Floats, scores: Floats, share: float) -> Floats:
    """The order of `scores` mixed into `own`, whose mean and spread stay; float32 [n] each."""
    # In float64: the mean of scores that differ in their last digit would be off by as much.
    wide = scores.astype(np.float64)
    spread = float(wide.std())
    standard = (wide - wide.mean()) / spread if spread > 0 else np.zeros_like(wide)
    part = np.float32(share)
    mixed = (1 - part) * own + part * (own.mean() + standard * own.std())
    return np.asarray(mixed, np.float32)


def as_others(part: Floats, kept: npt.NDArray[np.intp]) -> Floats:
    """As `neuralrank.personal.affinity.as_others`, among those that may be shown.

    Args:
        kept: positions of the candidates that may be shown: no others are looked at, or filled.
    """
    filled = part.copy()
    filled[kept] = fits.as_others(part[kept])
    return filled


def retrieval(scores: Floats, *, has_query: bool, informed: bool = False) -> Floats:
    """What the caller's own query said, normalised within the request.

    Scores ≥ 0 (BM25) are divided by the largest, so that the distance between first and last stays;
    with negative ones among them, they are scaled between smallest and largest. A candidate that
    has no score while others have one was not found by that query: 0. If none has a score, the
    order counts: 1/2 + 1/2 / log2(2 + position).

    Without a query (`match_all`), equal scores say nothing where something else orders: all are
    absent. Nor do they where some lack, because only their vector was near, not even that an item
    was found: the order counts then, if nothing else does.

    Args:
        has_query: whether a text was searched for.
        informed: whether a user's taste or an item to be like orders, too.
    """
    given = ~np.isnan(scores)
    # float64: the difference of two float32 may be beyond float32.
    wide = scores.astype(np.float64)
    equal = not has_query and given.any() and np.ptp(wide[given]) == 0.0
    if equal and informed:
        return np.full(len(scores), np.nan, np.float32)
    if not given.any() or (equal and not given.all()):
        places = 1.0 / np.log2(2.0 + np.arange(len(scores)))
        return np.asarray(_ORDER_FLOOR + (1 - _ORDER_FLOOR) * places, np.float32)
    low = min(0.0, float(np.min(wide[given])))
    span = float(np.max(wide[given])) - low
    if span <= 0.0:
        return np.where(given, np.float32(1.0), np.float32(0.0)).astype(np.float32)
    return np.where(given, np.minimum(np.maximum((wide - low) / span, 0.0), 1.0), 0.0).astype(
        np.float32
    )


def by_place(part: Floats, kept: npt.NDArray[np.intp]) -> Floats:
    """What a part counts in reciprocal rank fusion: (k + 1) ÷ (k + place), which is 1 for the best.

    Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and Individual Rank
    Learning Methods" (2009), with their k = 60, brought to [0, 1].

    Args:
        part: NaN: absent.
        kept: positions of the candidates that may be shown; the others take no place.

    Returns:
        float32 [n]. Equals share the best place of theirs, and one without the part comes after all
        that have it. NaN where nobody has the part, and for those that are not kept.
    """
    values, counts = part[kept], np.full(len(part), np.nan, np.float32)
    ordered = np.sort(values[~np.isnan(values)])
    if len(ordered):
        # NaN stands behind every number, so that nothing is above it: it is put last by hand.
        above = len(ordered) - np.searchsorted(ordered, values, side="right")
        above[np.isnan(values)] = len(ordered)
        counts[kept] = (_RRF + 1) / (_RRF + 1 + above)
    return counts


@dataclass(frozen=True, slots=True)
class Blend:
    """`scores` float32 [n] in [0, 1]; `weights` float32 [n, 3] in the order relevance, affinity,
    retrieval, of sum 1 over the parts that the candidate has, and 0 for the others."""

    scores: Floats
    weights: Floats


def blend(relevance: Floats, affinity: Floats, retrieval: Floats, weights: Weights) -> Blend:
    """The final score: Σ weight × part ÷ Σ weight, over the parts that a candidate has.

    A candidate whose present parts all weigh nothing scores 0.
    """
    parts = [relevance, affinity, retrieval]
    given = np.array([weights.relevance, weights.affinity, weights.retrieval], np.float64)
    scores, shares = weighted_mean(parts, (given / given.max()).astype(np.float32))
    return Blend(np.where(np.isnan(scores), np.float32(0.0), scores), shares)


def order(scores: Floats, scores_in: Floats) -> npt.NDArray[np.intp]:
    """Positions, best first: by score, then by the caller's own score, then as they came."""
    return np.lexsort((np.where(np.isnan(scores_in), np.inf, -scores_in), -scores))

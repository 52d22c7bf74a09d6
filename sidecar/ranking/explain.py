"""Why a result stands where it stands, in numbers and in one sentence."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.domain import Candidates, Explanation, Floats, Weights
from sidecar.ranking.blend import Blend
from sidecar.ranking.crossings import crossings
from sidecar.ranking.score import Similarities
from sidecar.ranking.taste import Taste

__all__ = ["Evidence", "explain"]

_MOST_REASONS: Final = 3
# Below this weighted difference a part moved nothing worth a word.
_NOTABLE: Final = 0.002
_FOR: Final = (
    "answers the query", "fits the user", "ranked high by the search", "is unlike those above",
)  # fmt: skip
_AGAINST: Final = (
    "answers the query less", "fits the user less", "ranked low by the search",
    "is unlike those above less",
)  # fmt: skip
_FOR_ITEM: Final = ("is like the item", *_FOR[1:])
_AGAINST_ITEM: Final = ("is like the item less", *_AGAINST[1:])
# Results that are compared to all others one by one; more are sorted with them.
_FEW: Final = 64
_BITS: Final = np.array([1, 2, 4])
# "0.00" to "1.00"; the last one is for what is absent.
_NUMBERS: Final = (*(f" ({n / 100:.2f})" for n in range(101)), "")
# Every phrase with every number: whether the query is an item, less or more, part, number.
_SAID: Final = [
    [[[word + number for number in _NUMBERS] for word in words] for words in phrases]
    for phrases in ((_FOR, _AGAINST), (_FOR_ITEM, _AGAINST_ITEM))
]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that led to the scores; arrays float32 [n], NaN: absent."""

    candidates: Candidates
    similarities: Similarities
    relevance: Floats
    affinity: Floats
    retrieval: Floats
    # None: it does not count.
    novelty: Floats | None
    logits: Floats
    # The final scores, and what the parts before novelty weigh in them.
    blend: Blend
    # Those that were asked for.
    asked: Weights
    taste: Taste | None
    # Relevance is nearness to an item, not to a query.
    query_is_item: bool
    # What the query excludes, and what titles say of it, int8 [n]; None: it excludes nothing.
    unwanted: tuple[str, ...] = ()
    mentions: npt.NDArray[np.int8] | None = None
    # Of whom it is not known how well they fit the user, bool [n]: their affinity is the others'.
    unfitted: npt.NDArray[np.bool_] | None = None


def explain(
    evidence: Evidence, kept: npt.NDArray[np.intp], shown: npt.NDArray[np.intp]
) -> list[Explanation]:
    """One explanation for each result.

    Args:
        kept: positions of the candidates that were scored, ascending; a move is counted among them,
            so that what was dropped above is not a move.
        shown: positions of the results, best first.
    """
    columns = [evidence.relevance, evidence.affinity, evidence.retrieval]
    weights, diversity = evidence.blend.weights, 0.0
    if evidence.novelty is not None:
        diversity = evidence.asked.diversity
        columns.append(evidence.novelty)
        share = np.full(len(weights), diversity, np.float32)
        weights = np.column_stack([weights * np.float32(1 - diversity), share])
    parts = np.stack(columns, axis=1)
    rows = np.searchsorted(kept, shown)
    moves = rows - np.arange(len(shown))
    # What weighs in the score, absent counting nothing: float32 [kept, p] in the order they came; p
    # is 3, and 4 with novelty.
    pulls = np.nan_to_num(parts[kept]) * weights[kept]
    differences = _differences(pulls, evidence.blend.scores[kept], rows, moves)
    if evidence.unfitted is not None:
        # What is not known is no reason.
        differences[evidence.unfitted[shown], 1] = 0.0
    if evidence.novelty is not None:
        differences[:1, 3] = 0.0  # above the first there is nothing
        differences[~evidence.candidates.has_vector[shown], 3] = 0.0
    summaries = _summaries(parts[shown], differences, moves, evidence.query_is_item)
    if evidence.mentions is not None:
        summaries = _with_mentions(summaries, evidence.unwanted, evidence.mentions[shown])
    shares = evidence.blend.weights[shown]
    # There are a few different ones: it depends on which parts a candidate has.
    kinds = ((shares > 0) @ _BITS).tolist()
    one_of = dict(zip(kinds, shares, strict=True))
    cross_encoder = evidence.asked.cross_encoder
    known = {
        kind: Weights(*share.tolist())._replace(cross_encoder=cross_encoder, diversity=diversity)
        for kind, share in one_of.items()
    }
    in_force = [known[kind] for kind in kinds]
    near = evidence.similarities
    relevance, affinity, retrieval, logits, query, user, image, score = (
        _column(values[shown])
        for values in (
            evidence.relevance, evidence.affinity, evidence.retrieval, evidence.logits,
            near.query_cosine, near.user_cosine, near.image_cosine,
            evidence.candidates.retrieval,
        )
    )  # fmt: skip
    novel = evidence.novelty
    novelty = [None] * len(shown) if novel is None else _column(novel[shown])
    rows_of = zip(
        relevance, affinity, retrieval, in_force, logits, query, user, image, score,
        _because_of(evidence, shown), summaries, novelty, strict=True,
    )  # fmt: skip
    return list(map(Explanation._make, rows_of))


def _differences(
    pulls: Floats, scores: Floats, rows: npt.NDArray[np.intp], moves: npt.NDArray[np.intp]
) -> Floats:
    """float32 [shown, p]: what a result's parts weigh more than the mean of those that it passed or
    that passed it, since that is why it moved; of one that did not move, its own.

    Args:
        pulls: float32 [kept, p] in the order they came.
        scores: float32 [kept].
        rows: where each result stood among them.
        moves: upwards positive.
    """
    own = pulls[rows]
    # A last column of ones counts them: float32 [kept, p + 1].
    summed = np.concatenate([pulls, np.ones((len(pulls), 1), np.float32)], axis=1)
    # What each result passed, and what passed it: [shown, p + 1] each.
    if len(rows) > _FEW:
        passed, passed_by = (sums[rows] for sums in crossings(scores, summed))
    else:
        places, row, score = np.arange(len(scores)), rows[:, None], scores[rows][:, None]
        passed = ((places < row) & (scores < score)).astype(np.float32) @ summed
        passed_by = ((places > row) & (scores > score)).astype(np.float32) @ summed
    crossed = np.where(moves[:, None] > 0, passed, passed_by)
    means = crossed[:, :-1] / np.maximum(crossed[:, -1:], 1.0)
    return np.where(moves[:, None] == 0, own, own - means).astype(np.float32)


def _summaries(
    parts: Floats, differences: Floats, moves: npt.NDArray[np.intp], query_is_item: bool
) -> list[str]:
    """ "up 4: fits the user (0.81), answers the query (0.92)": the parts that pulled in the
    direction of the move, strongest first.

    Args:
        parts: float32 [shown, p]; NaN: absent.
        differences: of `_differences`.
    """
    said = _SAID[query_is_item]
    numbers = np.where(np.isnan(parts), len(_NUMBERS) - 1, np.rint(100 * parts)).astype(int)
    towards = np.where(moves < 0, -1.0, 1.0)[:, None] * differences
    order = np.argsort(-towards, axis=1, kind="stable").tolist()
    counts = (towards > _NOTABLE).sum(axis=1).tolist()
    summaries = []
    for values, places, count, move in zip(
        numbers.tolist(), order, counts, moves.tolist(), strict=True
    ):
        summary = f"up {move}" if move > 0 else f"down {-move}" if move else "unmoved"
        words, before = said[move < 0], ": "
        for part in places[:count]:
            summary += before + words[part][values[part]]
            before = ", "
        summaries.append(summary)
    return summaries


def _with_mentions(
    summaries: list[str], unwanted: tuple[str, ...], mentions: npt.NDArray[np.int8]
) -> list[str]:
    """With what a title says of what the query excludes, where it says something."""
    what = " or ".join(unwanted)
    said = {
        -1: f"; its title names what the query excludes ({what})",
        0: "",
        1: f"; its title says it is without what the query excludes ({what})",
    }
    return [
        summary + said[mention]
        for summary, mention in zip(summaries, mentions.tolist(), strict=True)
    ]


def _because_of(evidence: Evidence, shown: npt.NDArray[np.intp]) -> list[tuple[str, ...]]:
    """For each result the items that the user touched and that speak most for it."""
    taste, match = evidence.taste, evidence.similarities.event_match
    names = list(dict.fromkeys(filter(None, taste.item_ids))) if taste else []
    if taste is None or match is None or not names:
        return [()] * len(shown)
    # [shown, m]: how near result and interaction are, times what the interaction counts.
    strength = match.T[shown] * taste.weights
    if names != list(taste.item_ids):
        # [shown, names]: an item that was touched twice counts by the stronger of the two.
        place = {name: number for number, name in enumerate(names)}
        owners = np.array([place.get(name, -1) for name in taste.item_ids])
        by_name = np.argsort(owners, kind="stable")[np.count_nonzero(owners < 0) :]
        starts = np.searchsorted(owners[by_name], np.arange(len(names)))
        strength = np.maximum.reduceat(strength[:, by_name], starts, axis=1)
    strength[~evidence.candidates.has_vector[shown]] = 0.0
    every = np.arange(len(shown))
    most = min(_MOST_REASONS, len(names))
    chosen = np.empty((len(shown), most), np.intp)
    counts = np.zeros(len(shown), np.intp)
    for number in range(most):
        best = strength.argmax(axis=1)
        chosen[:, number] = best
        counts += strength[every, best] > 0.0
        strength[every, best] = 0.0
    found = map(tuple, np.array(names, object)[chosen].tolist())
    return [
        items if count == most else items[:count]
        for items, count in zip(found, counts.tolist(), strict=True)
    ]


def _column(values: Floats) -> list[float | None]:
    """NaN, which stands for "absent", as None."""
    absent = np.isnan(values)
    if not absent.any():
        return values.tolist()  # type: ignore[no-any-return]
    if absent.all():
        return [None] * len(values)
    return [None if value != value else value for value in values.tolist()]

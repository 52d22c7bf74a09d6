"""Why a result stands where it stands, in numbers and in one sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sidecar.blend import Blend
from sidecar.domain import Candidates, Explanation, Floats, Weights
from sidecar.score import Similarities
from sidecar.serving import EncoderModel
from sidecar.taste import Taste

__all__ = ["Evidence", "explain"]

_MOST_REASONS: Final = 3
# Below this difference to the average candidate, a part moved nothing.
_NOTABLE: Final = 0.01
_FOR: Final = ("answers the query", "fits the user", "ranked high by the search")
_AGAINST: Final = ("answers the query less", "fits the user less", "ranked low by the search")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that led to the scores; arrays float32 [n], NaN: absent."""

    candidates: Candidates
    similarities: Similarities
    relevance: Floats
    affinity: Floats
    retrieval: Floats
    logits: Floats
    blend: Blend
    taste: Taste | None
    encoder: EncoderModel | None
    # Relevance is nearness to an item, not to a query.
    query_is_item: bool


def explain(evidence: Evidence, kept: Sequence[int], shown: Sequence[int]) -> list[Explanation]:
    """One explanation for each result.

    Args:
        kept: positions of the candidates that were scored, in the order of retrieval; a move is
            counted among them, so that what was dropped above is not a move.
        shown: positions of the results, best first.
    """
    parts = np.stack([evidence.relevance, evidence.affinity, evidence.retrieval], axis=1)
    means = [_mean(parts[list(kept), part]) for part in range(3)]
    before = {position: rank for rank, position in enumerate(kept)}
    reasons = _because_of(evidence, shown)
    return [
        _explanation(evidence, parts, means, position, before[position] - rank, because)
        for rank, (position, because) in enumerate(zip(shown, reasons, strict=True))
    ]


def _explanation(
    evidence: Evidence,
    parts: Floats,
    means: Sequence[float],
    position: int,
    moved: int,
    because_of: tuple[str, ...],
) -> Explanation:
    similarities = evidence.similarities
    values = parts[position].tolist()
    weights = evidence.blend.weights[position].tolist()
    return Explanation(
        relevance=_present(values[0]),
        affinity=_present(values[1]),
        retrieval=_present(values[2]),
        weights=Weights(*weights),
        cross_encoder_logit=_present(float(evidence.logits[position])),
        query_similarity=_present(float(similarities.query_cosine[position])),
        user_similarity=_present(float(similarities.user_cosine[position])),
        retrieval_score=_present(float(evidence.candidates.retrieval[position])),
        because_of=because_of,
        summary=_summary(values, weights, means, moved, evidence.query_is_item),
    )


def _summary(
    values: Sequence[float],
    weights: Sequence[float],
    means: Sequence[float],
    moved: int,
    query_is_item: bool,
) -> str:
    """ "up 4: fits the user (0.81), answers the query (0.92)": the parts that pulled in the
    direction of the move, strongest first, against the average candidate."""
    pulls = [
        (weight * (value - mean), part)
        for part, (value, weight, mean) in enumerate(zip(values, weights, means, strict=True))
        if not math.isnan(value) and weight > 0
    ]
    sign = -1 if moved < 0 else 1
    named = sorted((sign * pull, part) for pull, part in pulls if sign * pull > _NOTABLE)[::-1]
    words = []
    for _, part in named:
        phrase = (_FOR if sign > 0 else _AGAINST)[part]
        if query_is_item and part == 0:
            phrase = phrase.replace("answers the query", "is like the item")
        words.append(f"{phrase} ({values[part]:.2f})")
    direction = f"up {moved}" if moved > 0 else f"down {-moved}" if moved < 0 else "unmoved"
    return f"{direction}: {', '.join(words)}" if words else direction


def _because_of(evidence: Evidence, shown: Sequence[int]) -> list[tuple[str, ...]]:
    """For each result the items that the user touched and that speak most for it."""
    taste, encoder = evidence.taste, evidence.encoder
    if taste is None or encoder is None or taste.interest is None or not shown:
        return [()] * len(shown)
    rows = evidence.candidates.vectors[list(shown)]
    # [shown, m]: how near result and interaction are, times what the interaction counts.
    strength = encoder.calibrate_item(rows @ taste.vectors.T) * taste.weights[None, :]
    found = []
    for position, row in zip(shown, strength, strict=True):
        names: dict[str, None] = {}
        if evidence.candidates.has_vector[position]:
            for place in np.argsort(-row, kind="stable").tolist():
                if row[place] <= 0.0 or len(names) == _MOST_REASONS:
                    break
                if taste.item_ids[place]:
                    names.setdefault(taste.item_ids[place])
        found.append(tuple(names))
    return found


def _mean(values: Floats) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 0.0


def _present(value: float) -> float | None:
    return None if math.isnan(value) else value

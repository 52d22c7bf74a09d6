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
# Below this weighted difference a part moved nothing worth a word.
_NOTABLE: Final = 0.002
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
    # What weighs in the score, absent counting nothing: float32 [kept, 3] in the order they came.
    pulls = np.nan_to_num(parts[list(kept)]) * evidence.blend.weights[list(kept)]
    before = {position: rank for rank, position in enumerate(kept)}
    scores = evidence.blend.scores[list(kept)]
    reasons = _because_of(evidence, shown)
    explanations = []
    for rank, (position, because) in enumerate(zip(shown, reasons, strict=True)):
        row = before[position]
        moved = row - rank
        # Those that it passed, or that passed it: their difference to it is why it moved.
        crossed = scores[:row] < scores[row] if moved > 0 else scores[row + 1 :] > scores[row]
        others = pulls[:row][crossed] if moved > 0 else pulls[row + 1 :][crossed]
        difference = pulls[row] - others.mean(axis=0) if moved and len(others) else pulls[row]
        summary = _summary(parts[position], difference, moved, evidence.query_is_item)
        explanations.append(_explanation(evidence, parts, position, because, summary))
    return explanations


def _explanation(
    evidence: Evidence,
    parts: Floats,
    position: int,
    because_of: tuple[str, ...],
    summary: str,
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
        summary=summary,
    )


def _summary(values: Floats, difference: Floats, moved: int, query_is_item: bool) -> str:
    """ "up 4: fits the user (0.81), answers the query (0.92)": the parts that pulled in the
    direction of the move, strongest first.

    Args:
        values: the candidate's parts, float32 [3]; NaN: absent.
        difference: weighted, to those that it passed or that passed it; to nothing if it stayed.
    """
    sign = -1 if moved < 0 else 1
    words = []
    for part in np.argsort(-sign * difference, kind="stable").tolist():
        if sign * difference[part] <= _NOTABLE:
            break
        phrase = (_FOR if sign > 0 else _AGAINST)[part]
        if query_is_item and part == 0:
            phrase = phrase.replace("answers the query", "is like the item")
        value = float(values[part])
        words.append(phrase if math.isnan(value) else f"{phrase} ({value:.2f})")
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


def _present(value: float) -> float | None:
    return None if math.isnan(value) else value

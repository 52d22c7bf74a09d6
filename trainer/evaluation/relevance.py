"""How good the order is, how well scores tell grades apart, and whether they mean what they say.

Metrics of order come from ir_measures, all others from scikit-learn. Every number is of the judged
items of each query: what was not judged is not there.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.evaluation import Judged as Ranked
from neuralrank.evaluation import judge
from trainer.evaluation.held_back import Judged, gain
from trainer.evaluation.scoring import Scores

__all__ = [
    "MAIN",
    "METRICS",
    "Calibrated",
    "auc",
    "calibration",
    "classification",
    "grades_of",
    "ranked",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# What is reported, as ir_measures reads it.
METRICS: Final = {
    "nDCG@10": "nDCG@10",
    "MRR@10": "MRR@10",
    "Recall@5": "R@5",
    "Recall@10": "R@10",
    "Recall@50": "R@50",
    "Recall@100": "R@100",
    "HitRate@10": "Success@10",
}
# What a model is promoted by.
MAIN: Final = "nDCG@10"
_BINS: Final = 10


@dataclass(frozen=True)
class Calibrated:
    """Probabilities against what is relevant.

    `bins`: for each tenth of [0, 1] with pairs in it, the mean probability, the share that is
    relevant, and the number of pairs. `ece`: the mean distance of the two, by pairs (Naeini, Cooper
    and Hauskrecht, 2015). `brier`: the mean square distance of a pair's probability and its truth.
    """

    ece: float
    brier: float
    bins: tuple[tuple[float, float, int], ...]

    def numbers(self) -> dict[str, Any]:
        names = ("predicted", "relevant", "pairs")
        return {
            "ECE": round(self.ece, 4),
            "Brier": round(self.brier, 4),
            "reliability": [
                dict(zip(names, (round(p, 4), round(r, 4), n), strict=True))
                for p, r, n in self.bins
            ],
        }


def ranked(judged: Judged, scores: Scores) -> Ranked:
    """The metrics of order on every judged query; `values` has those of METRICS."""
    qrels = {
        query: {item: gain(label) for item, label in row.items()}
        for query, row in judged.labels.items()
    }
    return judge(qrels, scores, tuple(METRICS.values()))


def auc(judged: Judged, scores: Scores) -> dict[str, float | None]:
    """The probability that a relevant pair has a higher score than one that is not: over all pairs,
    and the mean over queries that have both kinds. None where there is only one kind.
    """
    from sklearn.metrics import roc_auc_score

    def of(labels: Floats, values: Floats) -> float | None:
        relevant = labels > 0
        if relevant.all() or not relevant.any():
            return None
        return float(roc_auc_score(relevant, values))

    each = [
        of(np.array(list(row.values())), np.array([scores[query][item] for item in row]))
        for query, row in judged.labels.items()
    ]
    known = [value for value in each if value is not None]
    return {
        "AUC": of(judged.flat(judged.labels), judged.flat(scores)),
        "AUC a query": float(np.mean(known)) if known else None,
    }


def calibration(probabilities: Floats, relevant: Bools) -> Calibrated:
    """
    Args:
        probabilities: float64 [pairs] in [0, 1].
        relevant: bool [pairs].
    """
    from sklearn.metrics import brier_score_loss

    at = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(at, minlength=_BINS)
    there = counts > 0
    predicted = np.bincount(at, probabilities, _BINS)[there] / counts[there]
    true = np.bincount(at, relevant, _BINS)[there] / counts[there]
    share = counts[there] / len(probabilities)
    return Calibrated(
        ece=float((share * np.abs(predicted - true)).sum()),
        # Of one kind only, scikit-learn can't tell which the positive one is unless it is told.
        brier=float(brier_score_loss(relevant, probabilities, labels=[False, True])),
        bins=tuple(
            (float(p), float(t), int(n))
            for p, t, n in zip(predicted, true, counts[there], strict=True)
        ),
    )


def grades_of(labels: Floats) -> Floats:
    """The grades that labels have, ascending; at most 11 (tenths), since labels of clicks may be
    any number."""
    found = np.unique(labels.round(4))
    return found if len(found) <= _BINS + 1 else np.unique(labels.round(1))


def classification(
    labels: Floats, probabilities: Floats, learned: tuple[Floats, Floats] | None
) -> dict[str, Any]:
    """scikit-learn's report on which grade each pair has: precision, recall and F1 of each.

    A probability becomes the label that is expected of it (isotonic regression on another part of
    the data) and that the nearest grade.

    Args:
        labels, probabilities: of the pairs, float64 [pairs].
        learned: labels and probabilities of the pairs that teach the regression; without them a
            probability itself is the label that is expected.
    """
    from sklearn.isotonic import IsotonicRegression
    from sklearn.metrics import classification_report

    grades = grades_of(labels)
    expected = probabilities
    if learned is not None:
        curve = IsotonicRegression(out_of_bounds="clip").fit(learned[1], learned[0])
        expected = curve.predict(probabilities)
    names = [f"{grade:g}" for grade in grades]

    def nearest(values: Floats) -> list[str]:
        return [names[n] for n in np.abs(values[:, None] - grades).argmin(axis=1)]

    found = classification_report(
        nearest(labels), nearest(expected), labels=names, output_dict=True, zero_division=0
    )
    return {
        name: {key: round(float(value), 4) for key, value in row.items()}
        if isinstance(row, dict)
        else round(float(row), 4)
        for name, row in found.items()
    }

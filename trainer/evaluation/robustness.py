"""How much of a ranking survives when its query is written in another way."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainer.evaluation.held_back import Item, Judged
from trainer.evaluation.perturbations import PERTURBATIONS
from trainer.evaluation.relevance import MAIN, ranked
from trainer.evaluation.scoring import Scorer, Scores, Track, score_all

__all__ = ["Robustness", "robustness"]

_SEED: Final = 20_210
# Queries are scored again for each way of writing; so many tell enough.
_MOST_QUERIES: Final = 200


@dataclass(frozen=True)
class Robustness:
    """One way of writing, on the queries that it changes.

    `drift`: by how much a pair's relevance in [0, 1] moves on average. `tau`: Kendall's tau-b of
    the two orders, the mean over queries. `before` and `after`: nDCG@10.
    """

    name: str
    queries: int
    drift: float
    tau: float
    before: float
    after: float

    def numbers(self) -> dict[str, float]:
        return {
            "queries": self.queries,
            "score_drift": round(self.drift, 4),
            "kendall_tau": round(self.tau, 4),
            "nDCG@10": round(self.after, 4),
            "nDCG@10_before": round(self.before, 4),
            "nDCG@10_change": round(self.after - self.before, 4),
        }


def robustness(
    scorer: Scorer, judged: Judged, scores: Scores, items: Mapping[str, Item], track: Track
) -> list[Robustness]:
    """What each of `PERTURBATIONS` does; those that change no query are left out.

    Args:
        scores: of the queries as they were written.
    """
    queries = list(judged.labels)
    if len(queries) > _MOST_QUERIES:
        queries = sorted(random.Random(_SEED).sample(queries, _MOST_QUERIES))
    rows = []
    for name, perturb in PERTURBATIONS.items():
        written = {q: perturb(judged.texts[q], random.Random(f"{_SEED} {q}")) for q in queries}
        changed = {q: text for q, text in written.items() if text != judged.texts[q]}
        if not changed:
            continue
        part = Judged(
            judged.source,
            changed,
            judged.languages,
            judged.segments,
            {q: judged.labels[q] for q in changed},
            0,
        )
        after = score_all(scorer, changed, part.labels, items, track, f"{name} of queries")
        rows.append(_compared(name, scorer, part, scores, after))
    return rows


def _compared(
    name: str, scorer: Scorer, judged: Judged, before: Scores, after: Scores
) -> Robustness:
    from scipy.stats import kendalltau

    one, two = judged.flat(before), judged.flat(after)
    drift = np.abs(scorer.probability(one) - scorer.probability(two)).mean()
    taus = []
    for query, row in judged.labels.items():
        pair = [[scores[query][item] for item in row] for scores in (before, after)]
        if min(map(len, map(set, pair))) > 1:  # tau of equal numbers is undefined
            taus.append(float(kendalltau(*pair).statistic))
    return Robustness(
        name,
        len(judged.labels),
        float(drift),
        float(np.mean(taus)) if taus else 1.0,
        ranked(judged, before).mean(MAIN),
        ranked(judged, after).mean(MAIN),
    )

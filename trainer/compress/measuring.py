"""What a cross-encoder's bundle weighs, takes and is worth, as it is served."""

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neuralrank.bundles.bundle import Bundle
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.errors import InvalidBundle
from neuralrank.text.exclusions import as_read
from trainer.text.judged import Floats, Judged, mean_ndcg

__all__ = ["Bench", "Row"]

# Pairs of a run, and runs, of which the median counts.
_PAIRS: Final = 100
_RUNS: Final = 5
# What cutting out zeros may change: another order of additions.
_SAME: Final = 1e-3


@dataclass(frozen=True)
class Row:
    """A model as it was measured: `megabytes` of its graph, `milliseconds` for 100 pairs of the
    dataset (median), `ndcg` at 10 of its held-back part, and Pearson's `correlation` of its scores
    with those of the first row; None where one of both gives one score for all."""

    what: str
    megabytes: float
    milliseconds: float
    ndcg: float
    correlation: float | None


class Bench:
    """Measures bundles on the same pairs."""

    def __init__(self, held: Judged) -> None:
        """
        Args:
            held: pairs that nothing was trained on.
        """
        self._held = held
        self._first: Floats | None = None

    def row(self, what: str, bundle: Bundle) -> Row:
        model = CrossEncoder.load(bundle)
        scores = self._scores(model)
        first = self._first = scores if self._first is None else self._first
        return Row(
            what,
            round(bundle.model.stat().st_size / 1e6, 2),
            round(self._milliseconds(model), 1),
            round(mean_ndcg(self._held, scores), 4),
            _correlation(first, scores),
        )

    def same(self, one: Bundle, other: Bundle) -> None:
        """Raises InvalidBundle where they give different scores."""
        first, second = (self._scores(CrossEncoder.load(bundle)) for bundle in (one, other))
        difference = float(np.abs(first - second).max())
        if not difference <= _SAME:
            raise InvalidBundle(
                f"Without what was pruned the model gives other scores, up to {difference:.2g} "
                f"apart (allowed {_SAME:.0e}). It is not published; please report this."
            )

    def _scores(self, model: CrossEncoder) -> Floats:
        """float32 [pairs]."""
        held, parts = self._held, []
        for query, text in enumerate(held.queries):
            pairs = held.pairs_of(query)
            texts = [held.texts[held.item[pair]] for pair in pairs]
            parts.append(model.score(as_read(text), texts))
        return np.concatenate(parts)

    def _milliseconds(self, model: CrossEncoder) -> float:
        held = self._held
        rows: Any = np.resize(np.arange(len(held)), _PAIRS)
        halves = model.tokenise([*held.queries, *held.texts])
        queries, texts = halves[: len(held.queries)], halves[len(held.queries) :]
        pairs = [model.pair(queries[held.query[row]], texts[held.item[row]]) for row in rows]
        taken = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            model.run(pairs)
            taken.append(time.perf_counter() - start)
        return float(np.median(taken)) * 1_000


def _correlation(one: Floats, other: Floats) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return round(float(np.corrcoef(one, other)[0, 1]), 4)

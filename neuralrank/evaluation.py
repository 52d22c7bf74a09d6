"""Judges rankings against judgments: nDCG@10, RR@10, R@100, intervals and significance.

Metrics come from ir_measures; nDCG@10 of lists in memory, as trainings have them, from `ndcg`.
A query without an answer counts as zero, not as absent. Gains of nDCG are the grades themselves; an
item counts as relevant to RR and R from grade 1. An item without a judgment
counts as not relevant.

Smucker, Allan and Carterette, "A Comparison of Statistical Significance Tests for Information
Retrieval Evaluation" (2007), for the choice of a paired randomisation test.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.extras import install
from neuralrank.files.zipped import read

__all__ = [
    "METRICS",
    "Comparison",
    "Judged",
    "best_first",
    "compare",
    "judge",
    "ndcg",
    "read_qrels",
    "read_queries",
    "scores_of",
    "summary",
]

METRICS = ("nDCG@10", "RR@10", "R@100")
# Of each place that nDCG@10 looks at.
_DISCOUNTS = 1.0 / np.log2(np.arange(2, 12))
_RESAMPLES = 9_999
_SEED = 20_070
# Numbers that are drawn at once, 8 bytes each and a few copies of them: memory does not grow with
# the queries.
_AT_ONCE = 1 << 20

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Judged:
    """One system's metrics: per query, float64 [queries], in the order of `queries`."""

    queries: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]

    def mean(self, metric: str) -> float:
        return float(self.values[metric].mean())

    def interval(self, metric: str) -> tuple[float, float]:
        """The 95% interval of the mean, by bootstrap over queries."""
        from scipy import stats

        values = self.values[metric]
        if len(values) < 2 or np.ptp(values) == 0:
            return self.mean(metric), self.mean(metric)
        result = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=_RESAMPLES,
            batch=_batch(values),
            method="percentile",
            rng=_SEED,
        )
        return float(result.confidence_interval.low), float(result.confidence_interval.high)


@dataclass(frozen=True)
class Comparison:
    """How a system differs from a baseline on the same queries."""

    difference: float
    # Two-sided: how often chance alone would give a difference as large.
    p: float
    wins: int
    losses: int


def read_queries(path: Path) -> dict[str, str]:
    """Query text by id, from lines of `id<TAB>text`; the file may be gzip.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it can't be read, a line is of another shape, or an id comes twice.
    """
    queries: dict[str, str] = {}
    for number, line in _lines(path):
        query, tab, text = line.partition("\t")
        if not tab or not query.strip() or not text.strip():
            raise InvalidInput(f"{path}:{number}: got {line!r}; a line is an id, a tab and a text.")
        query = query.strip()
        if query in queries:
            raise InvalidInput(f"{path}:{number}: the query id {query!r} comes twice.")
        queries[query] = text.strip()
    if not queries:
        raise InvalidInput(f"{path} has no queries; a line is an id, a tab and a text.")
    return queries


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Grades by query and item, from TREC lines of `query 0 item grade`; the file may be gzip.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it can't be read, a line is of another shape, or an item has two grades for
            one query.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        parts = line.split()
        try:
            query, _, item, text = parts
            grade = int(text)
        except ValueError as error:
            raise InvalidInput(
                f"{path}:{number}: got {line!r}; a line is `query 0 item grade` (TREC), the grade "
                "a whole number."
            ) from error
        if (before := qrels.setdefault(query, {}).setdefault(item, grade)) != grade:
            raise InvalidInput(
                f"{path}:{number}: item {item!r} has grade {grade} for query {query!r}, and "
                f"{before} in a line above; keep one of them."
            )
    if not qrels:
        raise InvalidInput(f"{path} has no judgments; a line is `query 0 item grade` (TREC).")
    return qrels


def scores_of(order: Iterable[str]) -> dict[str, float]:
    """A ranking's items with scores that say their order, which is what is judged: a search's own
    may be equal, and would be ordered by id. An item that comes again (an alias over indices that
    share ids gives it once from each) counts where it stands first."""
    scores: dict[str, float] = {}
    for place, item in enumerate(order):
        scores.setdefault(item, -float(place))
    return scores


def judge(qrels: Qrels, run: Run, metrics: Sequence[str] = METRICS) -> Judged:
    """The metrics of a run on every judged query.

    Args:
        qrels: grades by query and item.
        run: scores by query and item; higher is better.
        metrics: as ir_measures reads them; it knows MRR as another name of RR.

    Raises:
        Unsupported: the extra `evaluate` is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise Unsupported(f"Judging needs {install('evaluate')}.") from error
    named = {ir_measures.parse_measure(name): name for name in metrics}
    queries = tuple(qrels)
    values = {name: np.zeros(len(queries)) for name in metrics}
    row = {query: i for i, query in enumerate(queries)}
    for metric in ir_measures.iter_calc(list(named), qrels, run):
        values[named[metric.measure]][row[metric.query_id]] = metric.value
    return Judged(queries, values)


def best_first(gains: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Places of a list's items by their scores. Of equal ones the least relevant come first, so
    that a model that tells nothing apart gains nothing."""
    return np.lexsort((gains, -scores))


def ndcg(gains: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """nDCG@10 of one list in memory, in the order of `best_first`; 0 where nothing is relevant.
    What `judge` gives, without ids: it would order equal scores by those.

    Args:
        gains: float32 [n], above 0 where relevant.
        scores: float32 [n].
    """
    best = np.sort(gains)[::-1][: len(_DISCOUNTS)]
    ideal = float(best @ _DISCOUNTS[: len(best)])
    if ideal <= 0:
        return 0.0
    found = gains[best_first(gains, scores)[: len(_DISCOUNTS)]]
    return float(found @ _DISCOUNTS[: len(found)]) / ideal


def compare(system: Judged, baseline: Judged, metric: str) -> Comparison:
    """A paired randomisation test of two systems on the same queries. Of fewer than two it is not
    known whether they differ by chance: p is 1."""
    from scipy import stats

    differences = system.values[metric] - baseline.values[metric]
    if not differences.any():
        return Comparison(0.0, 1.0, 0, 0)
    p = 1.0
    if len(differences) > 1:
        p = stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=_RESAMPLES,
            batch=_batch(differences),
            rng=_SEED,
        ).pvalue
    return Comparison(
        difference=float(differences.mean()),
        p=float(p),
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
    )


def _batch(values: NDArray[np.float64]) -> int:
    """How many resamples of values are drawn at once."""
    return max(_AT_ONCE // len(values), 1)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: {error}.") from error
    numbered = enumerate(text.splitlines(), start=1)
    return [(number, line) for number, line in numbered if line.strip()]


def _percentile(milliseconds: list[float], share: float) -> float:
    """A percentile of latencies, to a hundredth of a millisecond."""
    return round(float(np.percentile(milliseconds, share)), 2)


def summary(judged: Judged, milliseconds: list[float]) -> dict[str, Any]:
    """One system for people and scripts: means, intervals and latency."""
    return {
        **{name: round(judged.mean(name), 4) for name in METRICS},
        "ms_p50": _percentile(milliseconds, 50),
        "ms_p95": _percentile(milliseconds, 95),
        "ci95": {name: [round(x, 4) for x in judged.interval(name)] for name in METRICS},
    }

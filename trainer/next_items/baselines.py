"""What a personal ranker has to beat: popularity, item-kNN and matrix factorisation.

Baselines that are not tuned prove nothing (Ferrari Dacrema et al., "Are We Really Making Much
Progress?", 2019), so each with something to tune is tuned, on the last item of the histories.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product, starmap
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from trainer.next_items.measure import Scores, System, guess
from trainer.personal.sequences import Histories
from trainer.personal.statistics import ItemStatistics, Sparse, interactions, profiles

__all__ = [
    "FACTORISATIONS",
    "Factors",
    "NeighbourSettings",
    "Neighbours",
    "Popularity",
    "factors",
    "neighbours",
    "tuned_neighbours",
]

Report = Callable[[str], None]
# Users on whose last item settings are compared.
_TUNING_USERS: Final = 2_000
_SEED: Final = 11
_ALS_ITERATIONS: Final = 15
_BPR_ITERATIONS: Final = 100
_SHRINKAGES: Final = (0.0, 2.0, 5.0, 10.0)
_DECAYS: Final = (1.0, 0.8, 0.6)
# What matrix factorisation is tuned over: name, factors, regularisation.
FACTORISATIONS: Final = (
    ("ALS", 64, 1.0), ("ALS", 128, 10.0), ("ALS", 256, 1.0), ("ALS", 256, 10.0), ("ALS", 256, 50.0),
    ("BPR", 64, 0.01), ("BPR", 128, 0.05),
)  # fmt: skip
_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class Popularity:
    """Everyone gets what most have."""

    def scores(self, histories: Histories, places: Sequence[int]) -> Scores:
        return np.tile(histories.popularity.astype(np.float32), (len(places), 1))


@dataclass(frozen=True)
class Neighbours:
    """Item-kNN: the sum of an item's similarities to what the user has (Sarwar et al., 2001)."""

    # float32 [items, items].
    similar: Sparse
    # What an item counts relative to the one after it.
    decay: float

    def scores(self, histories: Histories, places: Sequence[int]) -> Scores:
        rows = [histories.rows[place] for place in places]
        users = profiles(rows, len(histories.items), self.decay)
        return np.asarray((users @ self.similar).toarray(), np.float32)


@dataclass(frozen=True)
class Factors:
    """Matrix factorisation: a user's vector times an item's."""

    # float32 [users, factors] and [items, factors].
    users: NDArray[np.float32]
    items: NDArray[np.float32]

    def scores(self, histories: Histories, places: Sequence[int]) -> Scores:  # noqa: ARG002
        return self.users[list(places)] @ self.items.T


@dataclass(frozen=True)
class NeighbourSettings:
    """What item-kNN hangs on; see `ItemStatistics.cosines`."""

    weighted: bool
    shrinkage: float
    decay: float


def tuned_neighbours(histories: Histories, *, exclude_seen: bool) -> NeighbourSettings:
    """What suits the histories best.

    Args:
        exclude_seen: as it is measured: whether what a user has had is never the answer.
    """
    earlier, _ = histories.without_last()
    statistics = ItemStatistics.of(earlier)
    grid = starmap(NeighbourSettings, product((False, True), _SHRINKAGES, _DECAYS))
    return _best(histories, grid, lambda settings: neighbours(statistics, settings), exclude_seen)


def neighbours(statistics: ItemStatistics, settings: NeighbourSettings) -> Neighbours:
    similar = statistics.cosines(weighted=settings.weighted, shrinkage=settings.shrinkage)
    return Neighbours(similar, settings.decay)


def factors(
    histories: Histories,
    report: Report,
    grid: Sequence[tuple[str, int, float]] = FACTORISATIONS,
    *,
    exclude_seen: bool,
) -> Factors:
    """Matrix factorisation of the library `implicit`: alternating least squares for implicit
    feedback (Hu, Koren and Volinsky, 2008) or Bayesian personalised ranking (Rendle et al., 2009),
    whichever suits the histories better, with the size and regularisation that do."""
    earlier, _ = histories.without_last()
    chosen = _best(histories, grid, lambda settings: _factorised(earlier, *settings), exclude_seen)
    name, size, regularisation = chosen
    report(f"matrix_factorisation: {name}, {size} factors, regularisation {regularisation:g}")
    return _factorised(histories, *chosen)


def _factorised(histories: Histories, name: str, size: int, regularisation: float) -> Factors:
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking

    given = {"factors": size, "regularization": regularisation, "random_state": _SEED}
    # Its own threads are the cores'; those of BLAS beside them would only be in their way.
    with threadpool_limits(1, "blas"):
        model: Any
        if name == "ALS":
            model = AlternatingLeastSquares(**given, iterations=_ALS_ITERATIONS, use_gpu=False)
        else:
            # With one thread the same numbers come out each time.
            model = BayesianPersonalizedRanking(
                **given, iterations=_BPR_ITERATIONS, learning_rate=0.05, use_gpu=False,
                num_threads=1,
            )  # fmt: skip
        model.fit(interactions(histories), show_progress=False)
    return Factors(np.asarray(model.user_factors), np.asarray(model.item_factors))


def _best(
    histories: Histories,
    grid: Iterable[_Settings],
    made: Callable[[_Settings], System],
    exclude_seen: bool,
) -> _Settings:
    """The settings whose system guesses the last items of the histories best, by nDCG@10."""
    earlier, last = histories.without_last()
    users = np.random.default_rng(_SEED).permutation(len(last))[:_TUNING_USERS]
    best, best_ndcg = None, -1.0
    for settings in grid:
        guessed = guess(
            made(settings), earlier, users.tolist(), last[users], exclude_seen=exclude_seen
        )
        if (ndcg := float(guessed.ndcg.mean())) > best_ndcg:
            best, best_ndcg = settings, ndcg
    assert best is not None  # no grid is empty
    return best

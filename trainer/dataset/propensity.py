"""How likely each position is looked at, estimated from logs in which nobody intervened.

Users click what they look at and like: P(click at k) = θ_k · γ(query, item), the position-based
model (Richardson et al., "Predicting Clicks", 2007). Two estimators of θ, both up to a factor, so
that the highest, as a rule that of the first position, is 1:

- `harvest`, where rankings vary (other users, other bundles, another day): the same item for the
  same query, seen at k and at k', was liked as much at both, so its clicks tell θ_k / θ_k'. Agarwal
  et al., "Estimating Position Bias without Intrusive Interventions" (2019): the all-pairs estimator
  on interventional sets with their weights.
- `regression_em`, where each query always has the same ranking: nothing is seen at two positions,
  but items alike in what is known of them stand at different ones for different queries. Wang et
  al., "Position Bias Estimation for Unbiased Learning to Rank in Personal Search" (2018): EM, γ a
  gradient-boosted function of features. What of the features follows from the position alone is
  taken for position bias; an item's relevance that no feature shows is noise.

`estimate` takes the first where there is enough of what it needs, else the second, and none where
the second has nothing to tell items apart by, such as with one query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput

__all__ = ["ESTIMATORS", "Seen", "Theta", "estimate", "harvest", "regression_em"]

ESTIMATORS: Final = ("auto", "harvest", "regression-em", "none")

# Nothing is looked at less: a smaller number would make a single click weigh thousands.
_LEAST: Final = 1e-3
# Clicks on items seen at both of two positions, from which on the two are compared.
_CLICKS: Final = 20
# Share of the impressions, and of the clicks, that must lie at places which are compared. With half
# of the impressions, θ of the others, taken from the place above, is off by as much as what
# regression-EM finds; with four fifths by far less.
_COMPARED: Final = 0.8
_ROUNDS: Final = 50
_SETTLED: Final = 1e-3
# Pairs that trees are fitted to in a round, at most.
_FITTED: Final = 200_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """How often each pair of query and item was seen at each position, and clicked there.

    All of the same length, one row a pair and position; positions from 1.
    """

    pair: Ints
    position: Ints
    shown: Ints
    clicked: Ints

    @classmethod
    def of(cls, pair: Ints, position: Ints, clicked: NDArray[np.bool_]) -> "Seen":
        """From impressions, one row each."""
        keys, inverse = np.unique(np.stack([pair, position]), axis=1, return_inverse=True)
        shown = np.bincount(inverse)
        clicks = np.bincount(inverse, weights=clicked).astype(np.int64)
        return cls(keys[0], keys[1], shown, clicks)

    def __post_init__(self) -> None:
        if len(self.shown) and not self.clicked.any():
            raise InvalidInput(
                "Nobody clicked anything in the logs, so nothing can be learned from them. Pull a "
                "longer window, or use --propensities none."
            )


@dataclass(frozen=True)
class Theta:
    """What was estimated, and how."""

    estimator: str
    # float64 [positions], from position 1 on; the highest is 1, all in (0, 1].
    values: Floats
    # In words: why this estimator, what it rests on.
    note: str

    def at(self, positions: Ints) -> Floats:
        """Of each position; beyond the last known one, that of the last."""
        return self.values[np.minimum(positions, len(self.values)) - 1]


def estimate(seen: Seen, features: Floats, chosen: str = "auto", seed: int = 0) -> Theta:
    """The propensities of all positions that are in the logs.

    Args:
        features: float64 [pairs, f], of what is known of each pair but its position.
        chosen: of ESTIMATORS.

    Raises:
        InvalidInput: the logs lack what the estimator that was named needs.
    """
    positions = int(seen.position.max(initial=1))
    if chosen == "none":
        return Theta("none", np.ones(positions), "every position counts as looked at")
    if chosen == "harvest" or (
        chosen == "auto" and positions > 1 and _interventions(seen, positions).enough
    ):
        return harvest(seen)
    if chosen == "auto" and not _tell_apart(features):
        note = (
            "every position counts as looked at: too few items were seen at several positions for "
            "the same query, and no feature tells items apart"
        )
        return Theta("none", np.ones(positions), note)
    return regression_em(seen, features, seed=seed)


def harvest(seen: Seen) -> Theta:
    """Intervention harvesting, all pairs.

    For two positions k and k', S holds the pairs (query, item) that were seen at both. With n_k the
    times that one was seen at k and v = n_k n_k' / (n_k + n_k') (the paper has v = 1; this counts
    those more that were seen more), ĉ_k = Σ_S v · (share clicked at k) and ¬ĉ_k = Σ_S v − ĉ_k.
    Then Σ_{k≠k'} ĉ_k log(θ_k r_kk') + ¬ĉ_k log(1 − θ_k r_kk') is maximised over all θ and over
    r_kk' = r_k'k, how much the items of S are liked, in (0, 1). Compared are those positions, of
    all that share items with each other, that were shown most. Others are looked at like the one
    above; those above all that are compared, like the first of these: no place is looked at more.

    Raises:
        InvalidInput: most of what was shown is at positions that share too few items with others.
    """
    positions = int(seen.position.max(initial=1))
    sets = _interventions(seen, positions)
    if not sets.enough:
        raise InvalidInput(
            "Intervention harvesting needs items that were seen at several positions for the same "
            f"query, with {_CLICKS} clicks between the positions at least, and the logs don't have "
            "them. Use --propensities regression-em."
        )
    compared = np.flatnonzero(sets.reached)
    theta = _maximise(
        sets.clicks[np.ix_(compared, compared)], sets.misses[np.ix_(compared, compared)]
    )
    # Of each position, the nearest above it that was compared; else the first.
    above = np.searchsorted(compared, np.arange(positions), side="right") - 1
    note = f"{sets.pairs:,} pairs of query and item were seen at several positions"
    others = sorted(set(seen.position.tolist()) - set((compared + 1).tolist()))
    for like, places in (
        (f"place {compared[0] + 1}", [place for place in others if place <= compared[0]]),
        ("the one above", [place for place in others if place > compared[0]]),
    ):
        if places:
            note += f"; not compared, and taken for as likely as {like}: {_spans(places)}"
    return Theta("harvest", _scaled(theta)[np.maximum(above, 0)], note)


def regression_em(seen: Seen, features: Floats, *, seed: int = 0) -> Theta:
    """Regression-EM: θ and, as a function of features, γ. It holds θ_1 at 1.

    Args:
        features: float64 [pairs, f]; row i of `seen.pair == i`.

    Raises:
        InvalidInput: there are no features to tell items apart by.
    """
    if not _tell_apart(features):
        raise InvalidInput(
            "Regression-EM needs features that tell items apart, and all are the same. Give more "
            "of them, or use --propensities harvest or none."
        )
    positions = int(seen.position.max(initial=1))
    overall = seen.clicked.sum() / seen.shown.sum()
    theta = 1.0 / np.arange(1, positions + 1)
    gamma = np.full(len(features), min(2 * overall, 0.5))
    done, change = 0, 1.0
    while done < _ROUNDS and change >= _SETTLED:
        done += 1
        looked, liked, weight = _expect(
            seen, theta[seen.position - 1], gamma[seen.pair], len(gamma)
        )
        shown = np.bincount(seen.position - 1, weights=seen.shown, minlength=positions)
        found = np.bincount(seen.position - 1, weights=looked, minlength=positions)
        new = np.where(shown > 0, found / np.maximum(shown, 1), theta)
        gamma = _regress(features, liked, weight, seed)
        change = float(np.abs(_scaled(new) - _scaled(theta)).max())
        theta = new
    return Theta(
        "regression-em",
        _scaled(theta),
        f"{done} rounds over {len(features):,} pairs of query and item, {features.shape[1]} "
        "features",
    )


def _tell_apart(features: Floats) -> bool:
    return bool(features.size) and (len(features) == 1 or bool(np.ptp(features, axis=0).any()))


def _scaled(theta: Floats) -> Floats:
    return np.clip(theta / theta.max(), _LEAST, 1.0)


def _expect(seen: Seen, theta: Floats, gamma: Floats, pairs: int) -> tuple[Floats, Floats, Floats]:
    """The expectations of Wang et al., equation 1.

    Returns:
        Looks of each row; the share of times that each pair was liked; the times it was shown.
    """
    missed = seen.shown - seen.clicked
    neither = np.maximum(1.0 - theta * gamma, 1e-12)
    looked = seen.clicked + missed * theta * (1.0 - gamma) / neither
    liked = seen.clicked + missed * gamma * (1.0 - theta) / neither
    shown = np.bincount(seen.pair, weights=seen.shown, minlength=pairs)
    total = np.bincount(seen.pair, weights=liked, minlength=pairs)
    return looked, total / np.maximum(shown, 1.0), shown.astype(np.float64)


def _regress(features: Floats, liked: Floats, weight: Floats, seed: int) -> Floats:
    """γ of each pair: boosted trees fitted to the expected liking itself, in place of the paper's
    sampling of 0 or 1 by it: the same in the mean, without the noise."""
    from sklearn.ensemble import GradientBoostingRegressor

    rows = np.flatnonzero(weight > 0)
    if len(rows) > _FITTED:
        rows = np.random.default_rng(seed).choice(rows, _FITTED, replace=False)
    model = GradientBoostingRegressor(
        n_estimators=15, max_depth=3, learning_rate=0.4, random_state=seed
    )
    model.fit(features[rows], liked[rows], sample_weight=weight[rows])
    return np.clip(np.asarray(model.predict(features), np.float64), 1e-3, 1.0 - 1e-3)


@dataclass(frozen=True)
class _Interventions:
    """For positions k, k' (from 0): ĉ and ¬ĉ at k, float64 [positions, positions]; the diagonal is
    0."""

    clicks: Floats
    misses: Floats
    pairs: int
    # Positions that are compared with each other, over others between them where need be: bool
    # [positions].
    reached: NDArray[np.bool_]
    # Whether there are several of them (where there are several), with most of what was shown and
    # clicked.
    enough: bool


def _interventions(seen: Seen, positions: int) -> _Interventions:
    clicks, misses = np.zeros((positions, positions)), np.zeros((positions, positions))
    counted = np.zeros((positions, positions))
    order = np.lexsort((seen.position, seen.pair))
    starts = np.flatnonzero(np.diff(seen.pair[order], prepend=-1))
    pairs = 0
    for rows in np.split(order, starts[1:]):
        if len(rows) < 2:
            continue
        pairs += 1
        at, n = seen.position[rows] - 1, seen.shown[rows].astype(np.float64)
        share = seen.clicked[rows] / n
        v = n[:, None] * n[None, :] / (n[:, None] + n[None, :])
        where = np.ix_(at, at)
        clicks[where] += v * share[:, None]
        misses[where] += v * (1.0 - share)[:, None]
        counted[where] += seen.clicked[rows][:, None] + seen.clicked[rows][None, :]
    for table in (clicks, misses, counted):
        np.fill_diagonal(table, 0.0)
    linked = counted >= _CLICKS
    shown = np.bincount(seen.position - 1, weights=seen.shown, minlength=positions)
    reached = _reached(linked, shown)
    inside = reached[seen.position - 1]
    share = min(part[inside].sum() / part.sum() for part in (seen.shown, seen.clicked))
    enough = share >= _COMPARED and (positions == 1 or reached.sum() > 1)
    return _Interventions(clicks * linked, misses * linked, pairs, reached, bool(enough))


def _reached(linked: NDArray[np.bool_], shown: NDArray[Any]) -> NDArray[np.bool_]:
    """Of the sets of positions that can be reached from each other, the one that was shown most,
    bool [positions]. It need not have the first: in some logs that is a place of advertisements."""
    from scipy.sparse.csgraph import connected_components

    _, parts = connected_components(linked, directed=False)
    return np.asarray(parts == np.bincount(parts, shown).argmax())


def _spans(numbers: Sequence[int]) -> str:
    """Numbers in ascending order, as "3, 11 to 20"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans)


def _maximise(clicks: Floats, misses: Floats) -> Floats:
    """θ, up to a factor, by L-BFGS over the logits of θ and r.

    Args:
        clicks, misses: as `_Interventions` has them, of positions that are all compared.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    positions = len(clicks)
    upper = np.triu_indices(positions, 1)
    total = max(float((clicks + misses).sum()), 1.0)

    def loss(x: Floats) -> tuple[float, Floats]:
        theta, liked = expit(x[:positions]), np.zeros((positions, positions))
        liked[upper] = expit(x[positions:])
        liked += liked.T
        p = np.clip(theta[:, None] * liked, 1e-9, 1.0 - 1e-9)
        value = clicks * np.log(p) + misses * np.log1p(-p)
        slope = clicks / p - misses / (1.0 - p)
        of_theta = (slope * liked).sum(axis=1) * theta * (1.0 - theta)
        of_liked = slope * theta[:, None]
        of_liked = (of_liked + of_liked.T)[upper] * liked[upper] * (1.0 - liked[upper])
        gradient = np.concatenate([of_theta, of_liked])
        return -float(value.sum()) / total, -gradient / total

    # Far from its end the loss is as good as flat for places that were seldom seen: it begins near
    # it, and goes on for as long as float64 lets it.
    theta, liked = _nearly(clicks, misses)
    found = minimize(
        loss,
        logit(np.concatenate([theta, liked[upper]])),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2_000, "ftol": 1e-13, "gtol": 1e-8},
    )
    return np.asarray(expit(found.x[:positions]), np.float64)


def _nearly(clicks: Floats, misses: Floats) -> tuple[Floats, Floats]:
    """θ, the highest near 1, and r by least squares: log θ_k − log θ_k' is the logarithm of the
    ratio of what was clicked at both, and counts by the reciprocal of its variance."""
    total = clicks + misses
    share = (clicks + 0.5) / (total + 1.0)
    ratio = np.log(share / share.T)
    weight = np.where(total > 0, 1.0 / (1.0 / (clicks + 0.5) + 1.0 / (clicks.T + 0.5)), 0.0)
    # The normal equations; they leave a factor of θ open.
    normal = np.diag(weight.sum(axis=1)) - weight
    logs = np.linalg.lstsq(normal, (weight * ratio).sum(axis=1))[0]
    theta = np.clip(0.95 * np.exp(logs - logs.max()), _LEAST / 10, 0.95)
    liked = share / theta[:, None]
    return theta, np.clip((liked + liked.T) / 2, _LEAST, 1.0 - _LEAST)

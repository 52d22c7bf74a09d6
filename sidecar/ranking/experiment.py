"""Experiments: which of two ways of ranking a user gets, and pages that both make together.

Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?" (2008), for
team-draft interleaving.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from neuralrank.errors import InvalidInput
from sidecar.domain import Arm, Experiment, Mode, Participation, RankQuery
from sidecar.sizes import shown
from sidecar.spread import number, place

__all__ = ["ARMS", "checked", "coin", "draft", "join", "ways"]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
ARMS: Final = ("A", "B")
_HALF: Final = 50.0


def checked(where: str, name: str, mode: Mode, arms: Mapping[str, Arm], share: float) -> Experiment:
    """An experiment, if it is one.

    Args:
        where: how messages call the place that it comes from.

    Raises:
        InvalidInput: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{where}.name is {shown(name)}; allowed are 1 to 64 letters, digits, '.', '_' and '-'."
        )
    if not 0.0 < share <= 1.0:
        raise InvalidInput(f"{where}.share is {share}; allowed is above 0, up to 1.")
    if set(arms) != set(ARMS):
        raise InvalidInput(
            f"{where}.arms are {', '.join(map(shown, sorted(arms))) or 'none'}; needed are 'A', "
            "the way that is compared with, and 'B'."
        )
    if arms["A"] == arms["B"]:
        raise InvalidInput(
            f"{where}.arms are the same: {_in_words(arms['A'])}. Let them differ in one of these."
        )
    return Experiment(name, mode, {each: arms[each] for each in ARMS}, share)


def coin(experiment: Experiment | None, user: str, asked: str) -> Random:
    """Falls the same way again for the same experiment, user and query, so that the second page of
    a query goes on where the first one ended."""
    return Random(number("coin", experiment.name if experiment else "", user, asked))


def join(experiment: Experiment, user: str) -> Participation:
    """Whether a user takes part, and with which arm."""
    made = Participation(experiment.name, experiment.mode)
    if not user:
        return replace(made, left_out="the request has no user id")
    if place(f"share {experiment.name}", user) >= experiment.share * 100.0:
        return replace(
            made, left_out=f"the user is not in the share of {experiment.share:g} that takes part"
        )
    if experiment.mode is Mode.INTERLEAVE:
        return made
    first = place(f"arm {experiment.name}", user) < _HALF
    return replace(made, arm=ARMS[0] if first else ARMS[1])


def ways(query: RankQuery, joined: Participation | None) -> dict[str, RankQuery]:
    """The ways in which a request is to be ranked, by arm; "": none of an experiment. Two where it
    is interleaved."""
    experiment = query.experiment
    if experiment is None or joined is None or joined.left_out:
        return {"": query}
    return {
        name: replace(query, bundle=arm.bundle, weights=arm.weights, fusion=arm.fusion)
        for name, arm in experiment.arms.items()
        if joined.arm in ("", name)
    }


def draft(a: Sequence[int], b: Sequence[int], coin: Random) -> list[tuple[int, str]]:
    """Team draft: what both rankings hold, each once, with the team that took it.

    The team that has taken fewer takes its best that is left; where both have taken as many, a coin
    says who is first. When one has nothing left, the other goes on.

    Args:
        a, b: positions of candidates, best first, none twice.
    """
    teams = {ARMS[0]: iter(a), ARMS[1]: iter(b)}
    counts = dict.fromkeys(ARMS, 0)
    taken: dict[int, str] = {}
    while teams:
        if len(teams) == 1:
            team = next(iter(teams))
        elif counts[ARMS[0]] == counts[ARMS[1]]:
            team = ARMS[0] if coin.getrandbits(1) else ARMS[1]
        else:
            team = min(ARMS, key=counts.__getitem__)
        best = next((position for position in teams[team] if position not in taken), None)
        if best is None:
            del teams[team]
            continue
        taken[best] = team
        counts[team] += 1
    return list(taken.items())


def _in_words(arm: Arm) -> str:
    weights = arm.weights
    return (
        f"bundle {shown(arm.bundle)}, weights {weights.relevance:g}, {weights.affinity:g}, "
        f"{weights.retrieval:g} (relevance, affinity, retrieval), {weights.cross_encoder:g} "
        f"(cross_encoder), {weights.diversity:g} (diversity), fusion {arm.fusion.value}"
    )

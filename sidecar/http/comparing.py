"""Experiments on texts: which of two models scores them, or both together."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from neuralrank.errors import NeuralrankError
from sidecar.deadline import Deadline
from sidecar.domain import Participation
from sidecar.http.texts import TextQuery, TextRanker, TextRanking, TextScore
from sidecar.ranking.experiment import ARMS, coin, draft, join

__all__ = ["rank_in_experiment"]


async def rank_in_experiment(
    ranker: TextRanker, query: TextQuery, deadline: Deadline
) -> TextRanking:
    """The texts in the order that the query's experiment, if it has one, has for its user.

    Raises:
        NotFound: a model that was named is not served; also where another arm would get it.
        NeuralrankError: as `TextRanker.rank`; of both arms, where they are interleaved.
    """
    experiment = query.experiment
    if experiment is None:
        return await ranker.rank(query, deadline)
    for arm in experiment.arms.values():
        ranker.check(arm.bundle)
    joined = join(experiment, query.user)
    if joined.left_out:
        return replace(await ranker.rank(query, deadline), experiment=joined)
    if joined.arm:
        chosen = replace(query, model=experiment.arms[joined.arm].bundle)
        return replace(await ranker.rank(chosen, deadline), experiment=joined)
    chance = coin(experiment, query.user, query.query)
    made: dict[str, TextRanking] = {}
    errors: dict[str, NeuralrankError] = {}
    # Half of the time for who reads first, and what is left for the other: neither model always is
    # the one.
    first, second = sorted(ARMS, reverse=bool(chance.getrandbits(1)))
    half = Deadline.after(deadline.remaining() / 2, deadline.clock)
    for name, until in ((first, half), (second, deadline)):
        try:
            chosen = replace(query, model=experiment.arms[name].bundle)
            made[name] = await ranker.rank(chosen, until)
        except NeuralrankError as error:
            errors[name] = error
    if len(made) == len(ARMS):
        return _interleaved(made, chance, joined)
    if not made:
        raise errors[second]
    # One ranking is an answer, and no comparison.
    ((failed, why),) = errors.items()
    (ranking,) = made.values()
    return replace(ranking, experiment=replace(joined, left_out=f"arm {failed} failed: {why}"))


def _interleaved(
    made: Mapping[str, TextRanking], chance: Random, joined: Participation
) -> TextRanking:
    a, b = ([score.index for score in made[name].scores] for name in ARMS)
    taken = dict(draft(a, b, chance))
    by_index = {name: {one.index: one for one in made[name].scores} for name in ARMS}
    scores: list[TextScore] = []
    for index, team in taken.items():
        own = by_index[team][index]
        # Who sorts by score must find the answer as it is.
        above = scores[-1].score if scores else 1.0
        scores.append(replace(own, score=min(own.score, above)))
    return TextRanking(
        tuple(scores),
        ", ".join(made[name].model for name in ARMS),
        tuple(dict.fromkeys(note for name in ARMS for note in made[name].degraded)),
        joined,
        taken,
    )

"""What a personal ranker must show before it serves: better at what users chose, for no head worse.

Both bundles are run by the code that serves, each on its own encoder's vectors, on the test part of
one dataset: pages by what was clicked on them, each click counting by how rarely its place is
looked at, and users by what they did next.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache as cached
from pathlib import Path
from typing import Final

import numpy as np

from neuralrank.bundle import Bundle
from neuralrank.candidates import Candidate, Check
from neuralrank.encoder import Encoder
from neuralrank.errors import InvalidBundle
from neuralrank.evaluation import Judged
from neuralrank.personal_inputs import HEADS
from neuralrank.personal_ranker import PersonalRanker
from neuralrank.registry import Registry
from trainer.dataset import Dataset
from trainer.gate import Rules, gained, kept, opponent
from trainer.personal.behaviour import Behaviour, from_dataset
from trainer.personal.export import served_scores
from trainer.personal.lists import Lists, ndcg
from trainer.personal.shop import Shop

__all__ = ["measured"]

_METRIC: Final = "nDCG@10"
_ALL: Final = f"{_METRIC} of what users chose"
_OF: Final = {HEADS[0]: "clicks after a search", HEADS[1]: "what users did next"}
# Pages and users, each, and items that a next one is looked for among.
_LISTS, _AMONG = 1_000, 2_000


def measured(
    registry: Registry, ref: str, data: Dataset, dataset: str, rules: Rules, cache: Path
) -> Candidate:
    """Compares a personal ranker with the one that serves in its place, and records it.

    Args:
        dataset: where the data comes from, for the record.
        cache: the folder where vectors of items are kept.

    Raises:
        NotFound: there is no such bundle, or not the encoder whose vectors it reads.
        InvalidInput: it serves itself, or the test part holds nothing to measure with.
        InvalidBundle: the one in service can't be loaded.
    """
    serving = opponent(registry, ref)

    @cached
    def behaviour(encoder: str) -> Behaviour:
        # Mostly both read the same one's vectors.
        read = Encoder.load(registry.get(encoder))
        shop = Shop.of(data.items, read, cache, lambda *_: None)
        return from_dataset(data, shop, read.encode_queries, "test")

    theirs = _values(registry.get(serving), behaviour)
    try:
        mine = _values(registry.get(ref), behaviour)
        found = tuple(_checks(mine, theirs, rules))
    except InvalidBundle as error:
        found = (Check(name="loads", passed=False, words=str(error)),)
    result = Candidate().compared_with(serving, found, dataset, datetime.now(UTC))
    registry.record(ref, result)
    return result


def _values(bundle: Bundle, behaviour: Callable[[str], Behaviour]) -> dict[str, list[float]]:
    """nDCG@10 of each list of the test part, by head; the same lists for every bundle."""
    model = PersonalRanker.load(bundle)
    did = behaviour(model.encoder)
    # Negatives and ids are the training's; here nothing is drawn, and the bundle has its own ids.
    lists = Lists.of(did, model.events, 0, np.zeros(len(did.shop.ids), np.int64))
    values: dict[str, list[float]] = {}
    for one in lists.held(_LISTS, _AMONG):
        scores = served_scores(model, lists, one)
        values.setdefault(HEADS[one.head], []).append(ndcg(one.gains, scores))
    return values


def _checks(
    mine: dict[str, list[float]], theirs: dict[str, list[float]], rules: Rules
) -> Iterator[Check]:
    ours, others = (
        _judged([value for found in side.values() for value in found]) for side in (mine, theirs)
    )
    yield gained(_ALL, f" ({len(ours.queries):,} lists)", ours, others, _METRIC, rules)
    for head, values in mine.items():
        if len(values) < rules.min_size:
            continue
        value, before = float(np.mean(values)), float(np.mean(theirs[head]))
        yield kept(f"{_METRIC} of {_OF[head]}", f" ({len(values):,})", value, before, rules)


def _judged(values: list[float]) -> Judged:
    return Judged(tuple(map(str, range(len(values)))), {_METRIC: np.array(values)})

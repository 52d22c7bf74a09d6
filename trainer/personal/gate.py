"""What a personal ranker must show before it serves: better at what users chose, for no head worse.

Both bundles are run by the code that serves, each on its own encoder's vectors, on the test part of
one dataset: pages by what was clicked on them, each click counting by how rarely its place is
looked at, and users by what they did next.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache as cached
from pathlib import Path
from typing import Final

import numpy as np

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.candidates import Candidate, Check
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidBundle, InvalidInput
from neuralrank.evaluation import Judged
from neuralrank.personal.inputs import HEADS
from neuralrank.personal.ranker import PersonalRanker
from trainer.dataset import Dataset
from trainer.gate import Rules, forgotten, gained, kept, opponent, too_small
from trainer.personal.behaviour import Behaviour, from_dataset
from trainer.personal.evaluation import OF, scored
from trainer.personal.shop import Shop

__all__ = ["CHOSEN", "checks", "measured"]

_METRIC: Final = "nDCG@10"
# The check of all lists.
CHOSEN: Final = f"{_METRIC} of what users chose"
# By head, of each list.
_Values = dict[str, list[float]]


def measured(
    registry: Registry,
    ref: str,
    data: Dataset,
    dataset: str,
    rules: Rules,
    cache: Path,
    old: Dataset | None = None,
) -> Candidate:
    """Compares a personal ranker with the one that serves in its place, and records it.

    Args:
        dataset: where the data comes from, for the record.
        cache: the folder where vectors of items are kept.
        old: kept back of earlier times, of items that `data` has; what is forgotten of it counts
            as a head does.

    Raises:
        NotFound: there is no such bundle, or not the encoder whose vectors it reads.
        InvalidInput: it serves itself, or the test part holds nothing to measure with.
        InvalidBundle: the one in service can't be loaded.
    """
    serving = opponent(registry, ref)

    @cached
    def behaviours(encoder: str) -> list[Behaviour]:
        # Mostly both read the same one's vectors.
        read = Encoder.load(registry.get(encoder))
        shop = Shop.of(data.items, read, cache, lambda *_: None)
        found = [from_dataset(data, shop, read.encode_queries, "test")]
        if old is not None:
            with suppress(InvalidInput):  # it holds nothing to measure with
                known = replace(old, items=data.items)
                found.append(from_dataset(known, shop, read.encode_queries, "test"))
        return found

    theirs = _values(registry.get(serving), behaviours)
    try:
        mine = _values(registry.get(ref), behaviours)
        found = tuple(checks(mine[0], theirs[0], rules))
        if len(theirs) > 1:
            value, before = (_flat(side[1]) for side in (mine, theirs))
            means = float(np.mean(value)), float(np.mean(before))
            found += (forgotten(len(value), "lists", *means, rules),)
    except InvalidBundle as error:
        found = (Check(name="loads", passed=False, words=str(error)),)
    result = Candidate().compared_with(serving, found, dataset, datetime.now(UTC))
    registry.record(ref, result)
    return result


def _values(bundle: Bundle, behaviours: Callable[[str], list[Behaviour]]) -> list[_Values]:
    """nDCG@10 of each list of each test part; the same lists for every bundle."""
    model = PersonalRanker.load(bundle)
    found = []
    for did in behaviours(model.encoder):
        values: _Values = {}
        for one in scored(model, did):
            values.setdefault(one.head, []).append(one.ndcg)
        found.append(values)
    return found


def _flat(values: _Values) -> list[float]:
    return [value for found in values.values() for value in found]


def checks(mine: _Values, theirs: _Values, rules: Rules) -> Iterator[Check]:
    """All that is compared, passed or not, and which head was not.

    Args:
        mine, theirs: nDCG@10 of each list by head, of the candidate and of what serves.
    """
    ours, others = (_judged(_flat(side)) for side in (mine, theirs))
    sizes = {head: len(mine.get(head, ())) for head in HEADS}
    small = [head for head, size in sizes.items() if size < rules.min_size]
    # The mean of all may rest on one head alone: whoever reads that it is better reads this too.
    parts = [
        f"{size:,} of {OF[head]}" + (", too few to be compared alone" if head in small else "")
        for head, size in sizes.items()
    ]
    of = f"{len(ours.queries):,} lists: {'; '.join(parts)}"
    yield gained(CHOSEN, f" ({of})", ours, others, _METRIC, rules)
    for head, values in mine.items():
        if head not in small:
            value, before = float(np.mean(values)), float(np.mean(theirs[head]))
            yield kept(f"{_METRIC} of {OF[head]}", f" ({sizes[head]:,})", value, before, rules)
    if small:
        yield too_small([f"{_METRIC} of {OF[head]} ({sizes[head]:,})" for head in small], rules)


def _judged(values: list[float]) -> Judged:
    return Judged(tuple(map(str, range(len(values)))), {_METRIC: np.array(values)})

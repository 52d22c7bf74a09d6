"""A personal ranker measured on what a dataset keeps back: pages by what was clicked on them, and
users by what they did next, found among many items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.encoder import Encoder
from neuralrank.evaluation import Judged, best_first, ndcg
from neuralrank.personal.inputs import HEADS
from neuralrank.personal.ranker import PersonalRanker
from trainer.dataset import Dataset
from trainer.dataset.checks import milliseconds
from trainer.evaluation.evaluation import Evaluation, OfJudgments, Segment
from trainer.evaluation.exposure import Exposure, exposed
from trainer.evaluation.held_back import catalogue
from trainer.evaluation.relevance import MAIN, METRICS
from trainer.personal.behaviour import Behaviour, from_dataset
from trainer.personal.lists import List, Lists
from trainer.personal.shop import Shop
from trainer.personal.weighing import served_scores

__all__ = ["OF", "Scored", "evaluate", "of_lists", "scored"]

# What lists of each head say, in words.
OF: Final = {HEADS[0]: "clicks after a search", HEADS[1]: "what users did next"}
# Pages and users, each, and items that a next one is looked for among.
_LISTS, _AMONG = 1_000, 2_000
_PLACES: Final = 10
# The dimension of segments that says of which head a list is.
_KIND: Final = "lists"
_HIT: Final = METRICS["HitRate@10"]


@dataclass(frozen=True)
class Scored:
    """A list with its scores, float32 [n]."""

    list: List
    scores: NDArray[np.float32]

    @property
    def head(self) -> str:
        return HEADS[self.list.head]

    @property
    def ndcg(self) -> float:
        return ndcg(self.list.gains, self.scores)


def scored(model: PersonalRanker, did: Behaviour) -> Iterator[Scored]:
    """What the part that is kept back holds, scored by the code that serves; the same lists for
    every bundle."""
    # Negatives and ids are the training's; nothing is drawn here, and a bundle has its own ids.
    lists = Lists.of(did, model.events, 0, np.zeros(len(did.shop.ids), np.int64))
    for one in lists.held(_LISTS, _AMONG):
        yield Scored(one, served_scores(model, lists, one))


def evaluate(bundle: Bundle, data: Dataset, registry: Registry, cache: Path) -> Evaluation:
    """
    Args:
        registry: where the encoder is whose vectors the bundle reads.
        cache: the folder where vectors of items are kept.

    Raises:
        InvalidBundle: it is no personal ranker, or can't be loaded.
        InvalidInput: the test part holds nothing to measure with.
        NotFound: the encoder is not there.
    """
    model = PersonalRanker.load(bundle)
    encoder = Encoder.load(registry.get(model.encoder))
    shop = Shop.of(data.items, encoder, cache, lambda *_: None)
    did = from_dataset(data, shop, encoder.encode_queries, "test")
    found = list(scored(model, did))
    pages = sum(one.head == HEADS[0] for one in found)
    values = [_metrics(one) for one in found]
    names = tuple(map(str, range(len(found))))
    order = Judged(names, {key: np.array([row[key] for row in values]) for key in values[0]})
    areas = [area for one in found if (area := _area(one)) is not None]
    judgments = OfJudgments(
        source="choice",
        words=f"{pages:,} pages by what was clicked on them, and {len(found) - pages:,} users by "
        f"what they did next, found among {min(_AMONG, len(shop.ids)):,} items; ordered by the "
        "personal ranker alone. On a page of ten items or fewer HitRate@10 is 1 whoever orders it.",
        pairs=sum(len(one.list.items) for one in found),
        order=order,
        auc={"AUC": float(np.mean(areas)) if areas else None},
        classification={},
        calibration=None,
        segments=tuple(_segments(found, order, _known(data))),
        exposure=_exposure(found, data, shop.ids),
        robustness=(),
    )
    return Evaluation(bundle.ref, judgments, None)


def of_lists(found: Evaluation) -> dict[str, int]:
    """How many lists of each kind it was measured on."""
    return {s.name: s.size for s in found.segments.values() if s.dimension == _KIND}


def _metrics(one: Scored) -> dict[str, float]:
    """By the names of ir_measures, for a list in memory."""
    chosen = one.list.gains[best_first(one.list.gains, one.scores)] > 0
    first = int(np.argmax(chosen))
    return {
        MAIN: one.ndcg,
        METRICS["MRR@10"]: 1.0 / (1 + first) if first < _PLACES else 0.0,
        **{f"R@{k}": float(chosen[:k].sum() / chosen.sum()) for k in (5, 10, 50, 100)},
        _HIT: float(first < _PLACES),
    }


def _area(one: Scored) -> float | None:
    from sklearn.metrics import roc_auc_score

    chosen = one.list.gains > 0
    return None if chosen.all() else float(roc_auc_score(chosen, one.scores))


def _known(data: Dataset) -> set[str]:
    """Users who were there before the test part, or before the window: `train update` puts what it
    remembers of a user before what they did in the test part."""
    found = {
        user
        for part in ("train", "dev")
        for table in ("sequences", "impressions")
        for user in data.of(table, part)["user_id"].to_pylist()
    }
    if since := data.description.window.since:
        begins = milliseconds(since, "dataset.json: window.from")
        rows = data.of("sequences", "test").to_pylist()
        found |= {row["user_id"] for row in rows if row["times"][0] < begins}
    return found


def _segments(found: Sequence[Scored], order: Judged, known: set[str]) -> Iterator[Segment]:
    def users(one: Scored) -> str:
        user = one.list.history.user
        return ("returning" if user in known else "new") if user else "anonymous"

    kinds = np.array([OF[one.head] for one in found])
    of_users = np.array([users(one) for one in found])
    following = kinds == OF[HEADS[1]]
    everything = np.ones(len(found), bool)
    for dimension, names, among, metric, key in (
        (_KIND, kinds, everything, MAIN, MAIN),
        ("users", of_users, everything, MAIN, MAIN),
        ("next items", kinds, following, "HitRate@10", _HIT),
        ("next items of users", of_users, following, "HitRate@10", _HIT),
    ):
        for name in dict.fromkeys(names[among].tolist()):
            mask = among & (names == name)
            value = float(order.values[key][mask].mean())
            yield Segment(dimension, name, int(mask.sum()), metric, value)


def _exposure(found: Sequence[Scored], data: Dataset, ids: Sequence[str]) -> Exposure:
    """Of next items, where the ranker chooses what is shown; of pages where there are none."""
    some = [one for one in found if one.head == HEADS[1]] or found
    pages: dict[str, list[str]] = {}
    chosen: dict[str, Mapping[str, float]] = {}
    pool: set[str] = set()
    for number, one in enumerate(some):
        items = one.list.items[best_first(one.list.gains, one.scores)][:_PLACES]
        pages[str(number)] = [ids[item] for item in items]
        liked = np.flatnonzero(one.list.gains)
        chosen[str(number)] = {ids[one.list.items[at]]: float(one.list.gains[at]) for at in liked}
        pool.update(ids[item] for item in one.list.items)
    return exposed(pages, chosen, pool, catalogue(data))

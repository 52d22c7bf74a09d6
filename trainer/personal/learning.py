"""Trains the user × item ranker that serves, and makes its bundle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuralrank.bundles.bundle import Bundle, require_name
from neuralrank.errors import InvalidInput, InvalidSettings
from neuralrank.evaluation import ndcg
from neuralrank.personal.inputs import HEADS
from neuralrank.personal.ranker import PersonalRanker
from trainer.loop import Outcome, Rows, Task, TrainingOptions, processes, train
from trainer.loop.trials import Found, fitted
from trainer.personal.affinity import affinity_of
from trainer.personal.behaviour import Behaviour, Part
from trainer.personal.export import Agreement, Scale, export
from trainer.personal.lists import Batch, List, Lists, chosen_loss
from trainer.personal.ranker import RankerModel
from trainer.personal.source import Source, beginning, known_items
from trainer.personal.together import together
from trainer.personal.weighing import counted, ends, served_scores
from trainer.text.sources import BUNDLE

__all__ = ["METRIC", "Floor", "PersonalOptions", "Personalised", "train_personal"]

METRIC: Final = "nDCG@10"
# Lists that are scored at once.
_AT_ONCE: Final = 16


@dataclass(frozen=True)
class PersonalOptions:
    """What is particular to this training.

    Raises:
        InvalidSettings: a value is outside its range.
        InvalidInput: no bundle can have that name.
    """

    # Newest events that are read.
    events: int = 20
    # Candidates of a recommendation in training: the chosen one and others by chance.
    list_size: int = 32
    width: int = 32
    # Items with so many events get an embedding of their id; 0: none does.
    id_events: int = 5
    # Items among which the dev part's next ones are looked for, and lists of each head there.
    dev_items: int = 2_000
    dev_lists: int = 500
    name: str = "personal-ranker"

    def __post_init__(self) -> None:
        require_name(self.name)
        for name, low in (
            ("events", 1), ("list_size", 2 + 3), ("width", 4), ("id_events", 0), ("dev_items", 2),
            ("dev_lists", 1),
        ):  # fmt: skip
            if (value := getattr(self, name)) < low:
                flag = name.replace("_", "-")
                raise InvalidSettings(f"--{flag} is {value}; allowed is {low} or more.")


@dataclass(frozen=True)
class Floor:
    """nDCG@10 on the dev part's lists of users with events: of the bundle as it serves, what users
    had together counted, and of what serves where there is none, nearness to each of a user's
    interests with what they have of category and brand (`affinity_of`)."""

    lists: int
    ranker: float
    nearness: float

    @property
    def passed(self) -> bool:
        """Whether the ranker is better, or there is nothing to tell by."""
        return not self.lists or self.ranker > self.nearness


@dataclass(frozen=True)
class Personalised:
    """What came out; all but the first two are the main process's only."""

    outcome: Outcome
    model: RankerModel
    bundle: Bundle | None = None
    agreement: Agreement | None = None
    search: Found | None = None
    floor: Floor | None = None

    @property
    def item_knn(self) -> dict[str, dict[str, float]]:
        """As `counted`, of the bundle."""
        return counted(self.bundle.manifest) if self.bundle else {}


def train_personal(
    behaviour: Behaviour,
    options: PersonalOptions,
    training: TrainingOptions,
    *,
    trials: int = 0,
    source: Source | None = None,
) -> Personalised:
    """Trains, or goes on, and makes a bundle of the best checkpoint in the run's folder.

    Args:
        source: is trained further; its items keep their embeddings. None: a new one.

    Raises:
        InvalidInput: nobody of the train part has something to be guessed; or as
            `trainer.loop.train`.
        InvalidSettings: an option that this training has no use for.
        InvalidBundle: the bundle does not compute what torch does.
    """
    if training.method != "full":
        raise InvalidSettings(
            f"--method is {training.method}; the personal ranker is small, and all of it is "
            "trained: allowed is full."
        )
    if not behaviour.train.histories:
        raise InvalidInput(
            "No user of the train part did two things or more: there is nothing personal to "
            "learn from. Are events logged with a user_id, and is it the same catalogue?"
        )
    known = known_items(behaviour, options.id_events, source.items if source else ())
    lists = Lists.of(behaviour, options.events, options.list_size, known)
    dev = [_as_served(one, lists) for one in lists.held(options.dev_lists, options.dev_items)]

    def fit(chosen: TrainingOptions) -> tuple[RankerModel, Outcome]:
        model = beginning(lists, options.width, chosen.seed, source)
        return model, train(_task(model, lists, dev, options, source), chosen)

    model, outcome, found = fitted(training, trials, fit, METRIC)
    if not processes().is_main_process:
        return Personalised(outcome, model)
    model = model.cpu().eval()
    if source is None:
        _fill_actions(model, behaviour)
    known_users = [one for one in dev if len(one.history)]
    nearness = _nearness(lists, known_users)
    metrics = {**outcome.best, f"{METRIC} by nearness": nearness}
    fields = {
        "name": options.name,
        "source": behaviour.source,
        "parent": source.ref if source else "",
        "training_window": behaviour.window,
        "metrics": {f"dev {name}": value for name, value in metrics.items()},
    }
    bundle, agreement = export(
        model, lists, dev, _scale(model, lists, dev), training.out / BUNDLE, fields,
        together(behaviour, source.knn if source else None),
    )  # fmt: skip
    floor = Floor(len(known_users), _served(bundle, lists, known_users), nearness)
    return Personalised(outcome, model, bundle, agreement, found, floor)


def _fill_actions(model: RankerModel, behaviour: Behaviour) -> None:
    """Kinds of action that nobody has done are read as the average of those that were done. Else an
    event of such a kind, which may well come when it serves, would be noise: histories know one
    kind only, and shops have others."""
    counts = torch.from_numpy(behaviour.acts()).float()
    seen = counts > 0
    if seen.any():
        with torch.no_grad():
            model.action.weight[~seen] = counts @ model.action.weight / counts.sum()


def _task(
    model: RankerModel, lists: Lists, dev: Sequence[List], options: PersonalOptions,
    source: Source | None,
) -> Task:  # fmt: skip
    train_part = lists.behaviour.train
    gains = torch.from_numpy(_mean_gains(train_part))

    def batch(rows: Rows, random: np.random.Generator) -> Batch:
        return lists.batch(lists.of_rows(rows.tolist(), random), random)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return chosen_loss(model(batch.inputs), batch, gains.to(batch.gains.device))

    def describe(row: int) -> str:
        visits = len(train_part.visits)
        return f"page {row}" if row < visits else f"history {row - visits}"

    identity: dict[str, Any] = {
        "task": "personal",
        "data": lists.behaviour.source,
        "encoder": lists.behaviour.shop.encoder,
        "from": source.ref if source else "",
        "events": options.events,
        "list_size": options.list_size,
        "width": options.width,
        "id_events": options.id_events,
        # The best checkpoint is that of a measurement on these.
        "dev_items": options.dev_items,
        "dev_lists": options.dev_lists,
    }
    return Task(
        identity=identity,
        model=model,
        examples=len(train_part),
        batch=batch,
        loss=loss,
        evaluate=lambda model: _measure(model, lists, dev),
        metric=METRIC,
        describe=describe,
        all_weights_used=True,
    )


def _as_served(one: List, lists: Lists) -> List:
    """Where no page of the train part was searched for, no head learns of searches, and one is
    ranked as a recommendation (`PersonalRanker.score`)."""
    if one.head or lists.behaviour.searched:
        return one
    nothing = np.full(len(one.items), np.nan, np.float32)
    return replace(one, head=1, query=-1, retrieval=nothing)


def _mean_gains(part: Part) -> NDArray[np.float32]:
    """Of a list, by head, float32 [heads]: a step of a history gains 1."""
    of_pages = [
        [float(visit.gains.sum()) for visit in part.visits if (visit.query >= 0) == searched]
        for searched in (True, False)
    ]
    of_pages[1] += [1.0] * len(part.histories)
    return np.array([np.mean(gains) if gains else 1.0 for gains in of_pages], np.float32)


def _scores(model: nn.Module, lists: Lists, dev: Sequence[List]) -> list[Any]:
    """Of each list by its own head, float32 [n]."""
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(dev), _AT_ONCE):
        some = dev[start : start + _AT_ONCE]
        batch = lists.batch(some)
        scores = model(batch.inputs.to(device)).cpu().numpy()
        found += [scores[at, : len(one.items), one.head] for at, one in enumerate(some)]
    return found


def _measure(model: nn.Module, lists: Lists, dev: Sequence[List]) -> dict[str, float]:
    """nDCG@10 of each head and their mean."""
    values: dict[int, list[float]] = {}
    for one, scores in zip(dev, _scores(model, lists, dev), strict=True):
        values.setdefault(one.head, []).append(ndcg(one.gains, scores))
    means = {head: float(np.mean(found)) for head, found in sorted(values.items())}
    named = {f"{METRIC} {HEADS[head]}": value for head, value in means.items()}
    return {METRIC: float(np.mean(list(means.values()))), **named}


def _nearness(lists: Lists, some: Sequence[List]) -> float:
    """Mean nDCG@10 of lists of users with events by what serves without a ranker; 0 of none."""
    shop = lists.behaviour.shop
    return _mean_ndcg(some, [affinity_of(shop, one.history, one.items) for one in some])


def _served(bundle: Bundle, lists: Lists, some: Sequence[List]) -> float:
    """Mean nDCG@10 of lists by the code that serves; 0 of none."""
    ranker = PersonalRanker(bundle)
    return _mean_ndcg(some, [served_scores(ranker, lists, one) for one in some])


def _mean_ndcg(some: Sequence[List], scores: Sequence[NDArray[np.float32]]) -> float:
    found = [ndcg(one.gains, each) for one, each in zip(some, scores, strict=True)]
    return float(np.mean(found)) if found else 0.0


def _scale(model: RankerModel, lists: Lists, dev: Sequence[List]) -> Scale:
    """Of the heads that were trained: recommendation always, search where pages were clicked."""
    trained = [place for place in range(len(HEADS)) if place or lists.behaviour.searched]
    some = [*dev, *lists.of_rows(range(min(200, len(lists.behaviour.train))), _fixed())]
    with torch.no_grad():
        found = list(zip(some, _scores(model.eval(), lists, some), strict=True))
    low, high = [], []
    for head in trained:
        mine = [(one.gains, scores) for one, scores in found if one.head == head]
        # A head that this part has no list of takes the scale of all.
        mine = mine or [(one.gains, scores) for one, scores in found]
        gains, scores = (np.concatenate(parts) for parts in zip(*mine, strict=True))
        below, above = ends(gains, scores)
        low.append(below)
        high.append(above)
    return Scale(tuple(HEADS[head] for head in trained), tuple(low), tuple(high))


def _fixed() -> np.random.Generator:
    return np.random.default_rng(0)

"""The ranker over candidates of several sources, as a system that guesses next items.

It is trained on the last item of the histories, with statistics and a sequence model that were made
without those items, and asked with ones that were made from all: what it sees of a user's next item
in training is what it will see when asked. Targets of a test are never trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.loop import Rows, Task, TrainingOptions, train
from trainer.next_items.buckets import Buckets, padded
from trainer.next_items.candidates import FEATURES, Candidates, Sources
from trainer.next_items.measure import Guessed, Scores
from trainer.personal.ranker import Inputs, RankerModel, RankerShape, listwise_loss, scales
from trainer.personal.sequences import Histories, Numbers
from trainer.personal.statistics import PAIR_FEATURES

__all__ = ["Lists", "Neural", "NeuralOptions", "chosen_lists", "ranker", "train_ranker"]

Floats = NDArray[np.float32]

_DEV_USERS: Final = 2_000
_PADDING: Final = -1
# Of `HEADS`: what is guessed here is what nobody searched for.
_HEAD: Final = 1


@dataclass(frozen=True)
class NeuralOptions:
    """How many candidates, and the ranker's training."""

    # That are ranked of all items.
    candidates: int = 200
    # Of them in training: the one that was chosen and others by chance.
    listed: int = 64
    # Newest events that are read.
    events: int = 15
    # Users that are trained on.
    users: int = 60_000
    width: int = 32
    dropout: float = 0.1
    # Users in a batch, about: places of histories.
    positions: int = 448
    epochs: int = 4
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Neural:
    """A trained ranker over its sources."""

    model: RankerModel
    sources: Sources
    options: NeuralOptions

    def scores(self, histories: Histories, places: Sequence[int]) -> Scores:
        """-inf for all that are no candidates."""
        found = self.sources.candidates(places, self.options.candidates)
        rows = [histories.rows[place] for place in places]
        scores = np.full((len(places), len(histories.items)), -np.inf, np.float32)
        with torch.no_grad():
            inputs = _inputs(self.sources, rows, found.items, found.features, self.options.events)
            ranked: Floats = self.model.eval()(inputs)[..., _HEAD].numpy()
        np.put_along_axis(scores, found.items, ranked, axis=1)
        return scores


def ranker(dimensions: int, options: NeuralOptions) -> RankerModel:
    """One that is not trained yet.

    Args:
        dimensions: of the content vectors.
    """
    torch.manual_seed(options.seed)
    return RankerModel(
        RankerShape(
            dimensions, len(FEATURES), len(PAIR_FEATURES) + 1,
            width=options.width, dropout=options.dropout,
        )
    )  # fmt: skip


def chosen_lists(
    before: Sources,
    histories: Histories,
    options: NeuralOptions,
    progress: Callable[[int], None] | None = None,
) -> "Lists":
    """What to train with: candidates, and which of them was chosen next.

    Args:
        before: made from the histories without their last items.
        histories: the whole ones.
        progress: called with the number of users done since the last call.
    """
    _, last = histories.without_last()
    users = np.random.default_rng(options.seed).permutation(len(last))[: options.users]
    found = before.candidates(users.tolist(), options.candidates, progress)
    # Who was not offered the item that they chose teaches nothing about choosing.
    place = _place(found.items, last[users])
    kept = np.flatnonzero(place >= 0)
    found = Candidates(found.items[kept], found.features[kept])
    return Lists(before, users[kept].astype(np.int64), found, place[kept], options)


def train_ranker(model: RankerModel, lists: "Lists", out: Path, content: str) -> None:
    """Trains, or goes on; the weights are then the best ones.

    Args:
        content: the digest of what the vectors of content were made from.
    """
    lists.standardise(model)
    train(lists.task(model, content), lists.training(out))


@dataclass(frozen=True)
class Lists:
    """Users with candidates of which one was chosen. The last of them are the dev part."""

    sources: Sources
    users: Numbers
    found: Candidates
    chosen: Numbers
    options: NeuralOptions

    @property
    def dev(self) -> int:
        """How many at the end are not trained on."""
        return min(_DEV_USERS, len(self.users) // 10)

    def standardise(self, model: RankerModel) -> None:
        """Sets the model's means and scales from some of the lists."""
        some = slice(0, 500)
        features = self.found.features[some].reshape(-1, len(FEATURES))
        model.feature_mean.copy_(torch.from_numpy(features.mean(axis=0)))
        model.feature_scale.copy_(torch.from_numpy(scales(features)))
        inputs = self._batch(np.arange(min(200, len(self.users))), slice(None))
        assert inputs.pairs is not None
        pairs = inputs.pairs[inputs.present].flatten(0, 1).numpy()
        model.pair_scale.copy_(torch.from_numpy(scales(pairs)))

    def training(self, out: Path) -> TrainingOptions:
        options = self.options
        return TrainingOptions(
            out, epochs=options.epochs, batch_size=1, learning_rate=options.learning_rate,
            weight_decay=1e-3, warmup=0.1, patience=0, seed=options.seed, track="none", keep=1,
            every_steps=max(1, len(self._buckets().groups) // 2),
        )  # fmt: skip

    def task(self, model: RankerModel, content: str) -> Task:
        buckets = self._buckets()

        def batch(numbers: Rows, random: np.random.Generator) -> tuple[Inputs, Tensor]:
            users = np.concatenate([buckets.groups[number] for number in numbers])
            return self._listed(users, random)

        def loss(model: nn.Module, batch: tuple[Inputs, Tensor]) -> Tensor:
            inputs, positive = batch
            return listwise_loss(model(inputs)[..., _HEAD], positive)

        return Task(
            identity={
                "histories": self.sources.histories.hash,
                "content": content,
                **asdict(self.options),
            },
            model=model,
            examples=len(buckets.groups),
            batch=batch,
            loss=loss,
            evaluate=lambda _: self._measure(model),
            metric="nDCG@10",
        )

    def _buckets(self) -> Buckets:
        rows = self.sources.histories.rows
        lengths = [
            min(len(rows[user]), self.options.events)
            for user in self.users[: len(self.users) - self.dev]
        ]
        return Buckets.of(lengths, self.options.positions, self.options.seed)

    def _listed(self, users: Numbers, random: np.random.Generator) -> tuple[Inputs, Tensor]:
        """The chosen candidate in front of others by chance."""
        offered = self.found.items.shape[1]
        others = random.random((len(users), offered))
        others[np.arange(len(users)), self.chosen[users]] = -1.0  # first
        columns = np.argsort(others, axis=1)[:, : self.options.listed]
        return self._batch(users, columns), torch.zeros(len(users), dtype=torch.int64)

    def _batch(self, users: Numbers, columns: Numbers | slice) -> Inputs:
        items, features = self.found.items[users], self.found.features[users]
        if not isinstance(columns, slice):
            items = np.take_along_axis(items, columns, axis=1)
            features = np.take_along_axis(features, columns[:, :, None], axis=1)
        rows = [self.sources.histories.rows[place] for place in self.users[users]]
        return _inputs(self.sources, rows, items, features, self.options.events)

    def _measure(self, model: RankerModel) -> dict[str, float]:
        """On users of the dev part, all of their candidates; those who were not offered what they
        chose are not among them, so these are higher than over all users."""
        ranks = []
        count = len(self.users)
        for start in range(count - self.dev, count, 100):
            users = np.arange(start, min(start + 100, count))
            scores = model(self._batch(users, slice(None)))[..., _HEAD].numpy()
            own = scores[np.arange(len(users)), self.chosen[users]]
            ranks.append((scores > own[:, None]).sum(axis=1))
        return Guessed.of(np.concatenate(ranks)).summary()


def _place(items: Numbers, chosen: Numbers) -> Numbers:
    """In which column each user's chosen item is, int64 [users]; -1: in none."""
    same = items == chosen[:, None]
    return np.where(same.any(axis=1), same.argmax(axis=1), -1).astype(np.int64)


def _inputs(
    sources: Sources, rows: Sequence[Numbers], items: Numbers, features: Floats, length: int
) -> Inputs:
    """What the ranker reads of users with candidates.

    Args:
        rows: their histories.
        items: int64 [users, candidates].
        features: float32 [users, candidates, len(FEATURES)].
        length: how many of the newest events are read.
    """
    events = padded(rows, length, _PADDING)
    present = events >= 0
    known = np.maximum(events, 0)
    pairs = sources.statistics.pairs(known, items)
    table = sources.sequence.vectors
    alike = np.einsum("uld,und->uln", table[known], table[items])
    # Histories have an order and no times: an event's age is how many came after it.
    ages = np.broadcast_to(np.arange(events.shape[1] - 1, -1, -1, dtype=np.float32), events.shape)
    return Inputs(
        events=torch.from_numpy(sources.content[known] * present[..., None]),
        ages=torch.from_numpy(np.ascontiguousarray(ages)),
        actions=torch.zeros(events.shape, dtype=torch.int64),
        present=torch.from_numpy(present),
        candidates=torch.from_numpy(sources.content[items]),
        query=torch.zeros(len(rows), sources.content.shape[1]),
        features=torch.from_numpy(features),
        event_ids=torch.zeros(events.shape, dtype=torch.int64),
        candidate_ids=torch.zeros(items.shape, dtype=torch.int64),
        pairs=torch.from_numpy(np.concatenate([pairs, alike[..., None]], axis=-1)),
    )

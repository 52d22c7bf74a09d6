"""Batches of lists: what was shown or might have been, with what was chosen of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from neuralrank.personal.inputs import FEATURES, HEADS, PAIRS, features, pairs
from trainer.personal.behaviour import Behaviour, History, Part
from trainer.personal.ranker import Inputs, RankerModel, scales
from trainer.personal.sequences import Numbers

__all__ = ["Batch", "List", "Lists", "chosen_loss"]

Floats = NDArray[np.float32]

_SEARCH, _RECOMMENDATION = range(len(HEADS))
# Of a user's own newest items, so many may be in a list as what was not chosen: that an item is
# near to itself is then no reason by itself.
_OWN: Final = 3
# Share of the ids, and of the lists' retrieval scores, that are hidden in training.
_HIDDEN_IDS: Final = 0.2
_HIDDEN_RETRIEVAL: Final = 0.2


@dataclass(frozen=True)
class List:
    """One user's candidates: int64 [n], float32 [n] above 0 where chosen, float32 [n] or NaN."""

    history: History
    head: int
    # Place of the query; -1: none.
    query: int
    items: Numbers
    gains: Floats
    retrieval: Floats


@dataclass(frozen=True)
class Batch:
    """`gains` float32 [b, n], `there` bool [b, n], `head` int64 [b]."""

    inputs: Inputs
    gains: Tensor
    there: Tensor
    head: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.inputs.to(device), self.gains.to(device), self.there.to(device),
            self.head.to(device),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Lists:
    """Makes lists and batches of what users did."""

    behaviour: Behaviour
    # The most events that are read, and candidates of a recommendation.
    events: int
    listed: int
    # Of each item the number of its id embedding, int64 [items]; 0: none.
    known: Numbers
    # How often each item is drawn as one that was not chosen, rising to 1, float64 [items].
    drawn: NDArray[np.float64]

    @classmethod
    def of(cls, behaviour: Behaviour, events: int, listed: int, known: Numbers) -> "Lists":
        # Half by chance, half by how popular they are: only rare ones would be too easy.
        popular = behaviour.counts() ** 0.75
        share = 0.5 / len(popular) + 0.5 * popular / max(float(popular.sum()), 1.0)
        return cls(behaviour, events, listed, known, np.cumsum(share) / share.sum())

    def of_rows(self, rows: Sequence[int], random: np.random.Generator) -> list[List]:
        """Examples of the train part; of a history any step that is not given is to be guessed."""
        part = self.behaviour.train
        found = []
        for row in rows:
            if row < len(part.visits):
                found.append(self.visit(part, row))
            else:
                history = part.histories[row - len(part.visits)]
                place = int(random.integers(history.first, len(history)))
                found.append(self._guess(history, place, random))
        return found

    def visit(self, part: Part, row: int) -> List:
        visit = part.visits[row]
        head = _SEARCH if visit.query >= 0 else _RECOMMENDATION
        return List(visit.history, head, visit.query, visit.items, visit.gains, visit.retrieval)

    def guess_of(self, history: History, place: int, others: Numbers) -> List:
        """The step at a place among others that were not chosen."""
        target = history.items[place]
        items = np.concatenate([[target], others[others != target]])
        gains = np.zeros(len(items), np.float32)
        gains[0] = 1.0
        unknown = np.full(len(items), np.nan, np.float32)
        return List(history.before(place), _RECOMMENDATION, -1, items, gains, unknown)

    def _guess(self, history: History, place: int, random: np.random.Generator) -> List:
        own = history.items[max(place - _OWN, 0) : place]
        drawn = np.searchsorted(self.drawn, random.random(self.listed - 1 - len(own)))
        return self.guess_of(history, place, np.unique(np.concatenate([own, drawn])))

    def held(self, count: int, among: int) -> list[List]:
        """Lists of the dev part, some by chance where there are many; always the same.

        Args:
            count: of pages, and of users, at most.
            among: items that a user's last step is looked for among, at most.
        """
        random = np.random.default_rng(0)
        part = self.behaviour.dev
        pages = random.permutation(len(part.visits))[:count].tolist()
        users = random.permutation(len(part.histories))[:count].tolist()
        others = np.sort(random.permutation(len(self.known))[:among]).astype(np.int64)
        histories = [part.histories[user] for user in users]
        return [
            *(self.visit(part, page) for page in pages),
            *(self.guess_of(one, len(one) - 1, others) for one in histories),
        ]

    def batch(self, lists: Sequence[List], random: np.random.Generator | None = None) -> Batch:
        """
        Args:
            random: hides some ids and retrieval scores; None: none.
        """
        shop = self.behaviour.shop
        length = min(max(max(len(one.history) for one in lists), 1), self.events)
        count = max(len(one.items) for one in lists)
        size = (len(lists), length)
        steps, actions = np.zeros(size, np.int64), np.zeros(size, np.int64)
        present = np.zeros(size, bool)
        items = np.zeros((len(lists), count), np.int64)
        gains = np.zeros((len(lists), count), np.float32)
        retrieval = np.full((len(lists), count), np.nan, np.float32)
        there = np.zeros((len(lists), count), bool)
        query = np.zeros((len(lists), shop.vectors.shape[1]), np.float32)
        for at, one in enumerate(lists):
            read = min(len(one.history), length)
            if read:
                steps[at, -read:] = one.history.items[-read:]
                actions[at, -read:] = one.history.actions[-read:]
                present[at, -read:] = True
            n = len(one.items)
            items[at, :n], gains[at, :n], there[at, :n] = one.items, one.gains, True
            if random is None or random.random() >= _HIDDEN_RETRIEVAL:
                retrieval[at, :n] = one.retrieval
            if one.query >= 0:
                query[at] = self.behaviour.queries[one.query]
        columns = shop.columns
        inputs = Inputs(
            events=torch.from_numpy(shop.vectors[steps] * present[..., None]),
            ages=torch.arange(length - 1, -1, -1).float().expand(size).contiguous(),
            actions=torch.from_numpy(actions),
            present=torch.from_numpy(present),
            candidates=torch.from_numpy(shop.vectors[items]),
            query=torch.from_numpy(query),
            features=torch.from_numpy(features(retrieval, columns.price[items])),
            event_ids=torch.from_numpy(self._ids(steps, random)),
            candidate_ids=torch.from_numpy(self._ids(items, random)),
            pairs=torch.from_numpy(pairs(columns[steps], columns[items])),
        )
        head = torch.tensor([one.head for one in lists])
        return Batch(inputs, torch.from_numpy(gains), torch.from_numpy(there), head)

    def standardise(self, model: RankerModel, random: np.random.Generator) -> None:
        """Sets what the model takes off its inputs, from the catalogue and some lists."""
        rows = random.permutation(len(self.behaviour.train))[:500].tolist()
        model.centre.copy_(torch.from_numpy(self.behaviour.shop.vectors.mean(axis=0)))
        batch = self.batch(self.of_rows(rows, random))
        given = batch.inputs.features[batch.there].numpy()  # [lists × n, f]
        assert batch.inputs.pairs is not None
        assert given.shape[1:] == (len(FEATURES),)
        assert batch.inputs.pairs.shape[-1] == len(PAIRS)
        for column in range(given.shape[1]):
            values = given[~np.isnan(given[:, column]), column]
            if len(values):
                model.feature_mean[column] = float(values.mean())
                model.feature_scale[column] = float(scales(values))

    def _ids(self, items: Numbers, random: np.random.Generator | None) -> Numbers:
        ids = self.known[items]
        if random is not None:
            ids[random.random(ids.shape) < _HIDDEN_IDS] = 0
        return ids


def chosen_loss(scores: Tensor, batch: Batch, mean_gains: Tensor) -> Tensor:
    """Softmax cross-entropy of what was chosen, each choice counting by its gain.

    With gains of 1 ÷ propensity this is the inverse-propensity-weighted softmax loss: Joachims,
    Swaminathan and Schnabel, "Unbiased Learning-to-Rank with Biased Feedback" (2017); Agarwal et
    al., "A General Framework for Counterfactual Learning-to-Rank" (2019).

    Args:
        scores: float32 [b, n, heads].
        mean_gains: float32 [heads], of a list: so that no head counts more than another.
    """
    lists = torch.arange(len(scores), device=scores.device)
    own = scores[lists, :, batch.head].masked_fill(~batch.there, -1e4)
    lost = -(functional.log_softmax(own, dim=1) * batch.gains).sum(1)  # [b]
    return (lost / mean_gains[batch.head]).mean()

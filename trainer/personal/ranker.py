"""The user × item ranker: ŷ = MLP(u, i), with u by attention of the item over the recent events.

After Zhou et al., "Deep Interest Network for Click-Through Rate Prediction" (2018): which of a
user's events matter depends on the item that is asked about, so the user has no one vector but one
for each candidate. Here the attention sees what the two items of a pair have in common (content,
learned towers, counts where there are any), how old the event is and what kind of action it was.

Nothing needs an id: a new item has its content, a new user a first event. Where an item is known,
an id embedding adds what users did with it; in training some are hidden, so that both cases are
learned (Volkovs, Yu and Poutanen, "DropoutNet", 2017).

One scorer, several heads: what is clicked after a search and what is clicked when it is
recommended share everything but the last layer.

In comments b is users, l events, n candidates, d the encoder's dimensions, w the width.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from neuralrank.personal.inputs import ACTIONS, HEADS

__all__ = ["HIDDEN", "Inputs", "Matched", "RankerModel", "RankerShape", "listwise_loss", "scales"]

_ACTION_WIDTH: Final = 4
HIDDEN: Final = -1e4
# A standard deviation below this is none.
_SAME: Final = 1e-3


@dataclass(frozen=True)
class RankerShape:
    """What a ranker reads, and how wide it is."""

    # Of the content vectors.
    dimensions: int
    # Columns of a candidate, and of a pair of an event and a candidate.
    features: int
    pair_features: int = 0
    # Items with an id embedding; 0: none has.
    items: int = 0
    width: int = 32
    dropout: float = 0.1


@dataclass(frozen=True)
class Inputs:
    """One batch. Items are numbered from 1 here; 0 is an item without an id embedding."""

    # float32 [b, l, d] of length 1, newest last; zeros where there is no event or no vector.
    events: Tensor
    # float32 [b, l]: how many events came after; int64 [b, l]: a place in ACTIONS; bool [b, l]:
    # whether there is an event.
    ages: Tensor
    actions: Tensor
    present: Tensor
    # float32 [b, n, d].
    candidates: Tensor
    # float32 [b, d]; zeros where there is no query.
    query: Tensor
    # float32 [b, n, f]; NaN where a candidate lacks it.
    features: Tensor
    # int64 [b, l] and [b, n].
    event_ids: Tensor
    candidate_ids: Tensor
    # float32 [b, l, n, p].
    pairs: Tensor | None = None

    def to(self, device: torch.device) -> "Inputs":
        return Inputs(
            *(value if value is None else value.to(device) for value in vars(self).values())
        )


@dataclass(frozen=True)
class Matched:
    """Users as each candidate sees them, and the candidates: float32 [b, n, w] both."""

    user: Tensor
    item: Tensor

    @property
    def cosine(self) -> Tensor:
        """float32 [b, n]."""
        # Who has no events has a vector of zeros; the floor keeps its gradient small.
        user, item = (functional.normalize(one, dim=-1, eps=1e-6) for one in (self.user, self.item))
        return (user * item).sum(-1)


class RankerModel(nn.Module):
    """Scores of candidates for users, one for each head."""

    def __init__(self, shape: RankerShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        # What is common to all content vectors says nothing of any; set from the catalogue.
        self.register_buffer("centre", torch.zeros(shape.dimensions))
        self.register_buffer("feature_mean", torch.zeros(shape.features))
        self.register_buffer("feature_scale", torch.ones(shape.features))
        self.register_buffer("pair_scale", torch.ones(max(shape.pair_features, 1)))
        self.tower = nn.Linear(shape.dimensions, width)
        self.identity = nn.Embedding(shape.items + 1, width, padding_idx=0)
        nn.init.normal_(self.identity.weight, std=0.01)
        with torch.no_grad():
            self.identity.weight[0] = 0.0
        # How much an item is liked whoever asks; of one without an id nothing is known.
        self.prior = nn.Embedding(shape.items + 1, len(HEADS), padding_idx=0)
        nn.init.zeros_(self.prior.weight)
        self.action = nn.Embedding(len(ACTIONS), _ACTION_WIDTH)
        pair = 2 + 2 + _ACTION_WIDTH + shape.pair_features
        self.pair = nn.Sequential(
            nn.Linear(pair, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.attention = nn.Linear(width, 2)
        self.value = nn.Linear(width, width)
        score = 3 * width + width + 3 + 2 * shape.features
        self.score = nn.Sequential(
            nn.Linear(score, width),
            nn.GELU(),
            nn.Dropout(shape.dropout),
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, len(HEADS)),
        )
        # Of the cosine of user and item in the score, as a logarithm: it counts, and upwards. So
        # what is chosen comes nearer to who chose it, and who chose it to that.
        self.closeness = nn.Parameter(torch.zeros(len(HEADS)))

    def forward(self, inputs: Inputs) -> Tensor:
        """float32 [b, n, heads]; higher is better. Of each candidate for itself: neither others nor
        their number change it."""
        return self.read(inputs)[0]

    def read(self, inputs: Inputs) -> tuple[Tensor, Matched]:
        """The scores, and the vectors that they come from."""
        events, candidates = self._content(inputs.events), self._content(inputs.candidates)
        query = self._content(inputs.query[:, None])  # [b, 1, d]
        asked = (inputs.query != 0).any(-1)[:, None, None].to(query.dtype)  # [b, 1, 1]
        event = self.tower(events) + self.identity(inputs.event_ids)  # [b, l, w]
        item = self.tower(candidates) + self.identity(inputs.candidate_ids)  # [b, n, w]
        features = self._features(inputs.features)  # [b, n, 2f]
        count = candidates.shape[1]

        def over_candidates(value: Tensor) -> Tensor:
            return value[:, :, None, :].expand(-1, -1, count, -1)

        ages = torch.log1p(inputs.ages)[..., None]  # [b, l, 1]
        parts = [
            (events @ candidates.transpose(1, 2))[..., None],  # [b, l, n, 1]
            (functional.normalize(event, dim=-1) @ functional.normalize(item, dim=-1).mT)[
                ..., None
            ],
            over_candidates(torch.cat([ages, 1.0 / (1.0 + inputs.ages[..., None])], -1)),
            over_candidates(self.action(inputs.actions)),
        ]
        if inputs.pairs is not None:
            parts.append(inputs.pairs / self.pair_scale)
        pair = self.pair(torch.cat(parts, -1))  # [b, l, n, w]
        there = inputs.present[:, :, None, None]
        weights = self.attention(pair).masked_fill(~there, HIDDEN).softmax(1)  # [b, l, n, 2]
        # Without any event all weights are equal, and must be of nothing.
        weights = weights * there.to(weights.dtype)
        pooled = (weights[..., :1] * self.value(pair)).sum(1)  # [b, n, w]
        # At least 0, which it would be beside anybody who has more events: places that are empty.
        most = pair.masked_fill(~there, 0.0).amax(1).clamp(min=0.0)  # [b, n, w]
        # The user for this item: the events that matter for it, as the tower sees them.
        user = weights[..., 1].transpose(1, 2) @ event  # [b, n, w]
        known = inputs.present.any(1)[:, None, None].to(item.dtype).expand(-1, count, 1)
        matched = candidates @ query.transpose(1, 2)  # [b, n, 1]
        both = Matched(user, item)
        score = self.score(
            torch.cat(
                [pooled, most, user * item, user, matched, asked.expand(-1, count, 1), known,
                 features],
                -1,
            )
        )  # fmt: skip
        near = both.cosine[..., None] * self.closeness.exp()  # [b, n, heads]
        return score + near + self.prior(inputs.candidate_ids), both

    def _content(self, vectors: Tensor) -> Tensor:
        """Vectors without what all have in common, of length 1; zeros stay zeros."""
        given = (vectors != 0).any(-1, keepdim=True).to(vectors.dtype)
        return functional.normalize(vectors - self.centre, dim=-1) * given

    def _features(self, features: Tensor) -> Tensor:
        """Standardised, 0 where absent, and beside each whether it is there."""
        absent = torch.isnan(features)
        scaled = (features - self.feature_mean) / self.feature_scale
        return torch.cat(
            [torch.where(absent, torch.zeros_like(scaled), scaled), (~absent).to(scaled.dtype)], -1
        )


def scales(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """What columns are divided by, float32 [f]: their standard deviation; 1 of one that is always
    the same, such as one price for all, beside which the first other price would be enormous.

    Args:
        columns: float32 [rows, f].
    """
    spread = columns.std(axis=0)
    return np.where(spread > _SAME, spread, 1.0).astype(np.float32)


def listwise_loss(scores: Tensor, positive: Tensor) -> Tensor:
    """Softmax cross-entropy over each user's list: ListNet with one relevant item (Cao et al.,
    "Learning to Rank: From Pairwise Approach to Listwise Approach", 2007).

    Args:
        scores: float32 [b, n].
        positive: int64 [b], the place of the one that was chosen.
    """
    return functional.cross_entropy(scores, positive)

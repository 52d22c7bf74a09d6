"""Which items a user may like at all: the best of several sources, with what each says of them.

Neighbours (who has both), transitions (what follows what), content (near titles) and a sequence
model find different things; a ranker then orders what any of them found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.next_items.sasrec import Sasrec
from trainer.personal.sequences import Histories, Numbers
from trainer.personal.statistics import ItemStatistics, Sparse, profiles

__all__ = ["FEATURES", "Candidates", "Sources", "centred"]

Floats = NDArray[np.float32]

FEATURES: Final = (
    "log neighbours",
    "log transitions",
    "cosine of content and history",
    "cosine of content and newest",
    "log probability of the sequence model",
    "log popularity",
    "log length of the history",
    "time of the candidate",
    "time from the history to the candidate",
)
# What a step of time counts beside them: what others had later is likelier.
_LATER: Final = 1.6
# How fast older events fade: neighbours and content, transitions.
_FADE: Final = 0.8
_FADE_FAST: Final = 0.5
# What a logarithm is taken of is never less.
_LEAST: Final = 1e-3
# What each source counts when candidates are chosen; the ranker then decides itself.
_WEIGHTS: Final = (1.0, 0.5, 3.0, 0.0, 1.0)
_AT_ONCE: Final = 256


@dataclass(frozen=True)
class Candidates:
    """Of users, the items that may be shown, likely ones first."""

    # int64 [users, candidates].
    items: Numbers
    # float32 [users, candidates, len(FEATURES)].
    features: Floats


@dataclass(frozen=True)
class Sources:
    """What candidates are taken from, made from one set of histories."""

    histories: Histories
    statistics: ItemStatistics
    # float32 [items, d], of length 1.
    content: Floats
    sequence: Sasrec
    exclude_seen: bool

    def candidates(
        self,
        places: Sequence[int],
        count: int,
        progress: Callable[[int], None] | None = None,
    ) -> Candidates:
        """
        Args:
            places: of the users.
            count: how many items each gets; fewer where the catalogue has fewer.
            progress: called with the number of users done since the last call.
        """
        found = []
        for start in range(0, len(places), _AT_ONCE):
            chunk = places[start : start + _AT_ONCE]
            found.append(self._of(chunk, count))
            if progress:
                progress(len(chunk))
        return Candidates(
            np.concatenate([one.items for one in found]),
            np.concatenate([one.features for one in found]),
        )

    def _of(self, places: Sequence[int], count: int) -> Candidates:
        rows = [self.histories.rows[place] for place in places]
        faded = profiles(rows, len(self.histories.items), _FADE)
        dense = self._scores(places, rows, faded)  # of each source, float32 [users, items]
        total = sum(weight * score for weight, score in zip(_WEIGHTS, dense, strict=True) if weight)
        times = self.statistics.times
        total = total + _LATER * times
        if self.exclude_seen:
            for at, row in enumerate(rows):
                total[at, row] = -np.inf
        count = min(count, total.shape[1])
        best = np.argpartition(-total, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(total, best, axis=1), axis=1, kind="stable")
        items = np.take_along_axis(best, order, axis=1)
        lengths = np.log([len(row) for row in rows])
        columns = [np.take_along_axis(score, items, axis=1) for score in dense]
        columns.append(np.log1p(self.statistics.popularity)[items])
        columns.append(np.repeat(lengths[:, None], count, axis=1))
        columns.append(times[items])
        # When users are, by their items, the newest first.
        now = (faded @ times) / np.asarray(faded.sum(axis=1)).ravel()
        columns.append(times[items] - now[:, None])
        return Candidates(items.astype(np.int64), np.stack(columns, axis=-1).astype(np.float32))

    def _scores(
        self, places: Sequence[int], rows: Sequence[Numbers], faded: Sparse
    ) -> list[Floats]:
        items = len(self.histories.items)
        near = (faded @ self.statistics.shrunk).toarray()
        after = (profiles(rows, items, _FADE_FAST) @ self.statistics.transitions).toarray()
        newest = self.content[[row[-1] for row in rows]]
        logits = self.sequence.scores(self.histories, places)
        highest = logits.max(axis=1, keepdims=True)
        logits -= highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
        return [
            np.log(near + _LEAST),
            np.log(after + _LEAST),
            _unit(faded @ self.content) @ self.content.T,
            newest @ self.content.T,
            logits,
        ]


def centred(content: Floats) -> Floats:
    """Vectors without what all have in common, of length 1, float32 [items, d]."""
    return _unit(content - content.mean(axis=0))


def _unit(vectors: Floats) -> Floats:
    """float32 [n, d] with rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)

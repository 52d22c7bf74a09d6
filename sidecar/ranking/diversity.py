"""Keeps pages from showing the same thing again and again: maximal marginal relevance.

Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries" (1998).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.domain import Candidates, Floats
from sidecar.models.serving import EncoderModel

__all__ = ["Diverse", "diversified"]

# So many of the best are compared with each other; what is behind them comes on no first page.
_POOL: Final = 100


@dataclass(frozen=True, slots=True)
class Diverse:
    """`ranked`: positions, best first. `scores` float32 [n], never rising in that order. `novelty`
    float32 [n] in [0, 1]: how unlike an item is to the one above it that is most like it, 1 for the
    first; NaN: was not ranked."""

    ranked: npt.NDArray[np.intp]
    scores: Floats
    novelty: Floats


def diversified(
    ranked: npt.NDArray[np.intp],
    scores: Floats,
    candidates: Candidates,
    encoder: EncoderModel | None,
    share: float,
) -> Diverse | None:
    """The same candidates, each next one being the best by (1 − share) × score + share × novelty.

    Whatever is chosen, the novelty of the others can only fall: so the scores fall from place to
    place without being made to, and a page goes on where the one before it ended. Of what comes
    behind the first hundred, each counts as novel as the least of these, so that it stays there.

    An item without vector is at each place as novel as those with one are on average that are not
    chosen yet: that it has none says nothing.

    Args:
        ranked: positions, best first.
        scores: float32 [n] in [0, 1].
        share: of novelty in the score, above 0, at most 1.

    Returns:
        None where fewer than two of the candidates can be compared.
    """
    pool, behind = ranked[:_POOL], ranked[_POOL:]
    known = candidates.has_vector[pool]
    if encoder is None or np.count_nonzero(known) < 2:
        return None
    vectors = candidates.vectors[pool]
    unlike = np.float32(1.0) - encoder.calibrate_item(vectors @ vectors.T)
    base = np.float32(1 - share) * scores
    weight = np.float32(share)
    novelty = np.full(len(scores), np.nan, np.float32)
    final = base.copy()
    least = np.ones(len(pool), np.float32)
    total = base[pool] + weight
    chosen = np.empty(len(pool), np.intp)
    left = known.copy()
    for place in range(len(pool)):
        best = int(total.argmax())
        chosen[place] = best
        novelty[pool[best]], final[pool[best]] = least[best], total[best]
        left[best] = False
        if known[best]:
            np.minimum(least, unlike[best], out=least, where=known)
        if left.any():
            usual = least[left].mean(dtype=np.float64)
            np.minimum(least, np.float32(usual), out=least, where=~known)
        np.add(base[pool], weight * least, out=total)
        total[chosen[: place + 1]] = -1.0
    novelty[behind] = least_seen = np.nanmin(novelty)
    final[behind] += weight * least_seen
    return Diverse(np.concatenate([pool[chosen], behind]), final, novelty)

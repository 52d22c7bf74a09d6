"""Has a cross-encoder read as many of the best candidates as the deadline affords."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from neuralrank.errors import DeadlineExceeded, Overloaded
from neuralrank.text.tokens import Tokens
from sidecar.deadline import Deadline
from sidecar.domain import Floats
from sidecar.inference.cost import HEADROOM, Cost, units
from sidecar.inference.inference import Inference, Spent
from sidecar.models.serving import CrossEncoderModel

__all__ = ["Reading", "read"]

# Tokens are told from characters to within this factor, before a text is tokenised.
_ROUGH: Final = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    """`logits` float32 [texts], of which texts there is one, bool [texts], and how many could not
    be read by the model whatever the time, with the last one's reason. `refused` says why no more
    were let in, "" where they were."""

    logits: Floats
    read: npt.NDArray[np.bool_]
    failed: int = 0
    reason: str = ""
    refused: str = ""


async def read(
    inference: Inference,
    model: CrossEncoderModel,
    cost: Cost,
    query: str,
    texts: Sequence[str],
    deadline: Deadline,
    spent: Spent,
) -> Reading:
    """Reads the texts in their order, until all are read or time is short.

    What was read lately is known. Of the rest so many are begun as the measured cost allows, with
    what others have waiting, and as find room beside these; if there is time left then, more.

    Raises:
        Overloaded: too much waits for a model already, and not one text was read.
    """
    logits = inference.known_scores(model, query, texts)
    waiting = np.flatnonzero(np.isnan(logits)).tolist()
    about = {place: units(query, [texts[place]]) for place in waiting}
    ready: dict[int, Tokens] = {}
    failed, reason, refused = 0, "", ""
    while waiting:
        rough = [about[place] for place in waiting]
        part = waiting[: inference.fitting(rough)]
        least = [tokens / _ROUGH for tokens in rough[: len(part)]]
        part = part[: _affordable(inference, cost, least, deadline)]
        if not part:
            break
        if new := [place for place in part if place not in ready]:
            chosen = [texts[place] for place in new]
            try:
                pairs = await inference.pairs(model, query, chosen, deadline, spent)
            except DeadlineExceeded:
                break
            ready.update(zip(new, pairs, strict=True))
        lengths = [len(ready[place]) for place in part]
        part = part[
            : min(inference.fitting(lengths), _affordable(inference, cost, lengths, deadline))
        ]
        if not part:
            break
        try:
            scores, errors = await inference.score(
                model,
                cost,
                query,
                [texts[place] for place in part],
                [ready.pop(place) for place in part],
                deadline,
                spent,
            )
        except Overloaded as error:
            if np.isnan(logits).all():
                raise
            refused = str(error)
            break
        logits[part] = scores
        for failure in errors.values():
            failed, reason = failed + 1, str(failure)
        if np.isnan(scores).sum() > len(errors):
            break  # time ran out
        waiting = waiting[len(part) :]
    return Reading(logits, ~np.isnan(logits), failed, reason, refused)


def _affordable(
    inference: Inference, cost: Cost, tokens: Sequence[float], deadline: Deadline
) -> int:
    """How many of the first entries can be done in time."""
    totals, longest = np.cumsum(tokens), np.maximum.accumulate(tokens)

    def affords(count: int) -> bool:
        seconds = inference.seconds(cost, float(totals[count - 1]), float(longest[count - 1]))
        return deadline.affords(HEADROOM * seconds)

    low, high = 0, len(totals)
    while low < high:
        middle = (low + high + 1) // 2
        if affords(middle):
            low = middle
        else:
            high = middle - 1
    return low

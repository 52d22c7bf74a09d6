"""Has a cross-encoder read as many of the best candidates as the deadline affords."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from neuralrank.errors import DeadlineExceeded
from sidecar.cost import Cost, units
from sidecar.deadline import Deadline
from sidecar.domain import Floats
from sidecar.inference import Inference
from sidecar.serving import CrossEncoderModel

__all__ = ["Reading", "read"]

# A run takes as long as measured, or this much longer, without missing the deadline.
_HEADROOM: Final = 1.25


@dataclass(frozen=True, slots=True)
class Reading:
    """`logits` float32 [texts], and of which texts there is one, bool [texts]."""

    logits: Floats
    read: npt.NDArray[np.bool_]


async def read(
    inference: Inference,
    model: CrossEncoderModel,
    cost: Cost,
    query: str,
    texts: Sequence[str],
    deadline: Deadline,
    chunk: int,
) -> Reading:
    """Reads the texts in their order, a chunk at a time, until all are read or time is short.

    What was read lately is known. Before each chunk its cost is estimated; one that would miss the
    deadline is made smaller, and is not begun if a single pair would be too much.
    """
    logits = inference.known_scores(model, query, texts)
    known = ~np.isnan(logits)
    waiting = np.flatnonzero(~known).tolist()
    begun = False
    while waiting:
        part = waiting[:chunk]
        while part and not deadline.affords(
            _HEADROOM * cost.estimate(units(query, [texts[place] for place in part]))
        ):
            part = part[: len(part) // 2]
        if not part:
            if not begun:
                cost.doubt()
            break
        begun = True
        try:
            logits[part] = await inference.score(
                model, cost, query, [texts[place] for place in part], deadline
            )
        except DeadlineExceeded:
            break
        known[part] = True
        waiting = waiting[len(part) :]
    return Reading(logits, known)

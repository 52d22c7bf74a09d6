"""Has a cross-encoder read as many of the best candidates as the deadline affords."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

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
    """`logits` float32, one for each text that was read: the first ones."""

    logits: Floats
    complete: bool


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

    Before each chunk its cost is estimated; one that would miss the deadline is made smaller, and
    is not begun if a single pair would be too much.
    """
    logits: list[Floats] = []
    done = 0
    while done < len(texts):
        part = texts[done : done + chunk]
        while part and not deadline.affords(_HEADROOM * cost.estimate(units(query, part))):
            part = part[: len(part) // 2]
        if not part:
            if not done:
                cost.doubt()
            break
        try:
            logits.append(await inference.score(model, cost, query, part, deadline))
        except DeadlineExceeded:
            break
        done += len(part)
    read_logits = np.concatenate(logits) if logits else np.zeros(0, np.float32)
    return Reading(np.asarray(read_logits, np.float32), done == len(texts))

"""What the personal ranker in service says of candidates, where one is and there is time."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuralrank.errors import DeadlineExceeded
from neuralrank.personal.inputs import Columns
from sidecar.deadline import Deadline
from sidecar.domain import Candidates, DegradedReason, Floats
from sidecar.inference.cost import HEADROOM, Cost
from sidecar.inference.inference import Inference
from sidecar.models.serving import EncoderModel, PersonalModel, Serving
from sidecar.ranking.taste import Taste
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.trace import Trace

__all__ = ["Offer", "fitting"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a personal ranker reads of a request."""

    candidates: Candidates
    # Positions of those that may be shown.
    kept: npt.NDArray[np.intp]
    # float32 [d]; None: nothing was searched for.
    query: Floats | None
    # float32 [n], as `sidecar.ranking.blend.retrieval` gives it.
    retrieval: Floats


async def fitting(
    offer: Offer,
    taste: Taste | None,
    encoder: EncoderModel | None,
    serving: Serving,
    inference: Inference,
    metrics: Metrics,
    deadline: Deadline,
    trace: Trace,
) -> Floats | None:
    """How well each candidate fits the user, float32 [n] in [0, 1]; NaN: it has no vector.

    None where no personal ranker is in service, where the user has done nothing that it could read,
    or where it can't be asked: the answer then says so, and affinity comes from the taste alone.
    """
    rows = offer.kept[offer.candidates.has_vector[offer.kept]]
    if taste is None or encoder is None or not taste.recent.events or not len(rows):
        return None
    found = serving.personal_ranker(encoder.ref)
    if found is None:
        if others := serving.personal_rankers:
            trace.degrade(
                DegradedReason.MODEL_UNAVAILABLE,
                f"{', '.join(others)} reads vectors of another encoder than {encoder.ref}",
            )
        return None
    model, cost = found
    width = offer.candidates.vectors.shape[1]
    if width != model.dimensions:
        trace.degrade(
            DegradedReason.MODEL_UNAVAILABLE,
            f"{model.ref} reads vectors of {model.dimensions} dimensions; here they have {width}",
        )
        return None
    work = len(rows) * min(len(taste.recent.events), model.events)
    if not deadline.affords(HEADROOM * cost.estimate(work)):
        trace.degrade(DegradedReason.DEADLINE, f"{model.ref}: no time was left for it")
        return None
    start = time.perf_counter()
    with trace.stage("personal", len(rows)):
        try:
            fits = await inference.in_thread(
                lambda: _score(model, cost, work, offer, rows, taste), deadline
            )
        except DeadlineExceeded as error:
            trace.degrade(DegradedReason.DEADLINE, f"{model.ref}: {error}")
            return None
        except Exception as error:  # a model that fails must not cost the page
            trace.degrade(DegradedReason.MODEL_UNAVAILABLE, f"{model.ref}: {error}")
            return None
    trace.used(model.ref)
    arm = "canary" if serving.is_canary(model.ref) else "serving"
    metrics.arm(model.ref, arm, time.perf_counter() - start)
    every = np.full(len(offer.candidates), np.nan, np.float32)
    every[rows] = fits
    return every


def _score(
    model: PersonalModel,
    cost: Cost,
    work: int,
    offer: Offer,
    rows: npt.NDArray[np.intp],
    taste: Taste,
) -> Floats:
    candidates, recent = offer.candidates, taste.recent
    names: dict[str, int] = {}
    start = time.perf_counter()
    scores = model.score(
        recent.events,
        taste.vectors[recent.rows],
        Columns.of(recent.brands, recent.categories, recent.prices, names),
        [candidates.item_ids[row] for row in rows],
        candidates.vectors[rows],
        Columns.of(
            [candidates.brands[row] for row in rows],
            [candidates.categories[row] for row in rows],
            candidates.prices[rows],
            names,
        ),
        offer.query,
        offer.retrieval[rows],
    )
    cost.observe(work, time.perf_counter() - start)
    if not np.isfinite(scores).all():
        raise ValueError("it gave scores that are NaN or infinite")
    return model.fit(scores)

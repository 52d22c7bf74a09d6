"""Ranking: profile → features → filter → score → rerank → blend → explain, under a deadline.

Before each stage the time is looked at; what would miss the deadline is left out, and the answer
says so. Whatever fails on the way to OpenSearch or in a model costs quality, not the answer.
"""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuralrank.errors import Overloaded
from neuralrank.language import detect
from sidecar.deadline import Deadline
from sidecar.domain import (
    DegradedReason,
    Dropped,
    DropReason,
    Floats,
    Fusion,
    Ranked,
    Ranking,
    RankQuery,
)
from sidecar.features.items import ItemStore
from sidecar.features.profile import Users
from sidecar.inference.cost import Cost
from sidecar.inference.inference import Inference
from sidecar.models.follower import Models
from sidecar.models.serving import CrossEncoderModel, Serving
from sidecar.models.shadow import Shadow
from sidecar.ranking.blend import (
    Blend,
    affinity,
    blend,
    by_place,
    feedback,
    order,
    relevance,
    retrieval,
)
from sidecar.ranking.explain import Evidence, explain
from sidecar.ranking.filters import apply_filters
from sidecar.ranking.gather import Gatherer
from sidecar.ranking.rerank import read
from sidecar.ranking.score import (
    Similarities,
    category_match,
    centroid_match,
    complete,
    similarities,
)
from sidecar.telemetry.agreement import kendall_distance
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.trace import Trace

__all__ = ["Ranker"]


class Ranker:
    """Ranks requests; holds no state of its own but references to what does."""

    def __init__(
        self,
        models: Models,
        items: ItemStore,
        users: Users,
        inference: Inference,
        metrics: Metrics,
        *,
        max_reranked: int,
        rerank_characters: int,
        shadow: Shadow | None = None,
    ) -> None:
        """
        Args:
            max_reranked: the most candidates that a cross-encoder reads, where a request does not
                say.
            rerank_characters: how much of a text it reads.
            shadow: told of what was read.
        """
        self._models = models
        self._gatherer = Gatherer(items, users, inference)
        self._inference = inference
        self._metrics = metrics
        self._max_reranked = max_reranked
        self._rerank_characters = rerank_characters
        self._shadow = shadow

    async def rank(self, query: RankQuery, deadline: Deadline) -> Ranking:
        """The candidates that may be shown, best first.

        Raises:
            NotFound: the index, the item of `similar_to`, the encoder or the cross-encoder that was
                named does not exist.
            InvalidInput: vectors came that the encoder can't have made.
        """
        trace = Trace(self._metrics)
        serving = self._models.serving.arm(query.user_id or query.request_id)
        if query.bundle and query.bundle != "none":
            serving.cross_encoder(query.bundle)  # NotFound before any work
        gathered = await self._gatherer.gather(query, serving, deadline, trace)
        space = gathered.space

        dimensions = space.encoder.dimensions if space.encoder else 0
        candidates = complete(query.candidates, gathered.items, dimensions, vectors=space.vectors)
        with trace.stage("filter", len(candidates)):
            kept, dropped = apply_filters(
                candidates, query.filters, gathered.profile, query.similar_to
            )
        with trace.stage("score", len(kept)):
            near = similarities(
                candidates,
                space.encoder,
                gathered.query_vector,
                gathered.taste,
                query_is_item=bool(query.similar_to),
            )
            found = retrieval(candidates.retrieval, has_query=bool(query.query))
            if query.similar_to:
                context = category_match(candidates, gathered.items.get(query.similar_to))
            else:
                centroid = (
                    feedback(near.query_match, found, candidates.vectors, kept)
                    if query.query
                    else None
                )
                context = centroid_match(candidates, space.encoder, centroid)
            parts = _Parts(
                query,
                kept,
                near,
                context,
                affinity(near.user_match, near.category_share, near.brand_share),
                found,
            )
            if space.encoder and near.compared:
                trace.used(space.encoder.ref)
                self._metrics.top_score(space.encoder.ref, near.query_match[kept])
        logits, cross = await self._rerank(
            query, candidates.texts, parts, kept, serving, deadline, trace
        )
        with trace.stage("blend", len(kept)):
            fused, blended = parts.blend(cross)
            ranked = kept[order(blended.scores[kept], candidates.retrieval[kept])]
            self._metrics.ordered(kendall_distance(ranked))
            if query.min_score is not None:
                low = blended.scores[ranked] < np.float32(query.min_score)
                dropped = _with_low(query, blended, ranked[low], dropped)
                ranked = ranked[~low]
            if query.top_k:
                ranked = ranked[: query.top_k]
        trace.finish()
        shown = ranked.tolist()
        scores = blended.scores[ranked].tolist()
        ids = candidates.ids
        if not query.explain:
            results = [
                Ranked(ids[position], score, position)
                for position, score in zip(shown, scores, strict=True)
            ]
        else:
            evidence = Evidence(
                candidates, near, *fused, logits, blended, gathered.taste, space.encoder,
                bool(query.similar_to),
            )  # fmt: skip
            results = [
                Ranked(ids[position], score, position, explanation)
                for position, score, explanation in zip(
                    shown, scores, explain(evidence, kept, ranked), strict=True
                )
            ]
        return Ranking(
            tuple(results), tuple(dropped), trace.degraded, trace.stages, tuple(trace.bundles)
        )

    async def _rerank(
        self,
        query: RankQuery,
        texts: list[str | None],
        parts: "_Parts",
        kept: npt.NDArray[np.intp],
        serving: Serving,
        deadline: Deadline,
        trace: Trace,
    ) -> tuple[Floats, Floats]:
        """Logits and calibrated scores, float32 [n] each, NaN where not read."""
        logits = np.full(len(texts), np.nan, np.float32)
        cross = logits.copy()
        chosen = self._cross_encoder(query, serving, trace) if len(kept) else None
        if chosen is None:
            return logits, cross
        model, cost = chosen
        _, blended = parts.blend(cross)
        best = kept[order(blended.scores[kept], query.candidates.retrieval[kept])].tolist()
        limit = query.max_reranked or self._max_reranked
        readable = [position for position in best if texts[position]][:limit]
        if not readable:
            trace.degrade(DegradedReason.FEATURES_UNAVAILABLE, "no candidate has a text to be read")
            return logits, cross
        characters = query.rerank_characters or self._rerank_characters
        given = [(texts[position] or "")[:characters] for position in readable]
        start = time.perf_counter()
        with trace.stage("rerank", len(readable)):
            try:
                reading = await read(
                    self._inference, model, cost, query.query, given, deadline, trace.spend
                )
            except Overloaded as error:
                trace.degrade(DegradedReason.OVERLOAD, str(error))
                return logits, cross
            except Exception as error:  # a model that fails must not cost the page
                trace.degrade(DegradedReason.MODEL_UNAVAILABLE, f"{model.ref}: {error}")
                return logits, cross
        done = np.array(readable)[reading.read]
        scores = reading.logits[reading.read]
        if reading.failed:
            trace.degrade(
                DegradedReason.MODEL_UNAVAILABLE,
                f"{reading.failed} of {len(readable)} candidates could not be read: "
                f"{reading.reason}",
            )
        if len(done) + reading.failed < len(readable):
            trace.degrade(
                DegradedReason.DEADLINE,
                f"the cross-encoder read {len(done)} of {len(readable)} candidates in time",
            )
        if len(done):
            logits[done] = scores
            cross[done] = model.probability(scores)
            trace.used(model.ref)
            self._metrics.reranked(len(done))
            self._metrics.top_score(model.ref, cross[done])
            arm = "canary" if serving.is_canary(model.ref) else "serving"
            self._metrics.arm(model.ref, arm, time.perf_counter() - start)
            if self._shadow is not None:
                language = query.language or detect(query.query)
                pairs = [given[place] for place in np.flatnonzero(reading.read)]
                self._shadow.offer(serving, model, language, query.query, pairs, cross[done])
        return logits, cross

    def _cross_encoder(
        self, query: RankQuery, serving: Serving, trace: Trace
    ) -> tuple[CrossEncoderModel, Cost] | None:
        if not query.query or query.bundle == "none" or not query.weights.relevance:
            return None
        language = query.language or detect(query.query)
        named = serving.cross_encoder(query.bundle) if query.bundle else None
        if named is not None and not named[0].supports(language):
            trace.degrade(
                DegradedReason.MODEL_UNAVAILABLE,
                f"{named[0].ref} does not know the query's language {language or 'unknown'!r}",
            )
            return None
        found = named or serving.cross_encoder_for(language)
        if found is None:
            trace.degrade(
                DegradedReason.MODEL_UNAVAILABLE,
                f"no cross-encoder serves the query's language {language or 'unknown'!r}",
            )
        return found


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of the score that are there before a cross-encoder reads."""

    query: RankQuery
    # Positions of the candidates that may be shown.
    kept: npt.NDArray[np.intp]
    similarities: Similarities
    context: Floats
    affinity: Floats
    retrieval: Floats

    def blend(self, cross: Floats) -> tuple[tuple[Floats, Floats, Floats], Blend]:
        """Relevance, affinity and retrieval as they count, and the blended scores, given what a
        cross-encoder has read."""
        match = relevance(self.similarities.query_match, self.context, cross)
        parts = (match, self.affinity, self.retrieval)
        if self.query.fusion is Fusion.RRF:
            match, taste, found = (by_place(part, self.kept) for part in parts)
            parts = (match, taste, found)
        return parts, blend(*parts, self.query.weights)


def _with_low(
    query: RankQuery, blended: Blend, low: npt.NDArray[np.intp], dropped: list[Dropped]
) -> list[Dropped]:
    """What was dropped, with those below the threshold, in the order of the request."""
    below = [
        Dropped(
            query.candidates.ids[position],
            position,
            DropReason.BELOW_MIN_SCORE,
            f"score {blended.scores[position]:.3f} is below min_score {query.min_score:.3f}",
        )
        for position in low.tolist()
    ]
    return sorted([*dropped, *below], key=lambda drop: drop.position)

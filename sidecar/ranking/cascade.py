"""Ranking: profile → features → filter → score → personal → rerank → blend → explain, under a
deadline.

Before each stage the time is looked at; what would miss the deadline is left out, and the answer
says so. Whatever fails on the way to OpenSearch or in a model costs quality, not the answer.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from neuralrank.errors import Overloaded
from neuralrank.personal.affinity import affinity
from neuralrank.text.exclusions import exclusions
from neuralrank.text.language import to_be_known
from sidecar.deadline import Deadline
from sidecar.domain import (
    Candidates,
    DegradedReason,
    Explanation,
    Floats,
    Ranked,
    Ranking,
    RankQuery,
    Weights,
)
from sidecar.features.items import ItemStore
from sidecar.features.profile import Users
from sidecar.inference.cost import Cost
from sidecar.inference.inference import Inference
from sidecar.models.follower import Models
from sidecar.models.serving import CrossEncoderModel, EncoderModel, Serving, knows
from sidecar.models.shadow import Shadow
from sidecar.ranking.blend import Blend, feedback, order, retrieval
from sidecar.ranking.diversity import diversified
from sidecar.ranking.exclusions import mentions
from sidecar.ranking.experiment import coin, join, ways
from sidecar.ranking.explain import Evidence, explain
from sidecar.ranking.filters import apply_filters, unchecked
from sidecar.ranking.gather import Gathered, Gatherer
from sidecar.ranking.orders import Order, Parts, page_of, with_low
from sidecar.ranking.personal import Offer, fitting
from sidecar.ranking.rerank import read
from sidecar.ranking.score import (
    Similarities,
    category_match,
    centroid_match,
    complete,
    most_have_vectors,
    similarities,
    without_vectors,
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
        for bundle in query.bundles:
            serving.cross_encoder(bundle)  # NotFound before any work
        query, unwanted = _wanted(query)
        joined = join(query.experiment, query.user_id) if query.experiment else None
        asked = ways(query, joined)
        # What any of the ways needs is gathered once.
        needy = max(asked.values(), key=lambda way: (way.weights.relevance, way.weights.affinity))
        gathered = await self._gatherer.gather(needy, serving, deadline, trace)
        space = gathered.space
        if gathered.late:
            # What a cross-encoder has read then moves on the scale of the caller's scores alone: at
            # 10 ms the page was worse than it came (esci_en, 0.7719 for 0.7738).
            asked = {name: replace(way, bundle="none") for name, way in asked.items()}

        dimensions = space.encoder.dimensions if space.encoder else 0
        candidates = complete(query.candidates, gathered.items, dimensions, vectors=space.vectors)
        photos = gathered.photos
        asks = query.query or query.similar_to
        if asks and gathered.unread and not most_have_vectors(candidates):
            candidates, photos = without_vectors(candidates), None
        with trace.stage("filter", len(candidates)):
            unread = _unread(query, gathered)
            rules = candidates, query.filters, gathered.profile
            kept, dropped = apply_filters(*rules, query.similar_to, unread)
            passed = unchecked(*rules, unread, kept)
            if passed and gathered.unread:
                trace.degrade(
                    gathered.unread,
                    f"{passed} of {len(kept)} candidates were not held to all filters: what these "
                    "look at was not read",
                )
        with trace.stage("score", len(kept)):
            near = similarities(
                candidates,
                space.encoder,
                gathered.query_vector,
                gathered.taste,
                query_is_item=bool(query.similar_to),
                photos=photos,
            )
            found = retrieval(
                candidates.retrieval,
                has_query=bool(query.query),
                informed=_informed(query, [way.weights for way in asked.values()], near, kept),
            )
            if query.similar_to:
                context = category_match(candidates, gathered.items.get(query.similar_to))
            else:
                centroid = (
                    feedback(near.query_match, found, candidates.vectors, kept)
                    if query.query
                    else None
                )
                context = centroid_match(candidates, space.encoder, centroid)
            said = mentions(candidates.texts, unwanted) if unwanted else None
            if photos and not np.isnan(near.image_cosine).all():
                trace.used(photos.encoder)
            # Among those that may be shown: what is dropped says nothing of the others.
            taste = np.full(len(candidates), np.nan, np.float32)
            taste[kept] = affinity(
                near.user_match[kept], near.category_share[kept], near.brand_share[kept]
            )
            if space.encoder and near.compared:
                trace.used(space.encoder.ref)
                self._metrics.top_score(space.encoder.ref, near.query_match[kept])
        if any(way.weights.affinity for way in asked.values()):
            # An item is no query: what is like one is recommended.
            searched = None if query.similar_to else gathered.query_vector
            offer = Offer(candidates, kept, searched, found)
            fits = await fitting(
                offer, gathered.taste, space.encoder, serving, self._inference, self._metrics,
                deadline, trace,
            )  # fmt: skip
            taste = taste if fits is None else fits
        orders: dict[str, Order] = {}
        chance = coin(query.experiment, query.user_id, query.query or query.similar_to)
        # Who reads first has more of the deadline: neither way always does.
        for name in sorted(asked, reverse=bool(chance.getrandbits(1))):
            parts = Parts(asked[name], kept, near, context, taste, found, said)
            orders[name] = await self._order(
                parts, candidates, space.encoder, serving, deadline, trace
            )
        page = page_of(orders, chance, query.top_k)
        if query.min_score is not None:
            dropped = with_low(query, orders, kept, dropped)
        explanations: Sequence[Explanation | None] = [None] * len(page.ranked)
        if query.explain:
            with trace.stage("explain", len(page.ranked)):
                explained = {
                    name: explain(
                        Evidence(
                            candidates, near, *one.parts, one.novelty, one.logits,
                            Blend(one.scores, one.blended.weights), asked[name].weights,
                            gathered.taste, bool(query.similar_to), unwanted, said, np.isnan(taste),
                        ),
                        kept,
                        page.ranked,
                    )
                    for name, one in orders.items()
                }  # fmt: skip
                explanations = [explained[by][place] for place, by in enumerate(page.by)]
        teams = page.by if len(orders) > 1 else [""] * len(page.by)
        positions = page.ranked.tolist()
        names = [candidates.ids[position] for position in positions]
        rows = zip(names, page.scores.tolist(), positions, explanations, teams, strict=True)
        return Ranking(
            tuple(map(Ranked._make, rows)), tuple(dropped), trace.degraded, trace.stages,
            tuple(trace.bundles), joined,
            tuple(sorted(gathered.profile.blocked_items)) if query.list_blocked else (),
        )  # fmt: skip

    async def _order(
        self,
        parts: Parts,
        candidates: Candidates,
        encoder: EncoderModel | None,
        serving: Serving,
        deadline: Deadline,
        trace: Trace,
    ) -> Order:
        """The candidates that may be shown and reach the threshold, in one way of ranking."""
        query, kept = parts.query, parts.kept
        logits, cross = await self._rerank(
            query, candidates.texts, parts, kept, serving, deadline, trace
        )
        with trace.stage("blend", len(kept)):
            fused, blended = parts.blend(cross)
            ranked = kept[order(blended.scores[kept], candidates.retrieval[kept])]
            if query.min_score is not None:
                ranked = ranked[blended.scores[ranked] >= np.float32(query.min_score)]
            made = Order(ranked, logits, fused, blended, blended.scores, None)
            if (share := query.weights.diversity) and len(ranked) > 1:
                diverse = diversified(ranked, blended.scores, candidates, encoder, share)
                if diverse is None:
                    trace.degrade(
                        DegradedReason.FEATURES_UNAVAILABLE,
                        "diversity counts nothing: no two of the candidates have vectors",
                    )
                else:
                    made = Order(
                        diverse.ranked, logits, fused, blended, diverse.scores, diverse.novelty
                    )
            if len(ranked) > 1:  # else there is no order that could differ
                self._metrics.ordered(kendall_distance(made.ranked))
        return made

    async def _rerank(
        self,
        query: RankQuery,
        texts: list[str | None],
        parts: Parts,
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
        if reading.refused:
            trace.degrade(
                DegradedReason.OVERLOAD,
                f"the cross-encoder read {len(done)} of {len(readable)} candidates: "
                f"{reading.refused}",
            )
        elif len(done) + reading.failed < len(readable):
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
                language = to_be_known(query.query, query.language)
                pairs = [given[place] for place in np.flatnonzero(reading.read)]
                self._shadow.offer(serving, model, language, query.query, pairs, cross[done])
        return logits, cross

    def _cross_encoder(
        self, query: RankQuery, serving: Serving, trace: Trace
    ) -> tuple[CrossEncoderModel, Cost] | None:
        if not query.query or query.bundle == "none" or not query.weights.relevance:
            return None
        language = to_be_known(query.query, query.language)
        named = serving.cross_encoder(query.bundle) if query.bundle else None
        if named is not None and not knows(named[0], language):
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


def _informed(
    query: RankQuery, weights: Sequence[Weights], near: Similarities, kept: npt.NDArray[np.intp]
) -> bool:
    """Whether a user's taste or an item to be like orders what may be shown, in every way of
    ranking: not one that weighs nothing, or that no candidate could be compared with."""
    fits = not np.isnan(near.user_match[kept]).all()
    alike = bool(query.similar_to) and not np.isnan(near.query_match[kept]).all()
    return (fits and all(way.affinity for way in weights)) or (
        alike and all(way.relevance for way in weights)
    )


def _unread(query: RankQuery, gathered: Gathered) -> frozenset[int]:
    """Positions of candidates whose items the index may have, and could not be read."""
    if gathered.unread is None:
        return frozenset()
    keys = enumerate(query.candidates.keys)
    return frozenset(position for position, key in keys if key not in gathered.items)


def _wanted(query: RankQuery) -> tuple[RankQuery, tuple[str, ...]]:
    """The query as models are to read it, and what it excludes: no model understands that."""
    found = exclusions(query.query, query.language) if query.exclusions else None
    if found is None or not found.what:
        return query, ()
    return replace(query, query=found.rest, language=found.language), found.what

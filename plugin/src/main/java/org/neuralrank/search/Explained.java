package org.neuralrank.search;

import java.util.ArrayList;
import java.util.List;
import org.apache.lucene.search.Explanation;
import org.neuralrank.v1.Weights;

/** {@code _explanation} of a hit, where the caller asks for it: of the new score, by its parts, down to the old one. */
final class Explained {

    private Explained() {}

    /** Of a hit in its new place. */
    static Explanation of(Ranking.Place place) {
        if (place.result() == null || !place.result().hasExplanation()) {
            return Explanation.match(place.score(), "neural_rank: not ranked, in the order of the query", own(place));
        }
        org.neuralrank.v1.Explanation said = place.result().getExplanation();
        Weights weights = said.getWeights();
        // What novelty leaves to the parts.
        float left = 1 - weights.getDiversity();
        List<Explanation> parts = new ArrayList<>();
        if (said.hasRelevance()) {
            List<Explanation> of = new ArrayList<>();
            if (said.hasQuerySimilarity()) {
                of.add(Explanation.match(said.getQuerySimilarity(), "cosine of the query's vector and the item's"));
            }
            if (said.hasCrossEncoderLogit()) {
                // Sidecars of before don't say how much.
                String share = weights.hasCrossEncoder() ? "; its order counts " + weights.getCrossEncoder() : "";
                of.add(Explanation.match(said.getCrossEncoderLogit(), "cross-encoder, before calibration" + share));
            }
            parts.add(
                part("relevance: how well it answers the query", said.getRelevance(), left * weights.getRelevance(), of)
            );
        }
        if (said.hasAffinity()) {
            List<Explanation> of = new ArrayList<>();
            if (said.hasUserSimilarity()) {
                of.add(Explanation.match(said.getUserSimilarity(), "cosine of the user's vector and the item's"));
            }
            String because = said.getBecauseOfCount() == 0 ? "" : ", because of " + said.getBecauseOfList();
            parts.add(
                part(
                    "affinity: how well it fits the user" + because,
                    said.getAffinity(),
                    left * weights.getAffinity(),
                    of
                )
            );
        }
        if (said.hasRetrieval()) {
            parts.add(
                part(
                    "retrieval: what the query itself said, within the window",
                    said.getRetrieval(),
                    left * weights.getRetrieval(),
                    own(place)
                )
            );
        } else {
            parts.addAll(own(place));
        }
        if (said.hasNovelty()) {
            parts.add(
                part("novelty: how unlike it is to the hits above", said.getNovelty(), weights.getDiversity(), List.of())
            );
        }
        return Explanation.match(place.score(), "neural_rank, the mean of its parts by their weights", parts);
    }

    private static Explanation part(String name, float value, float weight, List<Explanation> of) {
        return Explanation.match(value, name + ", weight " + weight, of);
    }

    /** That of the search that found the hit; a neighbour's says nothing of the caller's query. */
    private static List<Explanation> own(Ranking.Place place) {
        Explanation own = place.entry().hit().getExplanation();
        return own == null || !place.entry().isLexical() ? List.of() : List.of(own);
    }
}

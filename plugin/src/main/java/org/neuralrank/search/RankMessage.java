package org.neuralrank.search;

import org.neuralrank.options.Options;
import org.neuralrank.v1.Arm;
import org.neuralrank.v1.AttributeRule;
import org.neuralrank.v1.Experiment;
import org.neuralrank.v1.ExperimentMode;
import org.neuralrank.v1.Filters;
import org.neuralrank.v1.Fusion;
import org.neuralrank.v1.RankOptions;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.User;
import org.neuralrank.v1.Weights;

/** Writes the request to Rank. */
final class RankMessage {

    private RankMessage() {}

    /**
     * @param target         where the sidecar finds items
     * @param listBlocked    whether it is to list what the user has blocked
     * @param textCharacters what it reads of a candidate's text at most
     * @param leftMs         time for the call; the sidecar is told to be done a little before
     */
    static RankRequest of(
        Asked asked,
        Options options,
        Candidates candidates,
        ItemFields fields,
        Indices.Target target,
        boolean listBlocked,
        int textCharacters,
        long leftMs
    ) {
        String index = target.name();
        RankRequest.Builder message = RankRequest.newBuilder()
            .setQuery(asked.queryText())
            .setIndex(index)
            .setRequestId(asked.requestId())
            .addAllCandidates(candidates.toMessages(fields, target.isSeveral() && !index.isEmpty(), textCharacters))
            .setOptions(
                options(options, leftMs).setExplain(options.flag("explain", false) || asked.explain())
                    .setListBlocked(listBlocked)
            );
        if (!asked.userId().isEmpty()) {
            message.setUser(User.newBuilder().setId(asked.userId()));
        }
        if (!asked.similarTo().isEmpty() && !index.isEmpty()) {
            message.setSimilarTo(asked.similarTo());
        }
        return message.build();
    }

    private static RankOptions.Builder options(Options options, long leftMs) {
        RankOptions.Builder message = RankOptions.newBuilder()
            .setBundle(options.text("bundle", ""))
            .setEncoder(options.text("encoder", ""))
            .setMaxReranked(options.integer("max_reranked", 0));
        int deadlineMs = options.integer("deadline_ms", 0);
        if (deadlineMs > 0) {
            message.setDeadlineMs((int) Math.max(1, Math.min(deadlineMs, leftMs * 9 / 10)));
        }
        if (options.has("min_score")) {
            message.setMinScore(options.number("min_score").floatValue());
        }
        if (options.has("fusion")) {
            message.setFusion(fusion(options));
        }
        if (options.has("exclusions")) {
            message.setExclusions(options.flag("exclusions", true));
        }
        if (options.has("weights")) {
            message.setWeights(weights(options.inner("weights")));
        }
        if (options.has("filters")) {
            message.setFilters(filters(options.inner("filters")));
        }
        if (options.has("experiment")) {
            message.setExperiment(experiment(options.inner("experiment")));
        }
        return message;
    }

    private static Experiment experiment(Options given) {
        Experiment.Builder message = Experiment.newBuilder()
            .setName(given.text("name", ""))
            .setMode(
                given.text("mode", "ab").equals("ab")
                    ? ExperimentMode.EXPERIMENT_MODE_AB
                    : ExperimentMode.EXPERIMENT_MODE_INTERLEAVE
            );
        if (given.has("share")) {
            message.setShare(given.number("share"));
        }
        Options arms = given.inner("arms");
        arms.asMap().keySet().forEach(name -> message.putArms(name, arm(arms.inner(name))));
        return message.build();
    }

    private static Arm arm(Options given) {
        Arm.Builder message = Arm.newBuilder().setBundle(given.text("bundle", ""));
        if (given.has("weights")) {
            message.setWeights(weights(given.inner("weights")));
        }
        if (given.has("fusion")) {
            message.setFusion(fusion(given));
        }
        return message.build();
    }

    private static Fusion fusion(Options given) {
        return given.text("fusion", "").equals("rrf") ? Fusion.FUSION_RRF : Fusion.FUSION_WEIGHTS;
    }

    private static Weights weights(Options given) {
        Weights.Builder message = Weights.newBuilder();
        if (given.has("relevance")) {
            message.setRelevance(given.number("relevance").floatValue());
        }
        if (given.has("affinity")) {
            message.setAffinity(given.number("affinity").floatValue());
        }
        if (given.has("retrieval")) {
            message.setRetrieval(given.number("retrieval").floatValue());
        }
        if (given.has("cross_encoder")) {
            message.setCrossEncoder(given.number("cross_encoder").floatValue());
        }
        if (given.has("diversity")) {
            message.setDiversity(given.number("diversity").floatValue());
        }
        return message.build();
    }

    private static Filters filters(Options given) {
        Filters.Builder message = Filters.newBuilder()
            .setExcludePurchased(given.flag("exclude_purchased", false))
            .setInStockOnly(given.flag("in_stock_only", false));
        if (given.has("exclude_items")) {
            message.addAllExcludeItems(given.strings("exclude_items"));
        }
        if (given.has("exclude_brands")) {
            message.addAllExcludeBrands(given.strings("exclude_brands"));
        }
        if (given.has("min_price")) {
            message.setMinPrice(given.number("min_price"));
        }
        if (given.has("max_price")) {
            message.setMaxPrice(given.number("max_price"));
        }
        for (Options rule : given.rules()) {
            message.addAttributes(
                AttributeRule.newBuilder()
                    .setName(rule.text("name", ""))
                    .addAllValues(rule.strings("values"))
                    .setExclude(rule.flag("exclude", false))
            );
        }
        return message.build();
    }
}

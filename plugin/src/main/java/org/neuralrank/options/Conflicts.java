package org.neuralrank.options;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;

/**
 * What options can't say together, in one place or in a pipeline and a request. The sidecar would refuse it, and the
 * page would come back in its original order, past all of its filters.
 *
 * @param options in force
 * @param isWhole whether what is left out is as by default, not as a pipeline may yet have it
 * @param place   how messages call an option, by its path such as {@code filters.min_price}
 */
record Conflicts(Options options, boolean isWhole, UnaryOperator<String> place) {

    /** What the score is made of; at least one of them must weigh something. */
    private static final List<String> PARTS = List.of("weights.relevance", "weights.affinity", "weights.retrieval");

    /** What arms of an experiment may differ in. */
    private static final List<String> WAY = List.of(
        "bundle",
        "fusion",
        "weights.relevance",
        "weights.affinity",
        "weights.retrieval",
        "weights.cross_encoder",
        "weights.diversity"
    );

    private static final Map<String, Object> DEFAULTS = Map.of("fusion", "weights");

    private static final String A = "experiment.arms.A.";
    private static final String B = "experiment.arms.B.";

    /** @throws IllegalArgumentException naming the values and where each is from */
    void refuse() {
        prices();
        weights("");
        if (options.has("experiment")) {
            weights(A);
            weights(B);
            arms();
        }
    }

    private void prices() {
        Double min = options.inner("filters").number("min_price");
        Double max = options.inner("filters").number("max_price");
        if (min != null && max != null && min > max) {
            throw new IllegalArgumentException(
                place.apply("filters.min_price") + " is [" + min + "], above " + place.apply("filters.max_price") + " ["
                    + max + "]; change one of them"
            );
        }
    }

    private void weights(String arm) {
        List<String> said = PARTS.stream().map(part -> source(arm, part)).toList();
        // As the sidecar gets them, which are floats.
        if (said.stream().allMatch(path -> options.at(path) instanceof Double weight && weight.floatValue() == 0)) {
            throw new IllegalArgumentException(
                "weights are all zero: " + said.stream().map(place).collect(Collectors.joining(", "))
                    + "; at least one of them must be above zero"
            );
        }
    }

    private void arms() {
        if (!way(A).equals(way(B))) {
            return;
        }
        String filledIn = WAY.stream()
            .filter(key -> source(A, key).equals(key) != source(B, key).equals(key))
            .map(
                key -> options.at(key) == null
                    ? key + " [" + DEFAULTS.get(key) + "], the default"
                    : place.apply(key) + " [" + options.at(key) + "]"
            )
            .collect(Collectors.joining(", "));
        throw new IllegalArgumentException(
            place.apply("experiment.arms") + " A and B are the same"
                + (filledIn.isEmpty() ? "" : " once what they leave out is filled in: " + filledIn)
                + "; give one of them another bundle, other weights or another fusion"
        );
    }

    /** How an arm ranks, as far as it is said. */
    private Map<String, Object> way(String arm) {
        Map<String, Object> way = new HashMap<>(isWhole ? DEFAULTS : Map.of());
        WAY.forEach(key -> way.compute(key, (same, usual) -> {
            Object said = options.at(source(arm, key));
            return said == null || said.equals("") ? usual : said;
        }));
        return way;
    }

    /** What an arm leaves out is as beside the experiment. */
    private String source(String arm, String key) {
        Object own = options.at(arm + key);
        return own == null || own.equals("") ? key : arm + key;
    }
}

package org.neuralrank.options;

import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * What a caller ({@code ext.neural_rank}) or a pipeline asks for: checked values by key, absent where nothing was
 * said. Values are plain Java: Boolean, Integer, Double, String, List, Map.
 */
public final class Options {

    /** Nothing asked for. */
    public static final Options NONE = new Options(Map.of());

    private static final Set<String> SHARED = Set.of("encoder", "timeout_ms", "text_fields", "fields");

    /** Keys of {@code ext.neural_rank} in a search request. */
    public static final Set<String> REQUEST_KEYS = union(
        Set.of(
            "enabled",
            "user_id",
            "query_text",
            "similar_to",
            "window",
            "k",
            "filters",
            "weights",
            "min_score",
            "explain",
            "bundle",
            "encoder",
            "deadline_ms",
            "max_reranked",
            "fusion",
            "experiment",
            "ef_search",
            "interests",
            "collaborative",
            "exclusions",
            "totals"
        )
    );

    /** Keys of the {@code neural_recall} processor. */
    public static final Set<String> RECALL_KEYS = union(
        SHARED,
        Set.of(
            "window",
            "k",
            "ef_search",
            "interests",
            "collaborative",
            "exclusions",
            "vector",
            "vector_field",
            "ignore_unmapped",
            "source_vectors"
        )
    );

    /** Keys of the {@code neural_rank} processor. */
    public static final Set<String> RANK_KEYS = union(
        SHARED,
        Set.of(
            "filters",
            "weights",
            "fusion",
            "min_score",
            "totals",
            "explain",
            "bundle",
            "deadline_ms",
            "max_reranked",
            "exclusions",
            "experiment"
        )
    );

    private final Map<String, Object> values;

    private Options(Map<String, Object> values) {
        this.values = Collections.unmodifiableMap(values);
    }

    /**
     * Reads and checks options. A null value means the same as an absent key.
     *
     * @param given   as parsed from JSON
     * @param allowed which keys may occur
     * @param path    how messages call this place, such as {@code ext.neural_rank}
     * @throws IllegalArgumentException saying what was received, what is allowed and where
     */
    public static Options parse(Map<String, ?> given, Set<String> allowed, String path) {
        Map<String, Checks.Check> checks = new LinkedHashMap<>(Checks.BY_KEY);
        checks.keySet().retainAll(allowed);
        Options options = new Options(Checks.object(path, given, checks));
        new Conflicts(options, !allowed.equals(REQUEST_KEYS), key -> path + "." + key).refuse();
        return options;
    }

    /**
     * These options, with {@code stronger} ones in their place; filters and weights are merged key by key. An
     * experiment is not: half of one and half of another would be neither.
     */
    public Options overriddenBy(Options stronger) {
        Map<String, Object> merged = new LinkedHashMap<>(values);
        stronger.values.forEach((key, value) -> {
            boolean whole = key.equals("experiment");
            if (!whole && value instanceof Map<?, ?> inner && merged.get(key) instanceof Map<?, ?> weaker) {
                Map<Object, Object> both = new LinkedHashMap<>(weaker);
                both.putAll(inner);
                merged.put(key, both);
            } else {
                merged.put(key, value);
            }
        });
        return new Options(merged);
    }

    /**
     * Refuses what these options, a pipeline's with a request's in their place, can't say together though each can.
     *
     * @throws IllegalArgumentException naming the values and where each is from
     */
    public void mustAgree(Options request) {
        new Conflicts(
            this,
            true,
            path -> (request.at(path) == null ? "the pipeline's neural_rank." : "ext.neural_rank.") + path
        ).refuse();
    }

    /** What is said at a path such as {@code filters.min_price}, null for nothing. */
    Object at(String path) {
        Object at = values;
        for (String step : path.split("\\.")) {
            at = at instanceof Map<?, ?> map ? map.get(step) : null;
        }
        return at;
    }

    /** The values by key, as they were given. */
    public Map<String, Object> asMap() {
        return values;
    }

    public String text(String key, String otherwise) {
        return values.containsKey(key) ? (String) values.get(key) : otherwise;
    }

    public boolean flag(String key, boolean otherwise) {
        return values.containsKey(key) ? (Boolean) values.get(key) : otherwise;
    }

    public int integer(String key, int otherwise) {
        return values.containsKey(key) ? (Integer) values.get(key) : otherwise;
    }

    /** Null where nothing was said. */
    public Double number(String key) {
        return (Double) values.get(key);
    }

    /** Null where nothing was said. */
    @SuppressWarnings("unchecked")
    public List<String> strings(String key) {
        return (List<String>) values.get(key);
    }

    /** Options of an inner object such as {@code filters}; none where nothing was said. */
    @SuppressWarnings("unchecked")
    public Options inner(String key) {
        return values.containsKey(key) ? new Options((Map<String, Object>) values.get(key)) : NONE;
    }

    /** The attribute rules of {@code filters}. */
    @SuppressWarnings("unchecked")
    public List<Options> rules() {
        List<Map<String, Object>> rules = (List<Map<String, Object>>) values.getOrDefault("attributes", List.of());
        return rules.stream().map(Options::new).toList();
    }

    /** Whether {@code filters} may drop anything: a false one, or a list of nothing, only undoes a pipeline's. */
    public boolean filters() {
        return inner("filters").asMap().values().stream().anyMatch(said -> !said.equals(false) && !said.equals(List.of()));
    }

    public boolean has(String key) {
        return values.containsKey(key);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Options options && values.equals(options.values);
    }

    @Override
    public int hashCode() {
        return values.hashCode();
    }

    @Override
    public String toString() {
        return values.toString();
    }

    @SafeVarargs
    private static Set<String> union(Set<String>... sets) {
        Set<String> all = new TreeSet<>();
        Arrays.stream(sets).forEach(all::addAll);
        return Collections.unmodifiableSet(all);
    }
}

package org.neuralrank.options;

import java.util.ArrayList;
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

    private interface Check {
        Object read(String path, Object value);
    }

    private static final Map<String, Check> FILTERS = Map.of(
        "exclude_purchased",
        Options::bool,
        "exclude_items",
        (path, value) -> strings(path, value, 0),
        "exclude_brands",
        (path, value) -> strings(path, value, 0),
        "min_price",
        number(-Double.MAX_VALUE, Double.MAX_VALUE),
        "max_price",
        number(-Double.MAX_VALUE, Double.MAX_VALUE),
        "in_stock_only",
        Options::bool,
        "attributes",
        Options::rules
    );

    private static final Map<String, Check> WEIGHTS = Map.of(
        "relevance",
        number(0, Float.MAX_VALUE),
        "affinity",
        number(0, Float.MAX_VALUE),
        "retrieval",
        number(0, Float.MAX_VALUE)
    );

    private static final Map<String, Check> RULE = Map.of(
        "name",
        text(256),
        "values",
        (path, value) -> strings(path, value, 1),
        "exclude",
        Options::bool
    );

    private static final Map<String, Check> FIELDS = Map.of(
        "brand",
        text(256),
        "price",
        text(256),
        "in_stock",
        text(256),
        "category",
        text(256),
        "attributes",
        text(256)
    );

    private static final Map<String, Check> CHECKS = Map.ofEntries(
        Map.entry("enabled", Options::bool),
        Map.entry("user_id", text(512)),
        Map.entry("query_text", text(Integer.MAX_VALUE)),
        Map.entry("similar_to", text(512)),
        Map.entry("window", integer(1, 10_000)),
        Map.entry("k", integer(1, 10_000)),
        Map.entry("filters", (path, value) -> filters(path, value)),
        Map.entry("weights", (path, value) -> weights(path, value)),
        Map.entry("min_score", number(0, 1)),
        Map.entry("explain", Options::bool),
        Map.entry("bundle", text(256)),
        Map.entry("encoder", text(256)),
        Map.entry("deadline_ms", integer(0, 60_000)),
        Map.entry("timeout_ms", integer(1, 60_000)),
        Map.entry("max_reranked", integer(0, 10_000)),
        Map.entry("vector", Options::bool),
        Map.entry("vector_field", text(256)),
        Map.entry("text_fields", (path, value) -> strings(path, value, 0)),
        Map.entry("fields", (path, value) -> object(path, value, FIELDS))
    );

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
            "max_reranked"
        )
    );

    /** Keys of the {@code neural_recall} processor. */
    public static final Set<String> RECALL_KEYS = union(SHARED, Set.of("window", "k", "vector", "vector_field"));

    /** Keys of the {@code neural_rank} processor. */
    public static final Set<String> RANK_KEYS = union(
        SHARED,
        Set.of("filters", "weights", "min_score", "explain", "bundle", "deadline_ms", "max_reranked")
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
        Map<String, Check> checks = new LinkedHashMap<>(CHECKS);
        checks.keySet().retainAll(allowed);
        return new Options(object(path, given, checks));
    }

    /** These options, with {@code stronger} ones in their place; filters and weights are merged key by key. */
    public Options overriddenBy(Options stronger) {
        Map<String, Object> merged = new LinkedHashMap<>(values);
        stronger.values.forEach((key, value) -> {
            if (value instanceof Map<?, ?> inner && merged.get(key) instanceof Map<?, ?> weaker) {
                Map<Object, Object> both = new LinkedHashMap<>(weaker);
                both.putAll(inner);
                merged.put(key, both);
            } else {
                merged.put(key, value);
            }
        });
        return new Options(merged);
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

    // -------------------------------------------------------------------------------------- checks

    private static Map<String, Object> object(String path, Object value, Map<String, Check> checks) {
        if (!(value instanceof Map<?, ?> given)) {
            throw refused(path, value, "an object with the keys " + new TreeSet<>(checks.keySet()));
        }
        Map<String, Object> read = new LinkedHashMap<>();
        given.forEach((key, inner) -> {
            Check check = checks.get(key);
            if (check == null) {
                throw new IllegalArgumentException(
                    path + " has an unknown key [" + key + "]; allowed are " + new TreeSet<>(checks.keySet())
                );
            }
            if (inner != null) {
                read.put((String) key, check.read(path + "." + key, inner));
            }
        });
        return read;
    }

    private static Object filters(String path, Object value) {
        Map<String, Object> read = object(path, value, FILTERS);
        Double min = (Double) read.get("min_price");
        Double max = (Double) read.get("max_price");
        if (min != null && max != null && min > max) {
            throw new IllegalArgumentException(
                path + " has min_price " + min + " above max_price " + max + "; swap them or leave one out"
            );
        }
        return read;
    }

    private static Object weights(String path, Object value) {
        Map<String, Object> read = object(path, value, WEIGHTS);
        if (read.size() == WEIGHTS.size() && read.values().stream().allMatch(weight -> (Double) weight == 0)) {
            throw new IllegalArgumentException(path + " are all zero; at least one must be above zero");
        }
        return read;
    }

    private static Object rules(String path, Object value) {
        if (!(value instanceof List<?> list)) {
            throw refused(path, value, "a list of rules like {\"name\": \"color\", \"values\": [\"black\"]}");
        }
        List<Object> read = new ArrayList<>();
        for (int i = 0; i < list.size(); i++) {
            String at = path + "[" + i + "]";
            Map<String, Object> rule = object(at, list.get(i), RULE);
            if (!rule.containsKey("name") || !rule.containsKey("values")) {
                throw refused(at, list.get(i), "a rule with name and values");
            }
            read.add(rule);
        }
        return read;
    }

    private static Boolean bool(String path, Object value) {
        if (value instanceof Boolean bool) {
            return bool;
        }
        if ("true".equals(value) || "false".equals(value)) {
            return Boolean.valueOf((String) value);
        }
        throw refused(path, value, "true or false");
    }

    private static Check integer(int min, int max) {
        return (path, value) -> {
            String allowed = "an integer from " + min + " to " + max;
            if (value instanceof Integer || value instanceof Long) {
                long number = ((Number) value).longValue();
                if (number >= min && number <= max) {
                    return (int) number;
                }
            }
            throw refused(path, value, allowed);
        };
    }

    private static Check number(double min, double max) {
        return (path, value) -> {
            if (value instanceof Number number) {
                double d = number.doubleValue();
                if (Double.isFinite(d) && d >= min && d <= max) {
                    return d;
                }
            }
            String allowed = max > 1
                ? (min == 0 ? "a finite number from 0" : "a finite number")
                : "a number from " + min + " to " + max;
            throw refused(path, value, allowed);
        };
    }

    private static Check text(int longest) {
        return (path, value) -> {
            // An id may well be a number in the caller's database.
            if (value instanceof String || value instanceof Integer || value instanceof Long) {
                String text = value.toString();
                if (text.length() <= longest) {
                    return text;
                }
                throw new IllegalArgumentException(
                    path + " has " + text.length() + " characters; allowed are at most " + longest
                );
            }
            throw refused(path, value, "a string");
        };
    }

    private static List<String> strings(String path, Object value, int least) {
        List<?> list = value instanceof List<?> many ? many : Arrays.asList(value);
        if (list.size() < least) {
            throw refused(path, value, "a list of at least " + least + " string");
        }
        List<String> read = new ArrayList<>();
        for (Object item : list) {
            if (!(item instanceof String || item instanceof Number || item instanceof Boolean)) {
                throw refused(path, value, "a list of strings");
            }
            read.add(item.toString());
        }
        return read;
    }

    private static IllegalArgumentException refused(String path, Object value, String allowed) {
        String kind = value == null ? "null" : value instanceof Map ? "object" : value instanceof List ? "list"
            : value instanceof String ? "string" : value instanceof Boolean ? "boolean" : "number";
        return new IllegalArgumentException(path + " is [" + value + "] (" + kind + "); allowed is " + allowed);
    }

    @SafeVarargs
    private static Set<String> union(Set<String>... sets) {
        Set<String> all = new TreeSet<>();
        Arrays.stream(sets).forEach(all::addAll);
        return Collections.unmodifiableSet(all);
    }
}

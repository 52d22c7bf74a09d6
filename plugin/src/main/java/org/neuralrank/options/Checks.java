package org.neuralrank.options;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Pattern;

/** What values options may have, each for itself; each refusal says what was received and what is allowed. */
final class Checks {

    /** Reads one value, or refuses it with a message that names the path. */
    interface Check {
        Object read(String path, Object value);
    }

    // The bounds of filters and weights are those of the sidecar (its sizes.py): what it refuses would come
    // back as a page in its original order, with the reason in `degraded` alone.
    private static final double MOST_WEIGHT = 1_000_000;

    private static final int MOST_RULES = 100;

    private static final Map<String, Check> FILTERS = Map.of(
        "exclude_purchased",
        Checks::bool,
        "exclude_items",
        strings(0, 10_000, 1_024),
        "exclude_brands",
        strings(0, 10_000, 1_024),
        "min_price",
        number(-Double.MAX_VALUE, Double.MAX_VALUE),
        "max_price",
        number(-Double.MAX_VALUE, Double.MAX_VALUE),
        "in_stock_only",
        Checks::bool,
        "attributes",
        Checks::rules
    );

    private static final Map<String, Check> WEIGHTS = Map.of(
        "relevance",
        number(0, MOST_WEIGHT),
        "affinity",
        number(0, MOST_WEIGHT),
        "retrieval",
        number(0, MOST_WEIGHT),
        "cross_encoder",
        number(0, 1),
        "diversity",
        number(0, 1)
    );

    private static final Map<String, Check> RULE = Map.of(
        "name",
        text(256),
        "values",
        strings(1, 1_000, 32_766),
        "exclude",
        Checks::bool
    );

    private static final Pattern EXPERIMENT_NAME = Pattern.compile("[A-Za-z0-9._-]{1,64}");

    private static final Map<String, Check> ARM = Map.of(
        "bundle",
        text(256),
        "weights",
        (path, value) -> object(path, value, WEIGHTS),
        "fusion",
        oneOf("weights", "rrf")
    );

    private static final Map<String, Check> ARMS = Map.of(
        "A",
        (path, value) -> object(path, value, ARM),
        "B",
        (path, value) -> object(path, value, ARM)
    );

    private static final Map<String, Check> EXPERIMENT = Map.of(
        "name",
        text(64),
        "mode",
        oneOf("ab", "interleave"),
        "arms",
        (path, value) -> object(path, value, ARMS),
        "share",
        number(0, 1)
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
        "color",
        text(256),
        "attributes",
        text(256)
    );

    /** How each option is checked, by its key. */
    static final Map<String, Check> BY_KEY = Map.ofEntries(
        Map.entry("enabled", Checks::bool),
        Map.entry("user_id", text(512)),
        Map.entry("query_text", text(Integer.MAX_VALUE)),
        Map.entry("similar_to", text(512)),
        Map.entry("window", integer(1, 10_000)),
        Map.entry("k", integer(1, 10_000)),
        Map.entry("filters", (path, value) -> object(path, value, FILTERS)),
        Map.entry("weights", (path, value) -> object(path, value, WEIGHTS)),
        Map.entry("min_score", number(0, 1)),
        Map.entry("explain", Checks::bool),
        Map.entry("bundle", text(256)),
        Map.entry("encoder", text(256)),
        Map.entry("deadline_ms", integer(0, 60_000)),
        Map.entry("timeout_ms", integer(1, 60_000)),
        Map.entry("max_reranked", integer(0, 10_000)),
        Map.entry("fusion", oneOf("weights", "rrf")),
        Map.entry("experiment", (path, value) -> experiment(path, value)),
        Map.entry("totals", oneOf("query", "both")),
        Map.entry("ef_search", integer(1, 10_000)),
        Map.entry("interests", integer(1, 8)),
        Map.entry("collaborative", Checks::bool),
        Map.entry("exclusions", Checks::bool),
        Map.entry("vector", Checks::bool),
        Map.entry("ignore_unmapped", Checks::bool),
        Map.entry("source_vectors", Checks::bool),
        Map.entry("vector_field", text(256)),
        Map.entry("text_fields", strings(0, Integer.MAX_VALUE, Integer.MAX_VALUE)),
        Map.entry("fields", (path, value) -> object(path, value, FIELDS))
    );

    private Checks() {}

    /** Reads an object of which every key is known. */
    static Map<String, Object> object(String path, Object value, Map<String, Check> checks) {
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

    private static Object experiment(String path, Object value) {
        Map<String, Object> read = object(path, value, EXPERIMENT);
        Object name = read.getOrDefault("name", "");
        if (!EXPERIMENT_NAME.matcher(name.toString()).matches()) {
            throw refused(path + ".name", name, "1 to 64 letters, digits, '.', '_' and '-'");
        }
        if (read.containsKey("share") && (Double) read.get("share") == 0) {
            throw refused(path + ".share", 0, "a number above 0, up to 1");
        }
        Map<?, ?> arms = read.get("arms") instanceof Map<?, ?> given ? given : Map.of();
        if (!arms.keySet().equals(ARMS.keySet())) {
            throw refused(path + ".arms", arms, "an object with the arms A, which is compared with, and B");
        }
        return read;
    }

    private static Object rules(String path, Object value) {
        if (!(value instanceof List<?> list)) {
            throw refused(path, value, "a list of rules like {\"name\": \"color\", \"values\": [\"black\"]}");
        }
        atMost(path, list.size(), MOST_RULES, "rules");
        List<Object> read = new ArrayList<>();
        for (int i = 0; i < list.size(); i++) {
            String at = path + "[" + i + "]";
            Map<String, Object> rule = object(at, list.get(i), RULE);
            if ("".equals(rule.getOrDefault("name", "")) || !rule.containsKey("values")) {
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
            String allowed = max == Double.MAX_VALUE ? "a finite number" : "a number from " + min + " to " + max;
            throw refused(path, value, allowed);
        };
    }

    private static Check text(int longest) {
        return (path, value) -> {
            // An id may well be a number in the caller's database.
            if (value instanceof String || value instanceof Integer || value instanceof Long) {
                String text = value.toString();
                atMost(path, text.length(), longest, "characters");
                return text;
            }
            throw refused(path, value, "a string");
        };
    }

    private static Check oneOf(String... allowed) {
        return (path, value) -> {
            if (Arrays.asList(allowed).contains(value)) {
                return value;
            }
            throw refused(path, value, "one of " + Arrays.toString(allowed));
        };
    }

    /** A list of strings, or one alone. */
    private static Check strings(int least, int most, int longest) {
        return (path, value) -> {
            List<?> list = value instanceof List<?> many ? many : Arrays.asList(value);
            if (list.size() < least) {
                throw refused(path, value, "a list of at least " + least + " string");
            }
            atMost(path, list.size(), most, "entries");
            List<String> read = new ArrayList<>();
            for (Object item : list) {
                if (!(item instanceof String || item instanceof Number || item instanceof Boolean)) {
                    throw refused(path, value, "a list of strings");
                }
                String text = item.toString();
                atMost(path + "[" + read.size() + "]", text.length(), longest, "characters");
                read.add(text);
            }
            return read;
        };
    }

    private static void atMost(String path, int received, int allowed, String unit) {
        if (received > allowed) {
            throw new IllegalArgumentException(
                path + " has " + received + " " + unit + "; allowed are at most " + allowed
            );
        }
    }

    private static IllegalArgumentException refused(String path, Object value, String allowed) {
        String kind = value == null ? "null" : value instanceof Map ? "object" : value instanceof List ? "list"
            : value instanceof String ? "string" : value instanceof Boolean ? "boolean" : "number";
        return new IllegalArgumentException(path + " is [" + value + "] (" + kind + "); allowed is " + allowed);
    }
}

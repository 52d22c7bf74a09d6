package org.neuralrank.search;

import java.text.Normalizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.StringJoiner;
import org.neuralrank.v1.Candidate;
import org.neuralrank.v1.StringList;
import org.opensearch.common.document.DocumentField;
import org.opensearch.common.xcontent.support.XContentMapValues;
import org.opensearch.index.seqno.SequenceNumbers;
import org.opensearch.search.SearchHit;

/** The hits of one search that are to be ranked, each under an id that no other has. */
final class Candidates {

    // The contract's limit.
    static final int MOST = 10_000;
    // Cross-encoders read some 512 tokens; more would only be carried. Sidecars say how much less they read.
    private static final int LONGEST_TEXT = 4_000;
    // Of all texts, in characters of three bytes: well below what a sidecar takes in one message (64 MiB).
    private static final int MOST_TEXT = 10_000_000;
    // The contract's limits of one candidate: a hit with more is cut, or the whole page would be refused.
    private static final int MOST_CATEGORIES = 100;
    private static final int MOST_ATTRIBUTES = 1_000;
    private static final int MOST_VALUES = 1_000;
    private static final int LONGEST_NAME = 1_024;
    private static final int LONGEST_VALUE = 32_766;

    /**
     * A hit to rank.
     *
     * @param id        unique among the candidates: the document's id, or index/id where several share it
     * @param isLexical whether the caller's own query found it
     */
    record Entry(String id, SearchHit hit, boolean isLexical) {}

    private final Map<String, Entry> byId = new LinkedHashMap<>();
    private final boolean scoresCount;
    private final boolean orderCounts;

    private Candidates(boolean scoresCount, boolean orderCounts) {
        this.scoresCount = scoresCount;
        this.orderCounts = orderCounts;
    }

    /**
     * The caller's hits and those neighbours that are not among them.
     *
     * @param lexical       the caller's hits
     * @param neighbours    hits of the vector leg
     * @param hasText       whether the caller's query searches for text. If it does not and all its scores are equal
     *                      (as of match_all), then they and its order say nothing: neighbours then come first and no
     *                      scores are sent
     * @param ofTaste       whether they are to be ranked by what a user likes. Then an order without scores, in which
     *                      neighbours of one interest take their turns after the other's, says nothing besides
     * @param collapseField the field that the caller's hits are collapsed by, or null
     */
    static Candidates of(
        SearchHit[] lexical,
        List<SearchHit> neighbours,
        boolean hasText,
        boolean ofTaste,
        String collapseField
    ) {
        boolean scoresCount = hasText
            || Arrays.stream(lexical).map(SearchHit::getScore).distinct().limit(2).count() > 1;
        Candidates candidates = new Candidates(scoresCount, !ofTaste);
        Set<String> found = new HashSet<>();
        Set<Object> collapsed = new HashSet<>();
        for (SearchHit hit : lexical) {
            found.add(key(hit));
            collapsed.add(collapseValue(hit, collapseField));
        }
        List<SearchHit> fresh = new ArrayList<>();
        for (SearchHit hit : neighbours) {
            boolean inNewGroup = collapseField == null || collapsed.add(collapseValue(hit, collapseField));
            if (!found.contains(key(hit)) && inNewGroup) {
                fresh.add(hit);
            }
        }
        if (scoresCount) {
            candidates.add(Arrays.asList(lexical), true);
            candidates.add(fresh, false);
        } else {
            // In the order of the vector leg, also where the caller's query happened to find them as well.
            Map<String, SearchHit> theirs = new HashMap<>();
            Arrays.stream(lexical).forEach(hit -> theirs.putIfAbsent(key(hit), hit));
            Set<String> freshKeys = new HashSet<>();
            fresh.forEach(hit -> freshKeys.add(key(hit)));
            Set<SearchHit> placed = Collections.newSetFromMap(new IdentityHashMap<>());
            for (SearchHit hit : neighbours) {
                SearchHit own = theirs.get(key(hit));
                if (own != null && placed.add(own)) {
                    candidates.add(List.of(own), true);
                } else if (own == null && freshKeys.contains(key(hit))) {
                    candidates.add(List.of(hit), false);
                }
            }
            candidates.add(Arrays.stream(lexical).filter(hit -> !placed.contains(hit)).toList(), true);
        }
        return candidates;
    }

    private void add(List<SearchHit> hits, boolean lexical) {
        for (SearchHit hit : hits) {
            if (byId.size() == MOST) {
                return;
            }
            String id = hit.getId();
            if (byId.containsKey(id)) {
                id = hit.getIndex() + "/" + hit.getId();
            }
            // The same id twice in one index: possible with custom routing, then told apart by the shard.
            for (int shard = 0; byId.containsKey(id); shard++) {
                id = hit.getIndex() + "/" + shard + "/" + hit.getId();
            }
            byId.put(id, new Entry(id, hit, lexical));
        }
    }

    /** What tells a document from all others of a search. */
    static String key(SearchHit hit) {
        return hit.getIndex() + '\0' + hit.getId();
    }

    /** The value that a hit was collapsed by; null is a value too: documents without one form a group. */
    static Object collapseValue(SearchHit hit, String field) {
        DocumentField value = field == null ? null : hit.field(field);
        return value == null ? null : value.getValue();
    }

    boolean isEmpty() {
        return byId.isEmpty();
    }

    int size() {
        return byId.size();
    }

    /** Null if there is none of that id. */
    Entry get(String id) {
        return byId.get(id);
    }

    Collection<Entry> all() {
        return byId.values();
    }

    /** Those that the caller's query did not bring. */
    List<SearchHit> neighbours() {
        return byId.values().stream().filter(entry -> !entry.isLexical()).map(Entry::hit).toList();
    }

    /**
     * As the contract has them.
     *
     * @param withIndex whether they may be of several indices that share ids
     * @param longest   characters of a text that are sent at most
     */
    List<Candidate> toMessages(ItemFields fields, boolean withIndex, int longest) {
        return byId.values().stream().map(entry -> toMessage(entry, fields, withIndex, longest)).toList();
    }

    private Candidate toMessage(Entry entry, ItemFields fields, boolean withIndex, int longest) {
        SearchHit hit = entry.hit();
        Candidate.Builder message = Candidate.newBuilder().setId(entry.id());
        if (!entry.id().equals(hit.getId())) {
            message.setItemId(hit.getId());
        }
        if (withIndex) {
            message.setIndex(hit.getIndex());
        }
        if (entry.isLexical() && scoresCount && Float.isFinite(hit.getScore())) {
            message.setRetrievalScore(hit.getScore());
        } else if (entry.isLexical() && !orderCounts) {
            // Equal scores of some: by the contract neither they nor the order count.
            message.setRetrievalScore(1);
        }
        if (hit.getSeqNo() != SequenceNumbers.UNASSIGNED_SEQ_NO) {
            message.setVersion(hit.getSeqNo());
        }
        if (!hit.hasSource()) {
            return message.build();
        }
        Map<String, Object> source = hit.getSourceAsMap();
        String text = beginning(text(source, fields.text(), Math.min(LONGEST_TEXT, MOST_TEXT / size())), longest);
        if (!text.isEmpty()) {
            message.setText(text);
        }
        List<String> brands = strings(at(source, fields.brand()));
        if (!brands.isEmpty()) {
            message.setBrand(cut(brands.get(0), LONGEST_NAME));
        }
        Double price = lowest(at(source, fields.price()));
        if (price != null) {
            message.setPrice(price);
        }
        Boolean inStock = inStock(at(source, fields.inStock()));
        if (inStock != null) {
            message.setInStock(inStock);
        }
        message.addAllCategory(some(at(source, fields.category()), MOST_CATEGORIES, LONGEST_NAME));
        // A field of its own, and an attribute to rules, as where the sidecar reads it.
        putAttribute(message, "color", at(source, fields.color()));
        if (at(source, fields.attributes()) instanceof Map<?, ?> attributes) {
            attributes.forEach((name, value) -> putAttribute(message, name.toString(), value));
        }
        if (brands.size() > 1) {
            putAttribute(message, "brand", brands); // Filters look at all of them there.
        }
        return message.build();
    }

    private static void putAttribute(Candidate.Builder message, String name, Object value) {
        List<String> values = some(value, MOST_VALUES, LONGEST_VALUE);
        // Not cut: no rule can ask for a longer name.
        if (!values.isEmpty() && name.length() <= LONGEST_NAME && message.getAttributesCount() < MOST_ATTRIBUTES) {
            message.putAttributes(name, StringList.newBuilder().addAllValues(values).build());
        }
    }

    private static String text(Map<String, Object> source, List<String> fields, int longest) {
        StringJoiner lines = new StringJoiner("\n");
        for (String field : fields) {
            String line = String.join(" ", strings(at(source, field))).strip();
            if (!line.isEmpty()) {
                lines.add(line);
            }
        }
        return cut(lines.toString(), longest);
    }

    /** By characters as the sidecar counts them: one may be two here, and one with its marks is one. */
    private static String beginning(String given, int characters) {
        if (given.codePointCount(0, given.length()) <= characters) {
            return given;
        }
        String text = Normalizer.normalize(given, Normalizer.Form.NFC);
        return text.codePointCount(0, text.length()) <= characters
            ? text
            : text.substring(0, text.offsetByCodePoints(0, characters));
    }

    private static String cut(String text, int longest) {
        if (text.length() <= longest) {
            return text;
        }
        // Never between the halves of a character that takes two.
        boolean splits = Character.isHighSurrogate(text.charAt(longest - 1));
        return text.substring(0, splits ? longest - 1 : longest);
    }

    /** What is at a path, of objects in a list that of each; null where there is nothing. */
    private static Object at(Map<String, Object> source, String path) {
        return source.containsKey(path) ? source.get(path) : XContentMapValues.extractValue(path, source);
    }

    private static List<String> strings(Object value) {
        return switch (value) {
            case null -> List.of();
            case Collection<?> many -> many.stream().flatMap(one -> strings(one).stream()).toList();
            case Map<?, ?> map -> map.values().stream().flatMap(one -> strings(one).stream()).toList();
            // 230.0 is 230, as rules say it.
            case Number number when isWhole(number.doubleValue()) -> List.of(Long.toString(number.longValue()));
            default -> value.toString().isBlank() ? List.of() : List.of(value.toString());
        };
    }

    private static boolean isWhole(double number) {
        return number == Math.rint(number) && Math.abs(number) < 1L << 53;
    }

    private static List<String> some(Object value, int most, int longest) {
        return strings(value).stream().limit(most).map(text -> cut(text, longest)).toList();
    }

    /** The lowest of the numbers in a field, from which on a product with variants is had; null without one. */
    private static Double lowest(Object value) {
        return value instanceof Collection<?> many
            ? many.stream().map(Candidates::lowest).filter(Objects::nonNull).min(Double::compare).orElse(null)
            : number(value);
    }

    /** Whether there is any of it, of variants any of one of them; null where nothing says so. */
    private static Boolean inStock(Object value) {
        return switch (value) {
            case Collection<?> many -> many.stream()
                .map(Candidates::inStock)
                .filter(Objects::nonNull)
                .reduce(Boolean::logicalOr)
                .orElse(null);
            case Boolean given -> given;
            case String given when given.equals("true") || given.equals("false") -> given.equals("true");
            case null, default -> {
                Double count = number(value);
                yield count == null ? null : count > 0;
            }
        };
    }

    private static Double number(Object value) {
        try {
            Double number = switch (value) {
                case Number given -> given.doubleValue();
                case String given -> Double.valueOf(given);
                case null, default -> null;
            };
            return number != null && Double.isFinite(number) ? number : null;
        } catch (NumberFormatException e) {
            return null;
        }
    }
}

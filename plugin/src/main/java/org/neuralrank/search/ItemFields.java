package org.neuralrank.search;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.neuralrank.options.Options;
import org.opensearch.common.regex.Regex;
import org.opensearch.search.fetch.subphase.FetchSourceContext;

/**
 * Which fields of a document the ranker reads.
 *
 * @param text       what is read as text, the most telling first
 * @param brand      and the following: the names of the fields that filters and explanations need
 */
record ItemFields(
    List<String> text,
    String brand,
    String price,
    String inStock,
    String category,
    String color,
    String attributes
) {

    private static final List<String> DEFAULT_TEXT = List.of(
        "title",
        "brand",
        "category",
        "attributes_text",
        "bullet_points",
        "description"
    );

    static ItemFields of(Options options) {
        List<String> text = options.strings("text_fields");
        Options fields = options.inner("fields");
        return new ItemFields(
            text == null ? DEFAULT_TEXT : text,
            fields.text("brand", "brand"),
            fields.text("price", "price"),
            fields.text("in_stock", "in_stock"),
            fields.text("category", "category"),
            fields.text("color", "color"),
            fields.text("attributes", "attributes")
        );
    }

    /**
     * Fields that {@code text_fields} and {@code fields} name and that a search did not fetch, so that the ranker can't
     * read them.
     *
     * @param options in force
     * @param fetched what the search fetched; null means everything
     */
    static List<String> notFetched(Options options, FetchSourceContext fetched) {
        if (fetched == null) {
            return List.of();
        }
        List<String> named = new ArrayList<>();
        if (options.has("text_fields")) {
            named.addAll(options.strings("text_fields"));
        }
        options.inner("fields").asMap().values().forEach(name -> named.add((String) name));
        return named.stream()
            .distinct()
            .filter(name -> !fetched.fetchSource() || fetched.getFilter().apply(Map.of(name, true)).isEmpty())
            .toList();
    }

    /** What a search for hits to rank fetches of their source; null means everything. */
    static FetchSourceContext toFetch(Options options, Asked asked, Indices.Target target) {
        // Named fields of a source that is not kept fail a search.
        return target.hasSource()
            ? of(options).fetch(asked.fetchSource(), asked.ubi("object_id_field"))
            : asked.fetchSource();
    }

    /**
     * What to fetch so that the ranker has its fields and the caller can still be given exactly what was asked.
     *
     * @param asked what the caller asked for; null means everything
     * @param also  fields that are needed beside the ranker's; empty names are none
     */
    FetchSourceContext fetch(FetchSourceContext asked, String... also) {
        if (asked == null || (asked.fetchSource() && asked.includes().length == 0 && asked.excludes().length == 0)) {
            return asked;
        }
        List<String> all = Stream.of(text, List.of(brand, price, inStock, category, color, attributes), List.of(also))
            .flatMap(List::stream)
            .filter(name -> !name.isEmpty())
            .distinct()
            .toList();
        if (!asked.fetchSource()) {
            return new FetchSourceContext(true, all.toArray(String[]::new), null);
        }
        List<String> includes = new ArrayList<>(Arrays.asList(asked.includes()));
        if (!includes.isEmpty()) {
            includes.addAll(all);
        }
        // Exclusions are kept as far as possible: they often keep large vectors away.
        List<String> excludes = Arrays.stream(asked.excludes())
            .filter(pattern -> all.stream().noneMatch(field -> hides(pattern, field)))
            .toList();
        return new FetchSourceContext(true, includes.toArray(String[]::new), excludes.toArray(String[]::new));
    }

    private static boolean hides(String pattern, String field) {
        return Regex.simpleMatch(pattern, field) || field.startsWith(pattern + ".") || pattern.startsWith(field + ".");
    }
}

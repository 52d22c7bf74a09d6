package org.neuralrank.search;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.neuralrank.options.ForeignSection;
import org.neuralrank.options.Options;
import org.neuralrank.options.RankSection;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.fetch.subphase.FetchSourceContext;

/**
 * What the caller asked for, before any processor changed the request.
 *
 * @param options     {@code ext.neural_rank}
 * @param queryText   what the user typed, empty for none; at most as long as the sidecar takes
 * @param userId      empty for nobody
 * @param similarTo   the item whose neighbours are asked for, empty for none
 * @param requestId   the UBI query id, empty for none
 * @param ubi         {@code ext.ubi}, empty without one
 * @param from        the first hit of the page, from 0
 * @param size        hits on the page
 * @param fetchSource what hits are to show of their source, null for everything
 * @param seqNo       whether hits are to show their sequence numbers
 * @param explain     whether they are to explain their score
 */
record Asked(
    Options options,
    String queryText,
    String userId,
    String similarTo,
    String requestId,
    Map<String, Object> ubi,
    int from,
    int size,
    FetchSourceContext fetchSource,
    boolean seqNo,
    boolean explain
) {

    private static final int DEFAULT_SIZE = 10;
    private static final int LONGEST_REQUEST_ID = 128;

    static Asked of(SearchRequest request) {
        SearchSourceBuilder source = request.source();
        Options options = Options.NONE;
        Map<String, SearchExtBuilder> sections = new HashMap<>();
        for (SearchExtBuilder section : source.ext()) {
            if (section instanceof RankSection own) {
                options = own.options();
            } else {
                sections.put(section.getWriteableName(), section);
            }
        }
        String similarTo = options.text("similar_to", "");
        String text = options.text("query_text", "");
        if (text.isBlank() && similarTo.isEmpty() && sections.containsKey("rerank")) {
            text = QueryText.ofRerankSection(sections.get("rerank"), request);
        }
        if (text.isBlank() && similarTo.isEmpty()) {
            text = QueryText.of(source.query());
        }
        String user = options.text("user_id", "");
        if (user.isEmpty()) {
            user = entry(sections, "personalize_request_parameters", "user_id");
        }
        Map<String, Object> ubi = sections.containsKey("ubi") ? ForeignSection.contentOf(sections.get("ubi")) : Map.of();
        if (user.isEmpty()) {
            user = text(ubi, "client_id");
        }
        String requestId = text(ubi, "query_id");
        return new Asked(
            options,
            QueryText.cut(text.strip()),
            user,
            similarTo,
            requestId.length() > LONGEST_REQUEST_ID ? "" : requestId,
            ubi,
            Math.max(source.from(), 0),
            source.size() < 0 ? DEFAULT_SIZE : source.size(),
            fetchSource(source),
            Boolean.TRUE.equals(source.seqNoAndPrimaryTerm()),
            Boolean.TRUE.equals(source.explain())
        );
    }

    /** The same, but of a source of which nothing was said hits don't show these fields. */
    Asked without(Set<String> fields) {
        if (fetchSource != null || fields.isEmpty()) {
            return this;
        }
        FetchSourceContext others = new FetchSourceContext(true, null, fields.toArray(String[]::new));
        return new Asked(options, queryText, userId, similarTo, requestId, ubi, from, size, others, seqNo, explain);
    }

    /** As OpenSearch has it where nothing was said: with stored or script fields, it leaves the source out. */
    static FetchSourceContext fetchSource(SearchSourceBuilder source) {
        if (source.fetchSource() != null) {
            return source.fetchSource();
        }
        if (source.storedFields() != null && source.storedFields().fieldNames() != null) {
            return source.storedFields().fieldNames().contains("_source")
                ? FetchSourceContext.FETCH_SOURCE
                : FetchSourceContext.DO_NOT_FETCH_SOURCE;
        }
        boolean scripts = source.scriptFields() != null && !source.scriptFields().isEmpty();
        return scripts ? FetchSourceContext.DO_NOT_FETCH_SOURCE : null;
    }

    private static String entry(Map<String, SearchExtBuilder> sections, String section, String key) {
        if (!sections.containsKey(section)) {
            return "";
        }
        return text(ForeignSection.contentOf(sections.get(section)), key);
    }

    private static String text(Map<String, Object> section, String key) {
        Object value = section.get(key);
        // UBI's user_query may be an object, with what was typed in its text.
        Object said = value instanceof Map<?, ?> inner ? inner.get("text") : value;
        return said == null ? "" : said.toString();
    }

    /** What {@code ext.ubi} says under a key, empty for nothing. */
    String ubi(String key) {
        return text(ubi, key);
    }

    /** The caller's own {@code query_attributes}. */
    @SuppressWarnings("unchecked")
    Map<String, Object> ubiAttributes() {
        return ubi.get("query_attributes") instanceof Map<?, ?> given ? (Map<String, Object>) given : Map.of();
    }

    /** Whether a user is all that there is to rank by: nothing is searched for, and no item is to be like another. */
    boolean isOfUserAlone() {
        return queryText.isEmpty() && similarTo.isEmpty() && !userId.isEmpty();
    }

    /** Whether there is anything at all to rank by, under the options in force. */
    boolean hasPurpose(Options inForce) {
        return !queryText.isEmpty()
            || !userId.isEmpty()
            || !similarTo.isEmpty()
            || inForce.filters()
            || inForce.has("min_score");
    }
}

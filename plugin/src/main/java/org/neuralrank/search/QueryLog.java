package org.neuralrank.search;

import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.function.BiConsumer;
import java.util.function.Predicate;
import org.neuralrank.Stats;
import org.opensearch.action.index.IndexRequest;
import org.opensearch.action.index.IndexResponse;
import org.opensearch.common.xcontent.support.XContentMapValues;
import org.opensearch.core.action.ActionListener;
import org.opensearch.search.SearchHit;

/**
 * Writes pages that took part in an experiment to {@code ubi_queries}, where a request says which page it is
 * ({@code ext.ubi.query_id}): who saw what, in which arm. UBI's own plugin writes what the request said, before anybody
 * knew the arm; both documents have the same {@code query_id}. No search waits for it, and none fails by it.
 */
public final class QueryLog {

    /** UBI's index of queries. */
    public static final String INDEX = "ubi_queries";

    private final BiConsumer<IndexRequest, ActionListener<IndexResponse>> indexing;
    private final Predicate<String> exists;
    private final Stats stats;
    private final Warnings warnings = new Warnings();

    /**
     * @param indexing how a document is written within the cluster
     * @param exists   whether there is such an index or alias
     */
    public QueryLog(
        BiConsumer<IndexRequest, ActionListener<IndexResponse>> indexing,
        Predicate<String> exists,
        Stats stats
    ) {
        this.indexing = indexing;
        this.exists = exists;
        this.stats = stats;
    }

    /** The ids that events have the hits of a page by: the values of the caller's field, else the documents' ids. */
    static List<String> ids(Asked asked, List<Ranking.Place> page) {
        String field = asked.ubi("object_id_field");
        return page.stream().map(place -> id(place.entry().hit(), field)).toList();
    }

    /**
     * Writes one page, if it took part and can be told from others.
     *
     * @param ids of its hits
     */
    void add(Asked asked, Trial trial, List<String> ids) {
        if (trial == null || !trial.tookPart() || asked.ubi("query_id").isEmpty()) {
            return;
        }
        if (!exists.test(INDEX)) {
            // Made by the first document, it would have other types than UBI's.
            failed("there is no index " + INDEX + "; `neuralrank config apply` makes it", null);
            return;
        }
        try {
            indexing.accept(new IndexRequest(INDEX).source(document(asked, trial, ids)), new ActionListener<>() {
                @Override
                public void onResponse(IndexResponse written) {
                    stats.logged(true);
                }

                @Override
                public void onFailure(Exception error) {
                    failed("it can't be written to", error);
                }
            });
        } catch (RuntimeException e) {
            failed("it can't be written to", e);
        }
    }

    private void failed(String why, Exception error) {
        stats.logged(false);
        warnings.notLogged(why, error);
    }

    private static Map<String, Object> document(Asked asked, Trial trial, List<String> ids) {
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("timestamp", Instant.now().toString());
        document.put("query_id", asked.ubi("query_id"));
        document.put("query_response_id", UUID.randomUUID().toString());
        String device = asked.ubi("client_id");
        // Who is known by their device only has no user_id in UBI.
        document.put("user_id", asked.userId().equals(device) ? "" : asked.userId());
        document.put("client_id", device);
        document.put("application", asked.ubi("application"));
        String typed = asked.ubi("user_query");
        document.put("user_query", typed.isEmpty() ? asked.queryText() : typed);
        document.values().removeIf(value -> value.equals(""));
        document.put("query_response_hit_ids", ids);
        Map<String, Object> attributes = new LinkedHashMap<>(asked.ubiAttributes());
        attributes.putAll(trial.attributes());
        document.put("query_attributes", attributes);
        return document;
    }

    private static String id(SearchHit hit, String field) {
        Object value = field.isEmpty() || !hit.hasSource()
            ? null
            : XContentMapValues.extractValue(field, hit.getSourceAsMap());
        return value == null ? hit.getId() : value.toString();
    }
}

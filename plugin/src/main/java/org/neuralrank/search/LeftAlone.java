package org.neuralrank.search;

import java.util.Locale;
import org.neuralrank.options.Options;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.sort.ScoreSortBuilder;
import org.opensearch.search.sort.SortOrder;

/** The kinds of search that are not re-ranked. */
public enum LeftAlone {
    DISABLED("ext.neural_rank.enabled is false"),
    GROUP("it is for the inner_hits of another search's collapsed hits"),
    CROSS_CLUSTER("another cluster merges these hits with its own"),
    SCROLL("a scroll reads everything in its own order"),
    SIZE_ZERO("size is 0"),
    SORT("the search is sorted by something other than _score"),
    SEARCH_AFTER("search_after needs the order of the index"),
    BEYOND_LIMIT("from + size is beyond index.max_result_window"),
    TOO_MANY("size is above 10,000, the most hits that are ranked together"),
    NO_IDS("stored_fields is _none_, so that hits have no id"),
    NOTHING_FOUND("nothing was found"),
    NOTHING_TO_RANK_BY("there is no query text, user, item or filter");

    private final String detail;

    LeftAlone(String detail) {
        this.detail = detail;
    }

    public String detail() {
        return detail;
    }

    /** As it is written in counters. */
    public String key() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** The reason to leave a search alone because of who sent it, what they said or its shape, or null. */
    static LeftAlone becauseOf(SearchRequest request, Options said, ThreadContext context) {
        if (Origin.isGroup(context)) {
            return GROUP;
        }
        if (CrossCluster.asks(context)) {
            return CROSS_CLUSTER;
        }
        if (!said.flag("enabled", true)) {
            return DISABLED;
        }
        SearchSourceBuilder source = request.source();
        if (request.scroll() != null) {
            return SCROLL;
        }
        if (source.size() == 0) {
            return SIZE_ZERO;
        }
        if (source.searchAfter() != null) {
            return SEARCH_AFTER;
        }
        if (source.sorts() != null) {
            boolean byScore = source.sorts()
                .stream()
                .allMatch(sort -> sort instanceof ScoreSortBuilder && sort.order() == SortOrder.DESC);
            if (!byScore) {
                return SORT;
            }
        }
        if (source.storedFields() != null && !source.storedFields().fetchFields()) {
            return NO_IDS;
        }
        return null;
    }
}

package org.neuralrank.search;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import org.apache.lucene.search.TotalHits;
import org.neuralrank.options.ReportSection;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.common.xcontent.support.XContentMapValues;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.index.seqno.SequenceNumbers;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;
import org.opensearch.search.aggregations.Aggregations;
import org.opensearch.search.aggregations.InternalAggregations;
import org.opensearch.search.fetch.subphase.FetchSourceContext;
import org.opensearch.search.internal.InternalSearchResponse;
import org.opensearch.search.profile.SearchProfileShardResults;

/** Rebuilds a response around other hits; everything else in it stays as it was. */
final class Page {

    private final SearchResponse response;
    private final Inquiry inquiry;

    Page(SearchResponse response, Inquiry inquiry) {
        this.response = response;
        this.inquiry = inquiry;
    }

    /** The caller's page of a list of hits. */
    <T> List<T> cut(List<T> all) {
        if (!inquiry.widened()) {
            return all;
        }
        int from = Math.min(inquiry.asked().from(), all.size());
        int to = Math.min(from + inquiry.asked().size(), all.size());
        return all.subList(from, to);
    }

    /**
     * The original order, cut to the page.
     *
     * @param after what of the page comes after the window
     */
    SearchResponse original(List<SearchHit> after, Report report) {
        SearchHits hits = response.getHits();
        List<SearchHit> page = new ArrayList<>(cut(List.of(hits.getHits())));
        page.addAll(after);
        return with(page, response, hits.getTotalHits(), hits.getMaxScore(), report);
    }

    /**
     * The new order.
     *
     * @param shown   the page
     * @param counted where totals and aggregations are taken from
     */
    SearchResponse ranked(
        Ranking ranking,
        List<Ranking.Place> shown,
        SearchResponse counted,
        Report report
    ) {
        boolean explain = inquiry.asked().explain();
        List<SearchHit> hits = new ArrayList<>();
        for (Ranking.Place place : shown) {
            SearchHit hit = place.entry().hit();
            hit.score(place.score());
            if (explain) {
                hit.explanation(Explained.of(place));
            }
            hits.add(hit);
        }
        float best = Float.NaN;
        for (Ranking.Place place : ranking.places()) {
            best = Float.isNaN(best) ? place.score() : Math.max(best, place.score());
        }
        TotalHits total = counted.getHits().getTotalHits();
        // Neighbours that the query did not find are hits too: a total below what is to be seen would lie.
        int reached = inquiry.widened() && !shown.isEmpty() ? inquiry.asked().from() + shown.size() : 0;
        int least = Math.max(ranking.places().size(), reached);
        if (total != null && total.value() < least) {
            total = new TotalHits(least, total.relation());
        }
        return with(hits, counted, total, best, report);
    }

    private SearchResponse with(
        List<SearchHit> page,
        SearchResponse counted,
        TotalHits total,
        float maxScore,
        Report report
    ) {
        SearchHits old = response.getHits();
        Object[] collapseValues = old.getCollapseField() == null ? null : collapseValues(old, page);
        if (inquiry.widened()) {
            page.forEach(this::restore);
        }
        SearchHits hits = new SearchHits(
            page.toArray(SearchHit[]::new),
            total,
            maxScore,
            old.getSortFields(),
            old.getCollapseField(),
            collapseValues
        );
        // Another report of ours, e.g. of a pipeline before this one, would be a second key of the same name.
        List<SearchExtBuilder> ext = new ArrayList<>(response.getInternalResponse().getSearchExtBuilders());
        ext.removeIf(section -> section instanceof ReportSection);
        ext.add(report.toSection());
        return of(response, hits, counted.getAggregations(), ext);
    }

    /** A response with other hits, aggregations and sections of {@code ext}; all else is as it was. */
    static SearchResponse of(
        SearchResponse response,
        SearchHits hits,
        Aggregations aggregations,
        List<SearchExtBuilder> ext
    ) {
        InternalSearchResponse rebuilt = new InternalSearchResponse(
            hits,
            (InternalAggregations) aggregations,
            response.getSuggest(),
            response.getProfileResults().isEmpty() ? null : new SearchProfileShardResults(response.getProfileResults()),
            response.isTimedOut(),
            response.isTerminatedEarly(),
            response.getNumReducePhases(),
            ext,
            response.getInternalResponse().getProcessorResult()
        );
        return new SearchResponse(
            rebuilt,
            response.getScrollId(),
            response.getTotalShards(),
            response.getSuccessfulShards(),
            response.getSkippedShards(),
            response.getTook().millis(),
            response.getPhaseTook(),
            response.getShardFailures(),
            response.getClusters(),
            response.pointInTimeId()
        );
    }

    private static Object[] collapseValues(SearchHits old, List<SearchHit> page) {
        Map<SearchHit, Object> values = new IdentityHashMap<>();
        for (int i = 0; i < old.getHits().length && i < old.getCollapseValues().length; i++) {
            values.put(old.getAt(i), old.getCollapseValues()[i]);
        }
        String field = old.getCollapseField();
        return page.stream()
            .map(hit -> values.containsKey(hit) ? values.get(hit) : Candidates.collapseValue(hit, field))
            .toArray();
    }

    /** Takes away what was only fetched for the ranker. */
    private void restore(SearchHit hit) {
        if (!inquiry.asked().seqNo()) {
            hit.setSeqNo(SequenceNumbers.UNASSIGNED_SEQ_NO);
            hit.setPrimaryTerm(SequenceNumbers.UNASSIGNED_PRIMARY_TERM);
        }
        FetchSourceContext asked = inquiry.asked().fetchSource();
        if (asked == null || !hit.hasSource()) {
            return;
        }
        if (!asked.fetchSource()) {
            hit.sourceRef(null);
        } else if (asked.includes().length > 0 || asked.excludes().length > 0) {
            Map<String, Object> all = hit.getSourceAsMap();
            Map<String, Object> kept = XContentMapValues.filter(all, asked.includes(), asked.excludes());
            try (XContentBuilder builder = XContentBuilder.builder(XContentType.JSON.xContent())) {
                hit.sourceRef(BytesReference.bytes(builder.map(kept)));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}

package org.neuralrank.search;

import java.io.IOException;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.neuralrank.options.ForeignSection;
import org.neuralrank.options.ReportSection;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.support.ActionFilter;
import org.opensearch.action.support.ActionFilterChain;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.tasks.Task;

/**
 * Has one {@code ext} in the responses of OpenSearch's UBI plugin. To a search with {@code ext.ubi} it answers with a
 * class of its own, which after all that OpenSearch writes writes an {@code ext} again: beside our report the key would
 * be there twice, where some parsers see one of the two and others refuse. What it writes there is put into the first.
 */
public final class UbiResponse implements ActionFilter {

    // Of a plugin that need not be installed: known by name only.
    private static final String CLASS = "UbiSearchResponse";
    private static final String EXT = "ext";

    @Override
    public int order() {
        // Before the UBI plugin's, which has the highest: so this one sees the response after it.
        return 0;
    }

    @Override
    public <Q extends ActionRequest, A extends ActionResponse> void apply(
        Task task,
        String action,
        Q request,
        ActionListener<A> listener,
        ActionFilterChain<Q, A> chain
    ) {
        // Every action of the node comes by here; only a search's answer is looked at.
        ActionListener<A> next = SearchAction.NAME.equals(action)
            ? ActionListener.delegateFailure(listener, (caller, response) -> caller.onResponse(withOneExt(response)))
            : listener;
        chain.proceed(task, action, request, next);
    }

    @SuppressWarnings("unchecked")
    private static <A extends ActionResponse> A withOneExt(A response) {
        if (response instanceof SearchResponse theirs && theirs.getClass().getSimpleName().equals(CLASS)) {
            List<SearchExtBuilder> sections = theirs.getInternalResponse().getSearchExtBuilders();
            if (sections.stream().anyMatch(section -> section instanceof ReportSection)) {
                try {
                    Map<String, Object> added = added(theirs, sections);
                    List<SearchExtBuilder> merged = sections.stream()
                        .map(section -> section instanceof ReportSection report ? report.beside(added) : section)
                        .toList();
                    return (A) Page.of(theirs, theirs.getHits(), theirs.getAggregations(), merged);
                } catch (IOException | RuntimeException e) {
                    return response; // As it was before: a hit is worth more than a tidy key.
                }
            }
        }
        return response;
    }

    /** What the response writes into {@code ext} beside the sections that OpenSearch knows of. */
    @SuppressWarnings("unchecked")
    private static Map<String, Object> added(SearchResponse response, List<SearchExtBuilder> sections)
        throws IOException {
        Set<String> known = new HashSet<>();
        for (SearchExtBuilder section : sections) {
            ForeignSection.written(section).keySet().forEach(key -> known.add(EXT + "." + key));
        }
        try (
            XContentBuilder json = XContentBuilder.builder(XContentType.JSON.xContent(), Set.of(EXT), known)
        ) {
            response.toXContent(json, ToXContent.EMPTY_PARAMS);
            Map<String, Object> left = XContentHelper.convertToMap(BytesReference.bytes(json), false, XContentType.JSON)
                .v2();
            return (Map<String, Object>) left.getOrDefault(EXT, Map.of());
        }
    }
}

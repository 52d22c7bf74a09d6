package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.Test;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.search.MultiSearchAction;
import org.opensearch.action.search.MultiSearchRequest;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.support.ActionFilterChain;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.core.tasks.TaskId;
import org.opensearch.tasks.Task;

public class OriginTest {

    private final ThreadContext context = new ThreadContext(Settings.EMPTY);
    private final Origin filter = new Origin(context, "this-node");

    @Test
    public void whatASearchNamesIsKnownWithinIt() {
        List<String> seen = new ArrayList<>();
        ActionFilterChain<ActionRequest, SearchResponse> inner = (task, action, request, listener) -> seen.add(
            Origin.pipeline(context)
        );
        ActionFilterChain<ActionRequest, SearchResponse> outer = (task, action, request, listener) -> {
            seen.add(Origin.pipeline(context));
            filter.apply(task, SearchAction.NAME, new SearchRequest(), listener, inner);
            seen.add(Origin.pipeline(context));
        };
        assertNull(Origin.pipeline(context));
        filter.apply(null, SearchAction.NAME, new SearchRequest().pipeline("bare"), null, outer);
        assertEquals(List.of("bare", "", "bare"), seen);
        assertNull(Origin.pipeline(context));
    }

    @Test
    public void theTaskOfASearchIsKnownWithinIt() {
        List<String> seen = new ArrayList<>();
        ActionFilterChain<ActionRequest, SearchResponse> inner = (task, action, request, listener) -> seen.add(
            Origin.task(context).toString()
        );
        ActionFilterChain<ActionRequest, SearchResponse> outer = (task, action, request, listener) -> {
            seen.add(Origin.task(context).toString());
            filter.apply(task(8), SearchAction.NAME, new SearchRequest(), listener, inner);
            filter.apply(null, SearchAction.NAME, new SearchRequest(), listener, inner);
            seen.add(Origin.task(context).toString());
        };
        filter.apply(task(7), SearchAction.NAME, new SearchRequest(), null, outer);
        assertEquals(List.of("this-node:7", "this-node:8", "unset", "this-node:7"), seen);
        assertFalse(Origin.task(context).isSet());
    }

    private static Task task(long id) {
        return new SearchRequest().createTask(id, "transport", SearchAction.NAME, TaskId.EMPTY_TASK_ID, Map.of());
    }

    @Test
    public void onlySearchesThatOpenSearchSendsForASearchAreOfGroups() {
        List<Boolean> seen = new ArrayList<>();
        ActionFilterChain<ActionRequest, SearchResponse> search = (task, action, request, listener) -> filter.apply(
            task,
            SearchAction.NAME,
            new SearchRequest(),
            listener,
            (innerTask, innerAction, innerRequest, innerListener) -> seen.add(Origin.isGroup(context))
        );
        MultiSearchRequest several = new MultiSearchRequest();
        filter.apply(null, MultiSearchAction.NAME, several, null, search);
        several.setParentTask(new TaskId("node", 1));
        filter.apply(null, MultiSearchAction.NAME, several, null, search);
        // As where a group's search is collapsed in itself.
        ActionFilterChain<ActionRequest, SearchResponse> nested = (task, action, request, listener) -> filter.apply(
            task,
            action,
            request,
            listener,
            search
        );
        filter.apply(null, MultiSearchAction.NAME, several, null, nested);
        SearchRequest child = new SearchRequest();
        child.setParentTask(new TaskId("node", 1));
        filter.apply(null, SearchAction.NAME, child, null, search);
        assertEquals(List.of(false, true, true, false), seen);
        assertFalse(Origin.isGroup(context));
    }
}

package org.neuralrank.search;

import java.util.Set;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.support.ActionFilter;
import org.opensearch.action.support.ActionFilterChain;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.tasks.Task;

/** Remembers the pipeline that a search names: processors only see a copy of the request that does not say. */
public final class NamedPipeline implements ActionFilter {

    private static final String MARK = "neural_rank.pipeline";

    private final ThreadContext context;

    public NamedPipeline(ThreadContext context) {
        this.context = context;
    }

    /** What the search of now names, empty for nothing; null where that is not known. */
    static String of(ThreadContext context) {
        return context.getTransient(MARK);
    }

    @Override
    public int order() {
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
        if (!SearchAction.NAME.equals(action) || !(request instanceof SearchRequest search)) {
            chain.proceed(task, action, request, listener);
            return;
        }
        // A search within a search, such as for neighbours, goes through another pipeline or none.
        try (ThreadContext.StoredContext ignored = context.newStoredContext(true, Set.of(MARK))) {
            context.putTransient(MARK, search.pipeline() == null ? "" : search.pipeline());
            chain.proceed(task, action, request, listener);
        }
    }
}

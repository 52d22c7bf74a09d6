package org.neuralrank.search;

import java.util.Set;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.search.MultiSearchAction;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.support.ActionFilter;
import org.opensearch.action.support.ActionFilterChain;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.core.tasks.TaskId;
import org.opensearch.tasks.Task;

/**
 * Remembers of a search what processors, which only see a copy of its request, can't: the pipeline that it names, its
 * task, and whether OpenSearch itself sent it.
 */
public final class Origin implements ActionFilter {

    private static final String PIPELINE = "neural_rank.pipeline";
    private static final String TASK = "neural_rank.task";
    private static final String GROUP = "neural_rank.group";

    private final ThreadContext context;
    private final String localNode;

    /** @param localNode the id of this node */
    public Origin(ThreadContext context, String localNode) {
        this.context = context;
        this.localNode = localNode;
    }

    /** What the search of now names, empty for nothing; null where that is not known. */
    static String pipeline(ThreadContext context) {
        return context.getTransient(PIPELINE);
    }

    /** The task of the search of now, or one that is not set where that is not known. */
    static TaskId task(ThreadContext context) {
        TaskId task = context.getTransient(TASK);
        return task == null ? TaskId.EMPTY_TASK_ID : task;
    }

    /** Whether the search of now is for the {@code inner_hits} of a group of another search's collapsed hits. */
    static boolean isGroup(ThreadContext context) {
        return context.getTransient(GROUP) != null;
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
        if (MultiSearchAction.NAME.equals(action) && request.getParentTask().isSet()) {
            // A client's own has no parent. Those of a collapse name no pipeline, whatever the search that they are a
            // part of went through: the index's default would have each group ranked.
            try (ThreadContext.StoredContext ignored = context.newStoredContext(true, Set.of(GROUP))) {
                context.putTransient(GROUP, true);
                chain.proceed(task, action, request, listener);
            }
        } else if (SearchAction.NAME.equals(action) && request instanceof SearchRequest search) {
            // A search within a search, such as for neighbours, has a task and a pipeline of its own, or none.
            try (ThreadContext.StoredContext ignored = context.newStoredContext(true, Set.of(PIPELINE, TASK))) {
                context.putTransient(PIPELINE, search.pipeline() == null ? "" : search.pipeline());
                if (task != null) {
                    context.putTransient(TASK, new TaskId(localNode, task.getId()));
                }
                chain.proceed(task, action, request, listener);
            }
        } else {
            chain.proceed(task, action, request, listener);
        }
    }
}

package org.neuralrank.search;

import org.opensearch.action.ActionRequest;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.support.ActionFilter;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.core.action.ActionListener;

/**
 * Tells apart the searches that another cluster sends as its part of a cross-cluster search. It may lack this plugin,
 * and could then not read our report; and it merges the hits with others by their scores, which after ranking would be
 * no longer of one kind. So they are left as they are; whoever merges may rank.
 *
 * <p>Processors only see a copy of the request that does not say where it came from.
 */
public final class CrossCluster extends ActionFilter.Simple {

    private static final String MARK = "neural_rank.from_another_cluster";

    private final ThreadContext context;

    public CrossCluster(ThreadContext context) {
        this.context = context;
    }

    /** Whether the search of now is one. */
    static boolean asks(ThreadContext context) {
        return context.getTransient(MARK) != null;
    }

    @Override
    public int order() {
        return 0;
    }

    @Override
    protected boolean apply(String action, ActionRequest request, ActionListener<?> listener) {
        // Searches of this cluster's own clients come by HTTP, and are coordinated by the node that they come to.
        if (SearchAction.NAME.equals(action) && request.remoteAddress() != null && !asks(context)) {
            context.putTransient(MARK, true);
        }
        return true;
    }
}

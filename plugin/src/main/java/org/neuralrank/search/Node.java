package org.neuralrank.search;

import io.grpc.Metadata;
import java.util.function.BiConsumer;
import java.util.function.BiFunction;
import java.util.function.IntSupplier;
import org.neuralrank.Stats;
import org.neuralrank.sidecar.CallerHeaders;
import org.neuralrank.sidecar.Sidecar;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.support.ContextPreservingActionListener;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.tasks.TaskCancelledException;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.Transports;

/**
 * What the node lends to every processor; one for the node's life.
 *
 * @param sidecar   the ranking service
 * @param indices   what is known of a search's indices and of their vector field
 * @param pipelines what is known of a search's pipeline, if it names this one
 * @param searching how a search is sent within the cluster
 * @param registry  parses query clauses of whichever plugins are installed
 * @param queryLog  where pages of experiments are written down
 * @param timeoutMs the node's setting, where a pipeline has none
 */
public record Node(
    Sidecar sidecar,
    BiFunction<SearchRequest, String, Indices.Target> indices,
    BiFunction<SearchRequest, String, Pipelines.Rest> pipelines,
    BiConsumer<SearchRequest, ActionListener<SearchResponse>> searching,
    NamedXContentRegistry registry,
    ThreadPool threadPool,
    Stats stats,
    QueryLog queryLog,
    IntSupplier timeoutMs
) {

    /** The thread pool that runs what follows a call. */
    public static final String POOL = "neural_rank";

    /** What the search of now carries on to the sidecar. */
    Metadata callerHeaders() {
        return CallerHeaders.of(threadPool.getThreadContext());
    }

    /**
     * Searches within the cluster, as a part of the search of now: what cancels that cancels this too. The listener is
     * called in the thread context of now.
     */
    void search(SearchRequest request, ActionListener<SearchResponse> listener) {
        request.setParentTask(Origin.task(threadPool.getThreadContext()));
        ActionListener<SearchResponse> here = inThisContext(listener);
        try {
            searching.accept(request, here);
        } catch (TaskCancelledException e) {
            here.onFailure(e); // What this is a part of was cancelled just now.
        }
    }

    /**
     * Runs work here, or on the pool where this thread belongs to the network, as where what came last is from another
     * node: its connections would wait while hits are read. In the thread context of now in either case.
     */
    void offNetwork(Runnable work) {
        if (Transports.isTransportThread(Thread.currentThread())) {
            threadPool.executor(POOL).execute(work);
        } else {
            work.run();
        }
    }

    /** The same listener, called in the thread context of now: gRPC's threads have none. */
    <T> ActionListener<T> inThisContext(ActionListener<T> listener) {
        return ContextPreservingActionListener.wrapPreservingContext(listener, threadPool.getThreadContext());
    }
}

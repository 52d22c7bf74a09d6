package org.neuralrank.sidecar;

import io.grpc.Metadata;
import java.util.List;
import java.util.Locale;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.tasks.Task;

/**
 * What a search carries that its calls of the sidecar carry on: the caller's trace (W3C Trace Context) and its
 * {@code X-Opaque-Id}, which the sidecar takes for the request's id.
 */
public final class CallerHeaders {

    /** Headers of a REST request that OpenSearch is to keep with the search; it keeps {@code X-Opaque-Id} by itself. */
    public static final List<String> KEPT = List.of("traceparent", "tracestate");

    private static final int MOST_CHARACTERS = 512; // What the specification wants of tracestate at least.

    private CallerHeaders() {}

    /** Those that the search of this thread came with. */
    public static Metadata of(ThreadContext context) {
        Metadata headers = new Metadata();
        for (String name : KEPT) {
            put(headers, name, context.getHeader(name));
        }
        put(headers, Task.X_OPAQUE_ID.toLowerCase(Locale.ROOT), context.getHeader(Task.X_OPAQUE_ID));
        return headers;
    }

    private static void put(Metadata headers, String name, String value) {
        // Metadata is printable ASCII; what is not would fail the call, and no page is to be lost for a trace.
        if (value != null && value.length() <= MOST_CHARACTERS && value.chars().allMatch(c -> c >= ' ' && c <= '~')) {
            headers.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
        }
    }
}

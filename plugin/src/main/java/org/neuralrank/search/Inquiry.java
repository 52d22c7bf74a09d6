package org.neuralrank.search;

import java.io.IOException;
import org.neuralrank.options.Options;
import org.opensearch.core.xcontent.ToXContentObject;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.search.pipeline.PipelineProcessingContext;

/**
 * What {@code neural_recall} leaves for {@code neural_rank} about one search.
 *
 * <p>A {@code template} query writes all that a pipeline's processors leave as JSON, to fill its variables with it, and
 * fails where it can't. This is an empty object to it.
 *
 * @param asked         what the caller asked for
 * @param recallOptions the options of {@code neural_recall}, without the caller's
 * @param leftAlone     why the search is left alone, null if it is not
 * @param widened       whether more was fetched than the page, and other fields
 * @param target        the indices
 * @param recall        the vector leg, null without one
 */
record Inquiry(
    Asked asked,
    Options recallOptions,
    LeftAlone leftAlone,
    boolean widened,
    Indices.Target target,
    Recall recall
) implements ToXContentObject {

    private static final String ATTRIBUTE = "neural_rank.inquiry";
    private static final String DONE = "neural_rank.done";

    static Inquiry in(PipelineProcessingContext context) {
        return (Inquiry) context.getAttribute(ATTRIBUTE);
    }

    void putInto(PipelineProcessingContext context) {
        context.setAttribute(ATTRIBUTE, this);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return builder.startObject().endObject();
    }

    /** Whether an earlier {@code neural_rank} of the same pipeline has handled the search; says so from now on. */
    static boolean alreadyHandled(PipelineProcessingContext context) {
        boolean handled = context.getAttribute(DONE) != null;
        context.setAttribute(DONE, true);
        return handled;
    }
}

package org.neuralrank.search;

import java.util.Map;
import org.neuralrank.options.Options;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.core.action.ActionListener;
import org.opensearch.search.pipeline.AbstractProcessor;
import org.opensearch.search.pipeline.PipelineProcessingContext;
import org.opensearch.search.pipeline.SearchResponseProcessor;

/**
 * {@code neural_rank}: has the hits ranked by the sidecar, in time or not at all. Without {@code neural_recall} in the
 * same pipeline it ranks the hits that the caller's query fetched.
 */
public final class RankProcessor extends AbstractProcessor implements SearchResponseProcessor {

    /** The name in a pipeline's definition. */
    public static final String TYPE = "neural_rank";

    private final Node node;
    private final Warnings warnings;
    private final Options config;

    RankProcessor(String tag, String description, boolean ignoreFailure, Options config, Node node, Warnings warnings) {
        super(tag, description, ignoreFailure);
        this.config = config;
        this.node = node;
        this.warnings = warnings;
    }

    /** Makes processors from the pipeline's configuration; calls nobody, so validating a pipeline costs nothing. */
    public static Factory<SearchResponseProcessor> factory(Node node) {
        // One for all pipelines: an ad-hoc pipeline comes with every search and would never be silenced.
        Warnings warnings = new Warnings();
        return (factories, tag, description, ignoreFailure, config, context) -> new RankProcessor(
            tag,
            description,
            ignoreFailure,
            options(config),
            node,
            warnings
        );
    }

    private static Options options(Map<String, Object> config) {
        Options options = Options.parse(config, Options.RANK_KEYS, TYPE);
        config.clear();
        return options;
    }

    @Override
    public String getType() {
        return TYPE;
    }

    @Override
    public SearchResponse processResponse(SearchRequest request, SearchResponse response) {
        throw new UnsupportedOperationException("neural_rank is asynchronous");
    }

    @Override
    public void processResponseAsync(
        SearchRequest request,
        SearchResponse response,
        PipelineProcessingContext context,
        ActionListener<SearchResponse> listener
    ) {
        if (Inquiry.alreadyHandled(context)) {
            listener.onResponse(response);
            return;
        }
        Inquiry inquiry;
        Options options;
        Rerank rerank;
        try {
            inquiry = Inquiry.in(context);
            if (inquiry == null) {
                inquiry = withoutRecall(request);
            }
            if (inquiry.leftAlone() == LeftAlone.GROUP) {
                listener.onResponse(response); // A part of a search, which says for itself what came of it.
                return;
            }
            if (inquiry.leftAlone() == LeftAlone.CROSS_CLUSTER) {
                node.stats().request();
                node.stats().leftAlone(inquiry.leftAlone().key());
                listener.onResponse(response); // Without a report, which the other cluster may not be able to read.
                return;
            }
            options = inquiry.recallOptions().overriddenBy(config).overriddenBy(inquiry.asked().options());
            rerank = new Rerank(node, warnings, inquiry, options, request, response, listener);
        } catch (RuntimeException e) {
            warnings.defect(e);
            listener.onResponse(response);
            return;
        }
        if (inquiry.leftAlone() == null) {
            try {
                options.mustAgree(inquiry.asked().options());
            } catch (IllegalArgumentException e) {
                listener.onFailure(e); // 400, as for options that are bad by themselves.
                return;
            }
        }
        rerank.start();
    }

    private Inquiry withoutRecall(SearchRequest request) {
        Asked asked = Asked.of(request);
        LeftAlone leftAlone = LeftAlone.becauseOf(request, asked.options(), node.threadPool().getThreadContext());
        if (leftAlone == null && asked.size() > Candidates.MOST) {
            leftAlone = LeftAlone.TOO_MANY; // Those beyond would be missing on the page.
        }
        Indices.Target target = node.indices().apply(request, VectorLeg.DEFAULT_FIELD);
        return new Inquiry(asked, Options.NONE, leftAlone, false, target, null);
    }
}

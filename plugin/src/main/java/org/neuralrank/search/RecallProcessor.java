package org.neuralrank.search;

import java.util.List;
import java.util.Map;
import org.neuralrank.options.ForeignSection;
import org.neuralrank.options.Options;
import org.neuralrank.options.RankSection;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.core.action.ActionListener;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.pipeline.AbstractProcessor;
import org.opensearch.search.pipeline.PipelineProcessingContext;
import org.opensearch.search.pipeline.SearchRequestProcessor;

/**
 * {@code neural_recall}: widens the window of the caller's query and, beside it, starts a search for the neighbours
 * of the query's, user's or item's vector. It waits for nothing and never fails a search; {@code neural_rank} of the
 * same pipeline joins both, and cuts the window back to the page.
 */
public final class RecallProcessor extends AbstractProcessor implements SearchRequestProcessor {

    /** The name in a pipeline's definition. */
    public static final String TYPE = "neural_recall";

    private static final int DEFAULT_WINDOW = 100;

    private final Node node;
    private final Warnings warnings;
    private final Options config;

    RecallProcessor(
        String tag,
        String description,
        boolean ignoreFailure,
        Options config,
        Node node,
        Warnings warnings
    ) {
        super(tag, description, ignoreFailure);
        this.config = config;
        this.node = node;
        this.warnings = warnings;
    }

    /** Makes processors from the pipeline's configuration; calls nobody, so validating a pipeline costs nothing. */
    public static Factory<SearchRequestProcessor> factory(Node node) {
        Warnings warnings = new Warnings();
        return (factories, tag, description, ignoreFailure, config, context) -> new RecallProcessor(
            tag,
            description,
            ignoreFailure,
            options(config),
            node,
            warnings
        );
    }

    private static Options options(Map<String, Object> config) {
        Options options = Options.parse(config, Options.RECALL_KEYS, TYPE);
        config.clear();
        return options;
    }

    @Override
    public String getType() {
        return TYPE;
    }

    @Override
    public SearchRequest processRequest(SearchRequest request) {
        throw new UnsupportedOperationException("neural_recall is asynchronous");
    }

    @Override
    public void processRequestAsync(
        SearchRequest request,
        PipelineProcessingContext context,
        ActionListener<SearchRequest> listener
    ) {
        try {
            prepare(request, context);
        } catch (RuntimeException e) {
            warnings.defect(e);
        }
        listener.onResponse(request);
    }

    private void prepare(SearchRequest request, PipelineProcessingContext context) {
        if (Inquiry.in(context) != null) {
            return; // A second neural_recall would take the widened window for the caller's page.
        }
        if (request.source() == null) {
            request.source(new SearchSourceBuilder());
        }
        Asked asked = Asked.of(request);
        Options options = config.overriddenBy(asked.options());
        Indices.Target target = node.indices().apply(request, options.text("vector_field", VectorLeg.DEFAULT_FIELD));
        int window = Math.min(options.integer("window", DEFAULT_WINDOW), target.maxResultWindow());
        LeftAlone leftAlone = LeftAlone.becauseOf(request, asked.options(), node.threadPool().getThreadContext());
        if (leftAlone == null && (long) asked.from() + asked.size() > target.maxResultWindow()) {
            leftAlone = LeftAlone.BEYOND_LIMIT;
        }
        Pipelines.Rest rest = node.pipelines()
            .apply(request, Origin.pipeline(node.threadPool().getThreadContext()));
        // Filters of the pipeline are to see the whole window, also for who asks for nothing.
        boolean widen = leftAlone == null && (asked.hasPurpose(options) || rest.mayDrop());
        // Fields of a source that is not kept can't be named.
        if (widen && target.hasSource() && !options.flag("source_vectors", true)) {
            asked = asked.without(target.vectors());
        }
        Recall recall = null;
        if (widen && options.flag("vector", true)) {
            int timeoutMs = options.integer("timeout_ms", node.timeoutMs().getAsInt());
            // Half of the time, so that Rank always has the other half.
            int budgetMs = Math.max(1, timeoutMs / 2);
            recall = VectorLeg.ofTexts(node, options, asked, target, rest).start(request, budgetMs);
            if (!asked.similarTo().isEmpty()) {
                Indices.Target photos = node.indices().apply(request, Indices.PHOTOS);
                // Not every index has photos, and nothing is lacking without them.
                if (photos.hasVectors()) {
                    recall = recall.with(
                        VectorLeg.ofPhotos(node, options, asked, photos, rest).start(request, budgetMs)
                    );
                }
            }
        }
        // The source may be shared with other requests, and is not ours to change.
        SearchSourceBuilder source = request.source().shallowCopy().ext(withoutOurs(request.source().ext()));
        if (widen) {
            source.from(0)
                .size(window)
                .seqNoAndPrimaryTerm(true)
                .fetchSource(ItemFields.toFetch(options, asked, target));
        }
        request.source(source);
        new Inquiry(asked, config, leftAlone, widen, target, recall).putInto(context);
    }

    /** Sections that only this plugin reads stay here: shards don't need them, nor nodes that lack the plugin. */
    private static List<SearchExtBuilder> withoutOurs(List<SearchExtBuilder> sections) {
        return sections.stream()
            .filter(section -> !(section instanceof RankSection) && !(section instanceof ForeignSection))
            .toList();
    }
}

package org.neuralrank.search;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.cluster.ClusterState;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.common.settings.Settings;
import org.opensearch.core.index.Index;
import org.opensearch.index.IndexSettings;
import org.opensearch.search.pipeline.PipelineConfiguration;
import org.opensearch.search.pipeline.SearchPipelineMetadata;

/** Looks up what the pipeline of a search does after {@code neural_recall}, which is asked before. */
public final class Pipelines {

    private static final String NONE = "_none";
    // Far more than a cluster has; reached only by very many, and then all are read again.
    private static final int CACHED = 1_000;
    /** Request processors that leave alone which documents are searched for. */
    private static final Set<String> HARMLESS = Set.of(
        "acl_routing_search",
        "hierarchical_routing_search",
        RecallProcessor.TYPE,
        "neural_query_enricher",
        "neural_sparse_two_phase_processor",
        "oversample",
        "script",
        "temporal_routing_search"
    );

    /**
     * What comes after {@code neural_recall}.
     *
     * @param mayDrop           whether {@code neural_rank} may drop hits whoever searches, for filters of its own
     * @param excludesPurchased whether it drops what the user has bought, where the request does not say
     * @param later             request processors that may ask for more than the query as {@code neural_recall} sees it
     */
    public record Rest(boolean mayDrop, boolean excludesPurchased, Set<String> later) {
        /** Nothing is known, as of a pipeline that came with the search. */
        public static final Rest UNKNOWN = new Rest(true, false, Set.of());
    }

    private final Supplier<ClusterState> clusterState;
    private final IndexNameExpressionResolver resolver;
    private final Map<PipelineConfiguration, Rest> known = new ConcurrentHashMap<>();

    /** @param clusterState the state of now */
    public Pipelines(Supplier<ClusterState> clusterState, IndexNameExpressionResolver resolver) {
        this.clusterState = clusterState;
        this.resolver = resolver;
    }

    /**
     * What is known of the pipeline that a search goes through.
     *
     * @param named the one that it names, empty for none, null where that is not known
     */
    public Rest of(SearchRequest request, String named) {
        try {
            return look(request, named);
        } catch (RuntimeException e) {
            return Rest.UNKNOWN; // The search itself will say what is wrong, or another cluster knows its indices.
        }
    }

    private Rest look(SearchRequest request, String named) {
        boolean isAdHoc = request.source() != null && request.source().searchPipelineSource() != null;
        ClusterState state = clusterState.get();
        SearchPipelineMetadata pipelines = state.metadata().custom(SearchPipelineMetadata.TYPE);
        if (named == null || isAdHoc || pipelines == null) {
            return Rest.UNKNOWN;
        }
        String name = named.isEmpty() ? usual(state, request) : named;
        PipelineConfiguration definition = pipelines.getPipelines().get(name);
        if (definition == null) {
            return Rest.UNKNOWN;
        }
        if (known.size() > CACHED) {
            known.clear();
        }
        return known.computeIfAbsent(definition, found -> read(found.getConfigAsMap()));
    }

    /** The default of the indices, where they have one and no two, as OpenSearch has it. */
    private String usual(ClusterState state, SearchRequest request) {
        String name = NONE;
        for (Index index : resolver.concreteIndices(state, request)) {
            IndexMetadata metadata = state.metadata().index(index);
            Settings settings = metadata == null ? Settings.EMPTY : metadata.getSettings();
            if (IndexSettings.DEFAULT_SEARCH_PIPELINE.exists(settings)) {
                String its = IndexSettings.DEFAULT_SEARCH_PIPELINE.get(settings);
                if (!name.equals(NONE) && !name.equals(its)) {
                    return NONE;
                }
                name = its;
            }
        }
        return name;
    }

    private static Rest read(Map<String, Object> definition) {
        Set<String> later = new TreeSet<>();
        boolean isAfter = false;
        for (Map.Entry<?, ?> processor : processors(definition, "request_processors")) {
            if (isAfter && !HARMLESS.contains(processor.getKey())) {
                later.add((String) processor.getKey());
            }
            isAfter |= RecallProcessor.TYPE.equals(processor.getKey());
        }
        List<? extends Map<?, ?>> ranks = processors(definition, "response_processors").stream()
            .filter(processor -> RankProcessor.TYPE.equals(processor.getKey()))
            .map(Map.Entry::getValue)
            .filter(Map.class::isInstance)
            .map(config -> (Map<?, ?>) config)
            .toList();
        boolean mayDrop = ranks.stream()
            .anyMatch(config -> config.containsKey("filters") || config.containsKey("min_score"));
        boolean excludesPurchased = ranks.stream()
            .anyMatch(
                config -> config.get("filters") instanceof Map<?, ?> filters
                    && Boolean.TRUE.equals(filters.get("exclude_purchased"))
            );
        return new Rest(mayDrop, excludesPurchased, later);
    }

    private static List<? extends Map.Entry<?, ?>> processors(Map<String, Object> definition, String kind) {
        return definition.get(kind) instanceof List<?> listed
            ? listed.stream().flatMap(one -> ((Map<?, ?>) one).entrySet().stream()).toList()
            : List.of();
    }
}

package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertTrue;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.Before;
import org.junit.Test;
import org.opensearch.Version;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.cluster.ClusterName;
import org.opensearch.cluster.ClusterState;
import org.opensearch.cluster.metadata.AliasMetadata;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.metadata.Metadata;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.core.common.bytes.BytesArray;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.pipeline.PipelineConfiguration;
import org.opensearch.search.pipeline.SearchPipelineMetadata;

public class PipelinesTest {

    private static final String RECALL = "{\"neural_recall\":{}}";
    private static final String ONLY_APPLE = "{\"filter_query\":{\"query\":{\"term\":{\"brand\":\"Apple\"}}}}";

    private Pipelines pipelines;

    private static PipelineConfiguration pipeline(String name, String request, String rank) {
        String json = "{\"request_processors\":[" + request + "],"
            + "\"response_processors\":[{\"truncate_hits\":{}},{\"neural_rank\":" + rank + "}]}";
        return new PipelineConfiguration(name, new BytesArray(json), XContentType.JSON);
    }

    private static IndexMetadata.Builder index(String name, String pipeline) {
        return IndexMetadata.builder(name)
            .settings(
                Settings.builder()
                    .put(IndexMetadata.SETTING_VERSION_CREATED, Version.CURRENT)
                    .put(IndexMetadata.SETTING_INDEX_UUID, name + "-uuid")
                    .put("index.search.default_pipeline", pipeline)
            )
            .numberOfShards(1)
            .numberOfReplicas(0)
            .putAlias(AliasMetadata.builder("alias-of-" + name));
    }

    @Before
    public void build() {
        Map<String, PipelineConfiguration> defined = new HashMap<>();
        defined.put("bare", pipeline("bare", RECALL, "{\"bundle\":\"none\"}"));
        defined.put("filters", pipeline("filters", ONLY_APPLE + "," + RECALL, "{\"filters\":{\"max_price\":5}}"));
        defined.put("unbought", pipeline("unbought", RECALL, "{\"filters\":{\"exclude_purchased\":true}}"));
        defined.put("least", pipeline("least", RECALL, "{\"min_score\":0.5}"));
        defined.put("later", pipeline("later", RECALL + ",{\"oversample\":{}}," + ONLY_APPLE, "{}"));
        ClusterState state = ClusterState.builder(new ClusterName("c"))
            .metadata(
                Metadata.builder()
                    .put(index("one", "bare"))
                    .put(index("two", "later"))
                    .putCustom(SearchPipelineMetadata.TYPE, new SearchPipelineMetadata(defined))
            )
            .build();
        pipelines = new Pipelines(() -> state, new IndexNameExpressionResolver(new ThreadContext(Settings.EMPTY)));
    }

    private Pipelines.Rest named(String name) {
        return pipelines.of(new SearchRequest("one").source(new SearchSourceBuilder()), name);
    }

    private Pipelines.Rest usual(String... indices) {
        return pipelines.of(new SearchRequest(indices).source(new SearchSourceBuilder()), "");
    }

    @Test
    public void whetherItMayDropHitsIsRead() {
        assertFalse(named("bare").mayDrop());
        assertTrue(named("filters").mayDrop());
        assertTrue(named("least").mayDrop());
    }

    @Test
    public void whetherItDropsWhatWasBoughtIsRead() {
        assertFalse(named("bare").excludesPurchased());
        assertFalse(named("filters").excludesPurchased());
        assertTrue(named("unbought").excludesPurchased());
    }

    @Test
    public void whatMayAskForMoreIsWhatComesAfterRecall() {
        assertEquals(Set.of(), named("filters").later());
        assertEquals(Set.of("filter_query"), named("later").later());
    }

    @Test
    public void theDefaultOfTheIndicesIsTakenWhereNoneIsNamed() {
        assertFalse(usual("alias-of-one").mayDrop());
        assertEquals(Set.of("filter_query"), usual("two").later());
    }

    @Test
    public void whatIsNotKnownMayDropHits() {
        assertSame(Pipelines.Rest.UNKNOWN, named("nowhere"));
        assertSame(Pipelines.Rest.UNKNOWN, named(null));
        assertSame(Pipelines.Rest.UNKNOWN, usual("missing"));
        assertSame(Pipelines.Rest.UNKNOWN, usual("elsewhere:one"));
        assertSame("no default holds for both", Pipelines.Rest.UNKNOWN, usual("one", "two"));
        SearchSourceBuilder adHoc = new SearchSourceBuilder().searchPipelineSource(new HashMap<>());
        assertSame(Pipelines.Rest.UNKNOWN, pipelines.of(new SearchRequest("one").source(adHoc), ""));
    }
}

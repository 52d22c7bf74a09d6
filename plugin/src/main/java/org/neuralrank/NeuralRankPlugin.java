package org.neuralrank;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.neuralrank.nodes.HealthAction;
import org.neuralrank.nodes.NodesEndpoint;
import org.neuralrank.nodes.StatsAction;
import org.neuralrank.options.ForeignSection;
import org.neuralrank.options.RankSection;
import org.neuralrank.options.ReportSection;
import org.neuralrank.search.CrossCluster;
import org.neuralrank.search.Indices;
import org.neuralrank.search.Node;
import org.neuralrank.search.Origin;
import org.neuralrank.search.Pipelines;
import org.neuralrank.search.QueryLog;
import org.neuralrank.search.RankProcessor;
import org.neuralrank.search.RecallProcessor;
import org.neuralrank.search.UbiResponse;
import org.neuralrank.sidecar.CallerHeaders;
import org.neuralrank.sidecar.Sidecar;
import org.neuralrank.vectors.PackedVectors;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.support.ActionFilter;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.node.DiscoveryNodes;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.IndexScopedSettings;
import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.settings.SettingsFilter;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.common.util.concurrent.OpenSearchExecutors;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.env.Environment;
import org.opensearch.env.NodeEnvironment;
import org.opensearch.index.mapper.MetadataFieldMapper;
import org.opensearch.plugins.ActionPlugin;
import org.opensearch.plugins.MapperPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.plugins.ReloadablePlugin;
import org.opensearch.plugins.SearchPipelinePlugin;
import org.opensearch.plugins.SearchPlugin;
import org.opensearch.repositories.RepositoriesService;
import org.opensearch.rest.RestController;
import org.opensearch.rest.RestHandler;
import org.opensearch.rest.RestHeaderDefinition;
import org.opensearch.script.ScriptService;
import org.opensearch.search.pipeline.Processor;
import org.opensearch.search.pipeline.SearchRequestProcessor;
import org.opensearch.search.pipeline.SearchResponseProcessor;
import org.opensearch.threadpool.ExecutorBuilder;
import org.opensearch.threadpool.ScalingExecutorBuilder;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.client.Client;
import org.opensearch.watcher.ResourceWatcherService;

/**
 * What OpenSearch loads: registers the processors, the {@code ext} sections, the settings, the indexing of packed
 * vectors, and what is seen of it.
 */
public final class NeuralRankPlugin extends Plugin
    implements
        SearchPipelinePlugin,
        SearchPlugin,
        MapperPlugin,
        ActionPlugin,
        ReloadablePlugin {

    private final Stats stats = new Stats();
    private final Settings settings;
    // Set once, while the node is built and before anything can search.
    private Node node;
    private SidecarAccess access;
    private Origin origin;

    /** @param settings of the node */
    public NeuralRankPlugin(Settings settings) {
        this.settings = settings;
    }

    @Override
    public List<Setting<?>> getSettings() {
        return NodeSettings.all();
    }

    @Override
    public Settings additionalSettings() {
        return Settings.builder().put("node.attr." + PackedVectors.ATTRIBUTE, true).build();
    }

    @Override
    public Map<String, MetadataFieldMapper.TypeParser> getMetadataMappers() {
        return Map.of(PackedVectors.NAME, PackedVectors.PARSER);
    }

    @Override
    public List<ExecutorBuilder<?>> getExecutorBuilders(Settings nodeSettings) {
        // Scaling, because it never refuses a callback: a callback refused is a search that never ends.
        int most = Math.max(2, OpenSearchExecutors.allocatedProcessors(nodeSettings));
        return List.of(new ScalingExecutorBuilder(Node.POOL, 1, most, TimeValue.timeValueMinutes(5)));
    }

    @Override
    public Collection<Object> createComponents(
        Client client,
        ClusterService cluster,
        ThreadPool threadPool,
        ResourceWatcherService resourceWatcherService,
        ScriptService scriptService,
        NamedXContentRegistry xContentRegistry,
        Environment environment,
        NodeEnvironment nodeEnvironment,
        NamedWriteableRegistry namedWriteableRegistry,
        IndexNameExpressionResolver indexNameExpressionResolver,
        Supplier<RepositoriesService> repositoriesServiceSupplier
    ) {
        ClusterSettings dynamic = cluster.getClusterSettings();
        // The keystore is open only now; what follows `reload` gets it anew.
        access = new SidecarAccess(
            settings,
            environment.configDir(),
            changed -> threadPool.generic().execute(() -> node.sidecar().reconnect(changed))
        );
        Sidecar sidecar = new Sidecar(
            dynamic.get(NodeSettings.ENDPOINT),
            access.current(),
            threadPool.executor(Node.POOL),
            System::nanoTime,
            dynamic.get(NodeSettings.BREAKER_FAILURES),
            dynamic.get(NodeSettings.BREAKER_OPEN_MS)
        );
        dynamic.addSettingsUpdateConsumer(
            NodeSettings.ENDPOINT,
            endpoints -> threadPool.generic().execute(() -> sidecar.reconnect(endpoints))
        );
        dynamic.addSettingsUpdateConsumer(
            changed -> sidecar.configureBreakers(
                NodeSettings.BREAKER_FAILURES.get(changed),
                NodeSettings.BREAKER_OPEN_MS.get(changed)
            ),
            List.of(NodeSettings.BREAKER_FAILURES, NodeSettings.BREAKER_OPEN_MS)
        );
        AtomicInteger timeoutMs = new AtomicInteger(dynamic.get(NodeSettings.TIMEOUT_MS));
        dynamic.addSettingsUpdateConsumer(NodeSettings.TIMEOUT_MS, timeoutMs::set);
        threadPool.generic().execute(sidecar::warm);
        node = new Node(
            sidecar,
            new Indices(cluster::state, indexNameExpressionResolver, namedWriteableRegistry)::of,
            new Pipelines(cluster::state, indexNameExpressionResolver)::of,
            client::search,
            xContentRegistry,
            threadPool,
            stats,
            new QueryLog(
                client::index,
                name -> cluster.state().metadata().hasIndex(name) || cluster.state().metadata().hasAlias(name),
                stats
            ),
            timeoutMs::get
        );
        origin = new Origin(threadPool.getThreadContext(), nodeEnvironment.nodeId());
        try {
            access.watch(resourceWatcherService);
        } catch (IOException e) {
            throw new UncheckedIOException("the files of neural_rank.tls can't be watched", e);
        }
        // Returned components are closed with the node, and given to the actions.
        return List.of(sidecar, stats);
    }

    @Override
    public void reload(Settings withKeystore) {
        access.reload(withKeystore);
    }

    @Override
    public Map<String, Processor.Factory<SearchRequestProcessor>> getRequestProcessors(Parameters parameters) {
        return Map.of(RecallProcessor.TYPE, RecallProcessor.factory(node));
    }

    @Override
    public Map<String, Processor.Factory<SearchResponseProcessor>> getResponseProcessors(Parameters parameters) {
        return Map.of(RankProcessor.TYPE, RankProcessor.factory(node));
    }

    @Override
    public List<SearchExtSpec<?>> getSearchExts() {
        List<SearchExtSpec<?>> specs = new ArrayList<>();
        specs.add(new SearchExtSpec<>(RankSection.NAME, RankSection::new, RankSection::fromXContent));
        specs.add(new SearchExtSpec<>(ReportSection.NAME, ReportSection::new, ReportSection::fromXContent));
        for (String name : ForeignSections.accepted(settings)) {
            specs.add(
                new SearchExtSpec<>(
                    name,
                    in -> ForeignSection.read(name, in),
                    parser -> ForeignSection.fromXContent(name, parser)
                )
            );
        }
        return specs;
    }

    @Override
    public Collection<RestHeaderDefinition> getRestHeaders() {
        // Several values are joined, and the sidecar passes over what is then no trace: a strange header fails nothing.
        return CallerHeaders.KEPT.stream().map(name -> new RestHeaderDefinition(name, true)).toList();
    }

    @Override
    public List<ActionFilter> getActionFilters() {
        return List.of(new CrossCluster(node.threadPool().getThreadContext()), origin, new UbiResponse());
    }

    @Override
    public List<ActionHandler<? extends ActionRequest, ? extends ActionResponse>> getActions() {
        return List.of(
            new ActionHandler<>(StatsAction.TYPE, StatsAction.class),
            new ActionHandler<>(HealthAction.TYPE, HealthAction.class)
        );
    }

    @Override
    public List<RestHandler> getRestHandlers(
        Settings nodeSettings,
        RestController restController,
        ClusterSettings clusterSettings,
        IndexScopedSettings indexScopedSettings,
        SettingsFilter settingsFilter,
        IndexNameExpressionResolver indexNameExpressionResolver,
        Supplier<DiscoveryNodes> nodesInCluster
    ) {
        return List.of(
            new NodesEndpoint("stats", StatsAction.TYPE),
            new NodesEndpoint("health", HealthAction.TYPE)
        );
    }
}

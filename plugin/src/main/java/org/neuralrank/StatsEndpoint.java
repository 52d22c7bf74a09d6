package org.neuralrank;

import java.util.List;
import java.util.function.Supplier;
import org.neuralrank.sidecar.Sidecar;
import org.opensearch.core.rest.RestStatus;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.rest.BaseRestHandler;
import org.opensearch.rest.BytesRestResponse;
import org.opensearch.rest.RestRequest;
import org.opensearch.transport.client.node.NodeClient;

/** {@code GET _plugins/_neural_rank/stats}: the counters of the node that answers, of no other. */
public final class StatsEndpoint extends BaseRestHandler {

    private final Supplier<String> nodeName;
    private final Stats stats;
    private final Supplier<Sidecar> sidecar;

    StatsEndpoint(Supplier<String> nodeName, Stats stats, Supplier<Sidecar> sidecar) {
        this.nodeName = nodeName;
        this.stats = stats;
        this.sidecar = sidecar;
    }

    @Override
    public String getName() {
        return "neural_rank_stats";
    }

    @Override
    public List<Route> routes() {
        return List.of(new Route(RestRequest.Method.GET, "/_plugins/_neural_rank/stats"));
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
        return channel -> {
            try (XContentBuilder builder = channel.newBuilder()) {
                builder.startObject();
                builder.field("node", nodeName.get());
                builder.mapContents(stats.asMap());
                builder.mapContents(sidecar.get().states());
                builder.endObject();
                channel.sendResponse(new BytesRestResponse(RestStatus.OK, builder));
            }
        };
    }
}

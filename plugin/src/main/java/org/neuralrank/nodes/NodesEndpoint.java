package org.neuralrank.nodes;

import java.util.List;
import org.opensearch.action.ActionType;
import org.opensearch.core.common.Strings;
import org.opensearch.rest.BaseRestHandler;
import org.opensearch.rest.RestRequest;
import org.opensearch.rest.action.RestActions;
import org.opensearch.transport.client.node.NodeClient;

/** {@code GET _plugins/_neural_rank/NAME} of all nodes, and {@code …/NODES/NAME} of some. */
public final class NodesEndpoint extends BaseRestHandler {

    private final String name;
    private final ActionType<NodesReport> action;

    public NodesEndpoint(String name, ActionType<NodesReport> action) {
        this.name = name;
        this.action = action;
    }

    @Override
    public String getName() {
        return "neural_rank_" + name;
    }

    @Override
    public List<Route> routes() {
        return List.of(
            new Route(RestRequest.Method.GET, "/_plugins/_neural_rank/" + name),
            new Route(RestRequest.Method.GET, "/_plugins/_neural_rank/{nodeId}/" + name)
        );
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
        NodesRequest asked = new NodesRequest(Strings.splitStringByCommaToArray(request.param("nodeId")));
        asked.timeout(request.param("timeout"));
        return channel -> client.execute(action, asked, new RestActions.NodesResponseRestListener<>(channel));
    }
}

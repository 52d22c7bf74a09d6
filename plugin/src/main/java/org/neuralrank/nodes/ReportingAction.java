package org.neuralrank.nodes;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import org.opensearch.action.ActionType;
import org.opensearch.action.FailedNodeException;
import org.opensearch.action.support.ActionFilters;
import org.opensearch.action.support.nodes.TransportNodesAction;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.TransportService;

/** Has each node say something of itself. A node without this plugin is counted as failed. */
abstract class ReportingAction extends TransportNodesAction<
    NodesRequest,
    NodesReport,
    NodesRequest.OfOne,
    NodeReport> {

    ReportingAction(
        ActionType<NodesReport> type,
        String pool,
        ThreadPool threadPool,
        ClusterService cluster,
        TransportService transport,
        ActionFilters filters
    ) {
        super(
            type.name(),
            threadPool,
            cluster,
            transport,
            filters,
            NodesRequest::new,
            NodesRequest.OfOne::new,
            pool,
            NodeReport.class
        );
    }

    /** Of this node. */
    abstract Map<String, Object> report();

    /**
     * What the reports of all nodes come to.
     *
     * @param silent how many nodes were asked and have none
     */
    abstract Map<String, Object> summary(List<Map<String, Object>> reports, int silent);

    @Override
    protected NodesReport newResponse(
        NodesRequest request,
        List<NodeReport> nodes,
        List<FailedNodeException> failures
    ) {
        Map<String, Object> summary = summary(nodes.stream().map(NodeReport::content).toList(), failures.size());
        return new NodesReport(clusterService.getClusterName(), nodes, failures, summary);
    }

    @Override
    protected NodesRequest.OfOne newNodeRequest(NodesRequest request) {
        return new NodesRequest.OfOne();
    }

    @Override
    protected NodeReport newNodeResponse(StreamInput in) throws IOException {
        return new NodeReport(in);
    }

    @Override
    protected NodeReport nodeOperation(NodesRequest.OfOne request) {
        return new NodeReport(clusterService.localNode(), report());
    }
}

package org.neuralrank.nodes;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import org.opensearch.action.FailedNodeException;
import org.opensearch.action.support.nodes.BaseNodesResponse;
import org.opensearch.cluster.ClusterName;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;

/** What all nodes say, by node, after what it comes to. */
public final class NodesReport extends BaseNodesResponse<NodeReport> implements ToXContentFragment {

    private final Map<String, Object> summary;

    NodesReport(
        ClusterName cluster,
        List<NodeReport> nodes,
        List<FailedNodeException> failures,
        Map<String, Object> summary
    ) {
        super(cluster, nodes, failures);
        this.summary = summary;
    }

    NodesReport(StreamInput in) throws IOException {
        super(in);
        this.summary = in.readMap();
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        super.writeTo(out);
        out.writeMap(summary);
    }

    @Override
    protected List<NodeReport> readNodesFrom(StreamInput in) throws IOException {
        return in.readList(NodeReport::new);
    }

    @Override
    protected void writeNodesTo(StreamOutput out, List<NodeReport> nodes) throws IOException {
        out.writeList(nodes);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.mapContents(summary);
        builder.startObject("nodes");
        for (NodeReport node : getNodes()) {
            builder.startObject(node.getNode().getId());
            builder.field("name", node.getNode().getName());
            builder.mapContents(node.content());
            builder.endObject();
        }
        return builder.endObject();
    }
}

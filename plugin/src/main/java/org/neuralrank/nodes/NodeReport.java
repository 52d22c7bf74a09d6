package org.neuralrank.nodes;

import java.io.IOException;
import java.util.Map;
import org.opensearch.action.support.nodes.BaseNodeResponse;
import org.opensearch.cluster.node.DiscoveryNode;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;

/** What one node says: a map, so that nodes of different versions of this plugin understand each other. */
public final class NodeReport extends BaseNodeResponse {

    private final Map<String, Object> content;

    NodeReport(DiscoveryNode node, Map<String, Object> content) {
        super(node);
        this.content = content;
    }

    NodeReport(StreamInput in) throws IOException {
        super(in);
        this.content = in.readMap();
    }

    Map<String, Object> content() {
        return content;
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        super.writeTo(out);
        out.writeMap(content);
    }
}

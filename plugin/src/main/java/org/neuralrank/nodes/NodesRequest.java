package org.neuralrank.nodes;

import java.io.IOException;
import org.opensearch.action.support.nodes.BaseNodesRequest;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.transport.TransportRequest;

/** Asks nodes for their report: those that are named, or all. */
public final class NodesRequest extends BaseNodesRequest<NodesRequest> {

    public NodesRequest(String... nodes) {
        super(nodes);
    }

    NodesRequest(StreamInput in) throws IOException {
        super(in);
    }

    /** What one node is sent: there is nothing to say. */
    static final class OfOne extends TransportRequest {
        OfOne() {}

        OfOne(StreamInput in) throws IOException {
            super(in);
        }
    }
}

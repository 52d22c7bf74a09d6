package org.neuralrank.nodes;

import static org.junit.Assert.assertEquals;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.Test;
import org.neuralrank.Stats;
import org.opensearch.Version;
import org.opensearch.action.FailedNodeException;
import org.opensearch.cluster.ClusterName;
import org.opensearch.cluster.node.DiscoveryNode;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.common.xcontent.XContentFactory;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.common.transport.TransportAddress;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;

public class NodesReportTest {

    private static Map<String, Object> counters(int requests, long rankNanos) {
        Stats stats = new Stats();
        for (int i = 0; i < requests; i++) {
            stats.request();
            stats.took(Stats.Stage.RANK, rankNanos);
        }
        stats.failed("deadline");
        return stats.asMap();
    }

    @Test
    public void countersAreSummedAndTheLargestIsTheLargest() {
        Map<String, Object> other = counters(3, 9_000_000);
        Map<String, Object> total = StatsAction.total(List.of(counters(2, 5_000_000), other));
        assertEquals(5L, total.get("requests"));
        assertEquals(Map.of("deadline", 2L), total.get("failed"));
        Map<?, ?> latency = (Map<?, ?>) total.get("latency");
        assertEquals(Map.of("count", 5L, "total_ms", 37.0, "max_ms", 9.0), latency.get("rank"));
        assertEquals("what is summed stays as it was", 3L, other.get("requests"));
    }

    private static Map<String, Object> sees(boolean... serving) {
        Map<String, Object> sidecars = new LinkedHashMap<>();
        for (int i = 0; i < serving.length; i++) {
            sidecars.put("127.0.0.1:" + i, Map.of("serving", serving[i]));
        }
        return Map.of("sidecars", sidecars);
    }

    @Test
    public void theStatusIsThatOfTheNodeWhichSeesLeast() {
        assertEquals("green", HealthAction.status(List.of(sees(true, true), sees(true, true)), 0));
        assertEquals("yellow", HealthAction.status(List.of(sees(true, true), sees(false, true)), 0));
        assertEquals("red", HealthAction.status(List.of(sees(true, true), sees(false, false)), 0));
    }

    @Test
    public void nodesThatDoNotAnswerAreNotWell() {
        assertEquals("red", HealthAction.status(List.of(sees(true, true)), 1));
        assertEquals("red", HealthAction.status(List.of(), 0));
    }

    @Test
    public void aReportTravelsBetweenNodes() throws Exception {
        DiscoveryNode node = new DiscoveryNode(
            "one",
            "id-one",
            new TransportAddress(TransportAddress.META_ADDRESS, 9300),
            Map.of(),
            Set.of(),
            Version.CURRENT
        );
        NodesReport sent = new NodesReport(
            new ClusterName("shop"),
            List.of(new NodeReport(node, Map.of("counters", counters(1, 1_000)))),
            List.of(new FailedNodeException("id-two", "no such action", null)),
            Map.of("total", counters(1, 1_000))
        );
        BytesStreamOutput out = new BytesStreamOutput();
        sent.writeTo(out);
        NodesReport received = new NodesReport(out.bytes().streamInput());
        assertEquals(json(sent), json(received));
        assertEquals("id-two", received.failures().get(0).nodeId());
    }

    private static Map<String, Object> json(NodesReport report) throws Exception {
        try (XContentBuilder builder = XContentFactory.jsonBuilder()) {
            builder.startObject();
            report.toXContent(builder, ToXContent.EMPTY_PARAMS);
            String json = builder.endObject().toString();
            return XContentHelper.convertToMap(JsonXContent.jsonXContent, json, false);
        }
    }
}

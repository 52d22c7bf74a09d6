package org.neuralrank.nodes;

import java.util.List;
import java.util.Map;
import org.neuralrank.sidecar.Sidecar;
import org.opensearch.action.ActionType;
import org.opensearch.action.support.ActionFilters;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.inject.Inject;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.TransportService;

/** How each node finds each sidecar: it is asked now. */
public final class HealthAction extends ReportingAction {

    public static final ActionType<NodesReport> TYPE = new ActionType<>(
        "cluster:monitor/neural_rank/health",
        NodesReport::new
    );

    private static final long PATIENCE_MS = 2_000;

    private final Sidecar sidecar;

    @Inject
    public HealthAction(
        ThreadPool threadPool,
        ClusterService cluster,
        TransportService transport,
        ActionFilters filters,
        Sidecar sidecar
    ) {
        // It waits for the sidecars' answers, which the generic pool is for.
        super(TYPE, ThreadPool.Names.GENERIC, threadPool, cluster, transport, filters);
        this.sidecar = sidecar;
    }

    @Override
    Map<String, Object> report() {
        return Map.of("sidecars", sidecar.health(PATIENCE_MS));
    }

    @Override
    Map<String, Object> summary(List<Map<String, Object>> reports, int silent) {
        return Map.of("status", status(reports, silent));
    }

    /**
     * {@code green}: every node reaches every sidecar; {@code yellow}: every node reaches one; {@code red}: some node
     * reaches none, and its searches keep their original order, or did not answer; or there is no node.
     */
    static String status(List<Map<String, Object>> reports, int silent) {
        if (reports.isEmpty() || silent > 0) {
            return "red";
        }
        boolean all = true;
        for (Map<String, Object> report : reports) {
            long serving = 0;
            Map<?, ?> sidecars = (Map<?, ?>) report.get("sidecars");
            for (Object found : sidecars.values()) {
                serving += Boolean.TRUE.equals(((Map<?, ?>) found).get("serving")) ? 1 : 0;
            }
            if (serving == 0) {
                return "red";
            }
            all &= serving == sidecars.size();
        }
        return all ? "green" : "yellow";
    }
}

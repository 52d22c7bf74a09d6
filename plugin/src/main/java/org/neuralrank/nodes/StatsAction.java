package org.neuralrank.nodes;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.neuralrank.Stats;
import org.neuralrank.sidecar.Sidecar;
import org.opensearch.action.ActionType;
import org.opensearch.action.support.ActionFilters;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.inject.Inject;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.TransportService;

/** The counters of each node, and their sums. */
public final class StatsAction extends ReportingAction {

    public static final ActionType<NodesReport> TYPE = new ActionType<>(
        "cluster:monitor/neural_rank/stats",
        NodesReport::new
    );

    private static final String COUNTERS = "counters";

    private final Stats stats;
    private final Sidecar sidecar;

    @Inject
    public StatsAction(
        ThreadPool threadPool,
        ClusterService cluster,
        TransportService transport,
        ActionFilters filters,
        Stats stats,
        Sidecar sidecar
    ) {
        super(TYPE, ThreadPool.Names.MANAGEMENT, threadPool, cluster, transport, filters);
        this.stats = stats;
        this.sidecar = sidecar;
    }

    @Override
    Map<String, Object> report() {
        Map<String, Object> report = new LinkedHashMap<>();
        report.put(COUNTERS, stats.asMap());
        report.putAll(sidecar.states());
        return report;
    }

    @Override
    Map<String, Object> summary(List<Map<String, Object>> reports, int silent) {
        return Map.of("total", total(reports.stream().map(report -> (Map<?, ?>) report.get(COUNTERS)).toList()));
    }

    /** Sums, key by key; a key that begins with {@code max} gets the largest. */
    static Map<String, Object> total(List<? extends Map<?, ?>> maps) {
        Map<String, Object> total = new LinkedHashMap<>();
        for (Map<?, ?> map : maps) {
            map.forEach((key, value) -> total.merge(key.toString(), value, (a, b) -> merged(key.toString(), a, b)));
        }
        return total;
    }

    private static Object merged(String key, Object one, Object other) {
        if (one instanceof Map<?, ?> a && other instanceof Map<?, ?> b) {
            return total(List.of(a, b));
        }
        boolean largest = key.startsWith("max");
        if (one instanceof Long a && other instanceof Long b) {
            return largest ? Math.max(a, b) : a + b;
        }
        double a = ((Number) one).doubleValue();
        double b = ((Number) other).doubleValue();
        return largest ? Math.max(a, b) : a + b;
    }
}

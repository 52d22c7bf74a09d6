package org.neuralrank;

import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAccumulator;
import java.util.concurrent.atomic.LongAdder;

/** What this node's searches have come to since it started; counters only ever grow. */
public final class Stats {

    /** What is timed. */
    public enum Stage {
        ENCODE,
        RECALL,
        RANK,
        TOTAL
    }

    private static final class Timer {
        final LongAdder count = new LongAdder();
        final LongAdder micros = new LongAdder();
        final LongAccumulator longest = new LongAccumulator(Math::max, 0);
    }

    private final LongAdder requests = new LongAdder();
    private final LongAdder reranked = new LongAdder();
    private final LongAdder emptyPages = new LongAdder();
    private final Map<String, LongAdder> leftAlone = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> failed = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> degraded = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> experimentPages = new ConcurrentHashMap<>();
    private final Map<Stage, Timer> timers = new ConcurrentHashMap<>();

    /** A search reached the ranking step. */
    public void request() {
        requests.increment();
    }

    public void reranked() {
        reranked.increment();
    }

    /** There was nothing to rank. */
    public void emptyPage() {
        emptyPages.increment();
    }

    /** It was of a kind that is left alone. */
    public void leftAlone(String kind) {
        count(leftAlone, kind);
    }

    /** It kept its original order, although it should have been re-ranked. */
    public void failed(String reason) {
        count(failed, reason);
    }

    /** Its answer names this reason, re-ranked or not. */
    public void degraded(String reason) {
        count(degraded, reason);
    }

    /** A page of an experiment was written to the logs of queries, or could not be. */
    public void logged(boolean written) {
        count(experimentPages, written ? "logged" : "not_logged");
    }

    /** A stage took so long. */
    public void took(Stage stage, long nanos) {
        Timer timer = timers.computeIfAbsent(stage, key -> new Timer());
        timer.count.increment();
        timer.micros.add(nanos / 1_000);
        timer.longest.accumulate(nanos / 1_000);
    }

    /** The counters as they are written out. */
    public Map<String, Object> asMap() {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("requests", requests.sum());
        map.put("reranked", reranked.sum());
        map.put("empty_pages", emptyPages.sum());
        map.put("left_alone", sums(leftAlone));
        map.put("failed", sums(failed));
        map.put("degraded", sums(degraded));
        map.put("experiment_pages", sums(experimentPages));
        Map<String, Object> latency = new LinkedHashMap<>();
        for (Stage stage : Stage.values()) {
            Timer timer = timers.getOrDefault(stage, new Timer());
            latency.put(
                stage.name().toLowerCase(Locale.ROOT),
                Map.of(
                    "count",
                    timer.count.sum(),
                    "total_ms",
                    timer.micros.sum() / 1_000.0,
                    "max_ms",
                    timer.longest.get() / 1_000.0
                )
            );
        }
        map.put("latency", latency);
        return map;
    }

    private static void count(Map<String, LongAdder> counters, String key) {
        counters.computeIfAbsent(key, name -> new LongAdder()).increment();
    }

    private static Map<String, Long> sums(Map<String, LongAdder> counters) {
        Map<String, Long> sums = new TreeMap<>();
        counters.forEach((key, counter) -> sums.put(key, counter.sum()));
        return sums;
    }
}

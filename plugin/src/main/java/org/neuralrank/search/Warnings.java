package org.neuralrank.search;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.neuralrank.sidecar.Note;

/**
 * Failures in the log, at most one line a minute for each reason. Details, which may quote the sidecar, only appear
 * at DEBUG: no user's or item's id is to get into a log by itself.
 */
final class Warnings {

    private static final Logger LOGGER = LogManager.getLogger(Warnings.class);
    private static final long PAUSE_NANOS = TimeUnit.MINUTES.toNanos(1);

    private record Line(AtomicLong nextAt, AtomicLong unsaid) {}

    private final Map<String, Line> lines = new ConcurrentHashMap<>();

    void failed(Note note) {
        LOGGER.debug("a search was not re-ranked: {}: {}", note.reason().key(), note.detail());
        long unsaid = due(note.reason().key());
        if (unsaid >= 0) {
            LOGGER.warn(
                "a search kept its original order: {} ({} more of these since the last line);"
                    + " see GET _plugins/_neural_rank/stats",
                note.reason().key(),
                unsaid
            );
        }
    }

    /** A page of an experiment is missing in the logs; its report has one page less. */
    void notLogged(String why, Exception error) {
        long unsaid = due("not_logged");
        if (unsaid >= 0) {
            LOGGER.warn(
                "a page of an experiment was not logged: {} ({} more of these since the last line)",
                why,
                unsaid,
                error
            );
        }
    }

    /** A bug in the plugin itself. */
    void defect(Exception error) {
        long unsaid = due("defect");
        if (unsaid >= 0) {
            LOGGER.warn("neural_rank failed and left a search alone; please report this", error);
        }
    }

    /** How many lines were swallowed since the last one, or -1 if this one is to be swallowed. */
    private long due(String key) {
        long now = System.nanoTime();
        Line line = lines.computeIfAbsent(key, name -> new Line(new AtomicLong(now), new AtomicLong()));
        long at = line.nextAt.get();
        if (now - at >= 0 && line.nextAt.compareAndSet(at, now + PAUSE_NANOS)) {
            return line.unsaid.getAndSet(0);
        }
        line.unsaid.incrementAndGet();
        return -1;
    }
}

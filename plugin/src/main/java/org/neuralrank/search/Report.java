package org.neuralrank.search;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.neuralrank.options.ReportSection;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.v1.Explanation;
import org.neuralrank.v1.RankResponse;
import org.neuralrank.v1.RankedCandidate;
import org.neuralrank.v1.Weights;

/** Gathers what the response says about its ranking. */
final class Report {

    private final Map<Reason, List<Note>> notes = new EnumMap<>(Reason.class);
    private final Map<String, Object> content = new LinkedHashMap<>();
    private final Map<String, Object> took = new LinkedHashMap<>();
    private String encoder = "";

    Report() {
        content.put("reranked", false);
        content.put("degraded", List.of());
    }

    /**
     * Each thing once: where the vector leg and the ranking miss the same user, the leg has said so, and what it could
     * not do for that.
     */
    void note(Note note) {
        List<Note> said = notes.computeIfAbsent(note.reason(), reason -> new ArrayList<>());
        if (said.stream().noneMatch(other -> other.detail().endsWith(note.detail()))) {
            said.add(note);
        }
    }

    /** Each once, however many things it is the reason of. */
    Set<Reason> reasons() {
        return notes.keySet();
    }

    void vectors(Neighbours neighbours) {
        neighbours.notes().forEach(this::note);
        encoder = neighbours.encoder();
        if (neighbours.encodeNanos() > 0) {
            took("encode", neighbours.encodeNanos());
        }
        if (neighbours.searchNanos() > 0) {
            took("recall", neighbours.searchNanos());
        }
    }

    void took(String step, long nanos) {
        took.put(step, tenths(nanos / 1e6));
    }

    void candidates(int count) {
        content.put("candidates", count);
    }

    void ranking(Ranking ranking, List<Ranking.Place> page, int candidates, boolean explain) {
        ranking.notes().forEach(this::note);
        RankResponse reply = ranking.reply();
        content.put("reranked", true);
        content.put("candidates", candidates);
        content.put("dropped_count", candidates - ranking.places().size());
        Set<String> bundles = new LinkedHashSet<>();
        if (!encoder.isEmpty()) {
            bundles.add(encoder);
        }
        bundles.addAll(reply.getBundlesList());
        content.put("bundles", new ArrayList<>(bundles));
        List<Object> stages = new ArrayList<>();
        reply.getStagesList().forEach(stage -> {
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("name", stage.getName());
            entry.put("candidates", stage.getCandidates());
            entry.put("ms", tenths(stage.getMilliseconds()));
            stages.add(entry);
        });
        content.put("stages", stages);
        if (explain) {
            content.put("results", page.stream().map(Report::result).toList());
            List<Object> dropped = new ArrayList<>();
            reply.getDroppedList().forEach(drop -> {
                Map<String, Object> entry = new LinkedHashMap<>();
                entry.put("id", drop.getId());
                entry.put("reason", drop.getReason().name().replace("DROP_REASON_", "").toLowerCase(Locale.ROOT));
                entry.put("detail", drop.getDetail());
                dropped.add(entry);
            });
            content.put("dropped", dropped);
        }
    }

    /** What an experiment did with the page; null for none. */
    void trial(Trial trial) {
        if (trial != null) {
            content.put("experiment", trial.asMap());
        }
    }

    private static Map<String, Object> result(Ranking.Place place) {
        Map<String, Object> entry = new LinkedHashMap<>();
        entry.put("id", place.entry().id());
        entry.put("score", place.score());
        RankedCandidate result = place.result();
        if (result == null) {
            return entry;
        }
        entry.put("retrieval_position", result.getRetrievalPosition());
        if (!result.getTeam().isEmpty()) {
            entry.put("team", result.getTeam());
        }
        if (!result.hasExplanation()) {
            return entry;
        }
        Explanation said = result.getExplanation();
        if (said.hasRelevance()) {
            entry.put("relevance", said.getRelevance());
        }
        if (said.hasAffinity()) {
            entry.put("affinity", said.getAffinity());
        }
        if (said.hasRetrieval()) {
            entry.put("retrieval", said.getRetrieval());
        }
        if (said.hasCrossEncoderLogit()) {
            entry.put("cross_encoder_logit", said.getCrossEncoderLogit());
        }
        if (said.hasQuerySimilarity()) {
            entry.put("query_similarity", said.getQuerySimilarity());
        }
        if (said.hasUserSimilarity()) {
            entry.put("user_similarity", said.getUserSimilarity());
        }
        if (said.hasImageSimilarity()) {
            entry.put("image_similarity", said.getImageSimilarity());
        }
        if (said.hasNovelty()) {
            entry.put("novelty", said.getNovelty());
        }
        if (said.hasRetrievalScore()) {
            entry.put("retrieval_score", said.getRetrievalScore());
        }
        Map<String, Object> weights = new LinkedHashMap<>();
        Weights inForce = said.getWeights();
        if (inForce.hasRelevance()) {
            weights.put("relevance", inForce.getRelevance());
        }
        if (inForce.hasAffinity()) {
            weights.put("affinity", inForce.getAffinity());
        }
        if (inForce.hasRetrieval()) {
            weights.put("retrieval", inForce.getRetrieval());
        }
        if (inForce.hasCrossEncoder()) {
            weights.put("cross_encoder", inForce.getCrossEncoder());
        }
        if (inForce.hasDiversity()) {
            weights.put("diversity", inForce.getDiversity());
        }
        entry.put("weights", weights);
        entry.put("because_of", new ArrayList<>(said.getBecauseOfList()));
        entry.put("summary", said.getSummary());
        return entry;
    }

    ReportSection toSection() {
        List<Object> degraded = new ArrayList<>();
        notes.values().stream().flatMap(List::stream).forEach(note -> {
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("reason", note.reason().key());
            entry.put("detail", note.detail());
            degraded.add(entry);
        });
        content.put("degraded", degraded);
        if (!took.isEmpty()) {
            content.put("took_ms", took);
        }
        return new ReportSection(content);
    }

    private static double tenths(double milliseconds) {
        return Math.round(milliseconds * 10) / 10.0;
    }
}

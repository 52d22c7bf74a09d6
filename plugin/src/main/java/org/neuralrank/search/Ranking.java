package org.neuralrank.search;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.sidecar.SidecarException;
import org.neuralrank.v1.DroppedCandidate;
import org.neuralrank.v1.RankResponse;
import org.neuralrank.v1.RankedCandidate;
import org.opensearch.search.SearchHit;

/**
 * An order of the candidates, taken from a reply of which nothing is believed: ids must be known and come once,
 * scores must lie in [0, 1], and who is missing must have been dropped.
 *
 * @param places best first
 * @param notes  the sidecar's, and what was wrong with its reply
 * @param reply  for what is reported
 */
record Ranking(List<Place> places, List<Note> notes, RankResponse reply) {

    /**
     * One hit in its new place.
     *
     * @param result what the sidecar said of it, null if nothing usable
     */
    record Place(Candidates.Entry entry, float score, RankedCandidate result) {

        /** A hit that comes after all that were ranked. */
        static Place unranked(SearchHit hit) {
            return new Place(new Candidates.Entry(hit.getId(), hit, true), 0, null);
        }
    }

    /**
     * Reads a reply.
     *
     * @throws SidecarException if there is no usable score in it, although not everything was dropped
     */
    static Ranking of(Candidates candidates, RankResponse reply) throws SidecarException {
        List<Place> places = new ArrayList<>();
        Set<String> seen = new HashSet<>();
        int unusable = 0;
        for (RankedCandidate result : reply.getResultsList()) {
            Candidates.Entry entry = candidates.get(result.getId());
            float score = result.getScore();
            // Written so that NaN fails it.
            boolean usable = entry != null && score >= 0 && score <= 1;
            if (usable && seen.add(entry.id())) {
                places.add(new Place(entry, score, result));
            } else {
                unusable++;
            }
        }
        Set<String> dropped = new HashSet<>();
        for (DroppedCandidate drop : reply.getDroppedList()) {
            if (candidates.get(drop.getId()) != null && !seen.contains(drop.getId())) {
                dropped.add(drop.getId());
            } else {
                unusable++;
            }
        }
        List<Candidates.Entry> missing = candidates.all()
            .stream()
            .filter(entry -> !seen.contains(entry.id()) && !dropped.contains(entry.id()))
            .toList();
        // Without `explain` the dropped are only counted. If the count explains who is missing, they were dropped;
        // if it does not, nobody can tell who was, and showing too much beats an empty page.
        boolean allDropped = missing.size() <= (long) reply.getTotalDropped() - dropped.size();
        if (places.isEmpty() && !missing.isEmpty() && !allDropped) {
            throw new SidecarException(
                Reason.BAD_REPLY,
                "none of " + candidates.size() + " candidates has a usable score in the reply"
            );
        }
        List<Note> notes = new ArrayList<>();
        if (!allDropped) {
            missing.forEach(entry -> places.add(new Place(entry, 0, null)));
        }
        if (unusable > 0 || (!allDropped && !missing.isEmpty())) {
            int left = allDropped ? 0 : missing.size();
            notes.add(
                new Note(
                    Reason.BAD_REPLY,
                    unusable + " entries of the reply were unusable; " + left
                        + " candidates without a score follow in their original order"
                )
            );
        }
        reply.getDegradedList().forEach(note -> notes.add(new Note(Reason.of(note.getReason()), note.getDetail())));
        return new Ranking(places, notes, reply);
    }
}

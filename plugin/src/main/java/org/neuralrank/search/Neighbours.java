package org.neuralrank.search;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.opensearch.search.SearchHit;

/**
 * What the vector leg brought.
 *
 * @param hits        nearest first
 * @param notes       why there are none, or not all
 * @param encoder     the encoder that made the vector, as name@hash; empty if none did
 * @param encodeNanos time in Encode
 * @param searchNanos time in the k-NN search
 */
record Neighbours(List<SearchHit> hits, List<Note> notes, String encoder, long encodeNanos, long searchNanos) {

    static final Neighbours NONE = new Neighbours(List.of(), List.of(), "", 0, 0);

    static Neighbours none(Note why) {
        return new Neighbours(List.of(), List.of(why), "", 0, 0);
    }

    /** Whether there are some, and for lack of anything known of the user: what most have, in this order. */
    boolean areOfNobody() {
        return !hits.isEmpty() && notes.stream().anyMatch(note -> note.reason() == Reason.NO_USER);
    }

    /** All of these, taking turns, each hit and each note once. Their searches ran side by side. */
    static Neighbours turns(List<Neighbours> all) {
        int longest = all.stream().mapToInt(one -> one.hits.size()).max().orElse(0);
        Map<String, SearchHit> turns = new LinkedHashMap<>();
        for (int place = 0; place < longest; place++) {
            for (Neighbours one : all) {
                if (place < one.hits.size()) {
                    SearchHit hit = one.hits.get(place);
                    turns.putIfAbsent(Candidates.key(hit), hit);
                }
            }
        }
        return new Neighbours(
            List.copyOf(turns.values()),
            all.stream().flatMap(one -> one.notes.stream()).distinct().toList(),
            all.stream().map(Neighbours::encoder).filter(name -> !name.isEmpty()).findFirst().orElse(""),
            all.stream().mapToLong(Neighbours::encodeNanos).max().orElse(0),
            all.stream().mapToLong(Neighbours::searchNanos).max().orElse(0)
        );
    }

    Neighbours after(long encodeNanos, long searchNanos) {
        return new Neighbours(hits, notes, encoder, encodeNanos, searchNanos);
    }
}

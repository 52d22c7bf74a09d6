package org.neuralrank.search;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.neuralrank.sidecar.Note;
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

    /** Both, taking turns, each hit once. */
    Neighbours with(Neighbours others) {
        Map<String, SearchHit> turns = new LinkedHashMap<>();
        for (int place = 0; place < Math.max(hits.size(), others.hits.size()); place++) {
            for (List<SearchHit> list : List.of(hits, others.hits)) {
                if (place < list.size()) {
                    SearchHit hit = list.get(place);
                    turns.putIfAbsent(hit.getIndex() + '\0' + hit.getId(), hit);
                }
            }
        }
        return new Neighbours(
            List.copyOf(turns.values()),
            Stream.concat(notes.stream(), others.notes.stream()).toList(),
            encoder.isEmpty() ? others.encoder : encoder,
            Math.max(encodeNanos, others.encodeNanos),
            Math.max(searchNanos, others.searchNanos)
        );
    }

    Neighbours after(long encodeNanos, long searchNanos) {
        return new Neighbours(hits, notes, encoder, encodeNanos, searchNanos);
    }
}

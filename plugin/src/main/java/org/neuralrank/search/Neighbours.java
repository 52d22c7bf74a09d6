package org.neuralrank.search;

import java.util.List;
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

    Neighbours after(long encodeNanos, long searchNanos) {
        return new Neighbours(hits, notes, encoder, encodeNanos, searchNanos);
    }
}

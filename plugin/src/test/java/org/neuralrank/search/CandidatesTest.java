package org.neuralrank.search;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.Test;
import org.neuralrank.options.Options;
import org.neuralrank.v1.Candidate;
import org.opensearch.search.SearchHit;
import org.opensearch.search.fetch.subphase.FetchSourceContext;

public class CandidatesTest {

    private static final ItemFields FIELDS = ItemFields.of(Options.NONE);

    private static List<String> ids(Candidates candidates) {
        return candidates.all().stream().map(Candidates.Entry::id).toList();
    }

    @Test
    public void idsAreUniqueThoughDocumentsShareThem() {
        SearchHit[] hits = {
            Hits.hit("p-1", "a", 3, null),
            Hits.hit("p-2", "a", 2, null),
            Hits.hit("p-2", "a", 1, null) };
        assertEquals(List.of("a", "p-2/a", "p-2/0/a"), ids(Candidates.of(hits, List.of(), true, null)));
    }

    @Test
    public void neighboursFollowAndHaveNoRetrievalScore() {
        SearchHit[] lexical = { Hits.hit("a", 3), Hits.hit("b", 2) };
        Candidates candidates = Candidates.of(lexical, List.of(Hits.hit("b", 0.9f), Hits.hit("c", 0.8f)), true, null);
        assertEquals(List.of("a", "b", "c"), ids(candidates));
        List<Candidate> messages = candidates.toMessages(FIELDS);
        assertEquals(2f, messages.get(1).getRetrievalScore(), 0);
        assertFalse(messages.get(2).hasRetrievalScore());
        assertEquals(7, messages.get(2).getVersion());
    }

    @Test
    public void withoutTextTheOrderOfNeighboursCounts() {
        SearchHit[] everything = { Hits.hit("a", 1), Hits.hit("b", 1), Hits.hit("c", 1) };
        Candidates candidates = Candidates.of(
            everything,
            List.of(Hits.hit("z", 0.9f), Hits.hit("c", 0.8f)),
            false,
            null
        );
        assertEquals(List.of("z", "c", "a", "b"), ids(candidates));
        candidates.toMessages(FIELDS).forEach(message -> assertFalse(message.hasRetrievalScore()));
    }

    @Test
    public void withoutTextScoresThatDifferStillCount() {
        SearchHit[] popular = { Hits.hit("a", 9), Hits.hit("b", 1) };
        Candidates candidates = Candidates.of(popular, List.of(Hits.hit("z", 0.9f)), false, null);
        assertEquals(List.of("a", "b", "z"), ids(candidates));
        assertTrue(candidates.toMessages(FIELDS).get(0).hasRetrievalScore());
    }

    @Test
    public void aDocumentBecomesAMessage() {
        String source = "{\"title\":\"Mac\",\"brand\":\"Apple\",\"category\":[\"c1\",\"c2\"],\"price\":\"12.5\","
            + "\"in_stock\":false,\"attributes\":{\"color\":[\"black\",\"red\"],\"size\":13},\"description\":null,"
            + "\"bullet_points\":[\"x\",\"y\"]}";
        Candidates candidates = Candidates.of(
            new SearchHit[] { Hits.hit("p", "a", 1, source) },
            List.of(),
            true,
            null
        );
        Candidate message = candidates.toMessages(FIELDS).get(0);
        assertEquals("Mac\nApple\nc1 c2\nx y", message.getText());
        assertEquals("Apple", message.getBrand());
        assertEquals(12.5, message.getPrice(), 0);
        assertTrue(message.hasInStock());
        assertFalse(message.getInStock());
        assertEquals(List.of("c1", "c2"), message.getCategoryList());
        assertEquals(Set.of("color", "size"), message.getAttributesMap().keySet());
        assertEquals(List.of("black", "red"), message.getAttributesMap().get("color").getValuesList());
    }

    @Test
    public void fieldsOfAnyNameAndDepthAreRead() {
        ItemFields fields = ItemFields.of(
            Options.parse(
                Map.of("text_fields", List.of("doc.name"), "fields", Map.of("brand", "doc.maker")),
                Options.RANK_KEYS,
                "x"
            )
        );
        SearchHit hit = Hits.hit("p", "a", 1, "{\"doc\":{\"name\":\"N\",\"maker\":\"M\"},\"price\":\"on request\"}");
        Candidate message = Candidates.of(new SearchHit[] { hit }, List.of(), true, null).toMessages(fields).get(0);
        assertEquals("N", message.getText());
        assertEquals("M", message.getBrand());
        assertFalse(message.hasPrice());
    }

    @Test
    public void theRankersFieldsAreFetchedWhateverTheCallerWants() {
        assertNull(FIELDS.fetch(null));
        assertTrue(FIELDS.fetch(FetchSourceContext.DO_NOT_FETCH_SOURCE).fetchSource());
        assertTrue(List.of(FIELDS.fetch(FetchSourceContext.DO_NOT_FETCH_SOURCE).includes()).contains("title"));
        FetchSourceContext some = FIELDS.fetch(new FetchSourceContext(true, new String[] { "sku" }, null));
        assertTrue(List.of(some.includes()).containsAll(List.of("sku", "title", "price")));
        FetchSourceContext without = FIELDS.fetch(
            new FetchSourceContext(true, null, new String[] { "text_vector", "ti*", "attributes.secret" })
        );
        assertArrayEquals(new String[] { "text_vector" }, without.excludes());
        assertEquals(0, without.includes().length);
    }
}

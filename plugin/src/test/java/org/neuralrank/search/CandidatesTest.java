package org.neuralrank.search;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.Test;
import org.neuralrank.options.Options;
import org.neuralrank.v1.Candidate;
import org.opensearch.common.document.DocumentField;
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
        assertEquals(List.of("a", "p-2/a", "p-2/0/a"), ids(Candidates.of(hits, List.of(), true, false, null)));
    }

    @Test
    public void neighboursFollowAndHaveNoRetrievalScore() {
        SearchHit[] lexical = { Hits.hit("a", 3), Hits.hit("b", 2) };
        Candidates candidates = Candidates.of(lexical, List.of(Hits.hit("b", 0.9f), Hits.hit("c", 0.8f)), true, false, null);
        assertEquals(List.of("a", "b", "c"), ids(candidates));
        List<Candidate> messages = candidates.toMessages(FIELDS, false, Integer.MAX_VALUE);
        assertEquals(2f, messages.get(1).getRetrievalScore(), 0);
        assertFalse(messages.get(2).hasRetrievalScore());
        assertEquals(7, messages.get(2).getVersion());
    }

    @Test
    public void anItemOfAnotherIndexIsAnotherOne() {
        SearchHit[] lexical = { Hits.hit("p-1", "a", 3, null) };
        List<SearchHit> neighbours = List.of(Hits.hit("p-1", "a", 0.9f, null), Hits.hit("p-2", "a", 0.8f, null));
        assertEquals(List.of("a", "p-2/a"), ids(Candidates.of(lexical, neighbours, true, false, null)));
    }

    @Test
    public void aNeighbourOfAGroupThatIsThereIsNotAdded() {
        SearchHit[] lexical = { grouped("a", "red") };
        List<SearchHit> neighbours = List.of(grouped("b", "red"), grouped("c", "blue"), grouped("d", "blue"));
        assertEquals(List.of("a", "c"), ids(Candidates.of(lexical, neighbours, true, false, "color")));
    }

    private static SearchHit grouped(String id, String color) {
        SearchHit hit = Hits.hit(id, 1);
        hit.setDocumentField("color", new DocumentField("color", List.of(color)));
        return hit;
    }

    @Test
    public void withoutTextTheOrderOfNeighboursCounts() {
        SearchHit[] everything = { Hits.hit("a", 1), Hits.hit("b", 1), Hits.hit("c", 1) };
        Candidates candidates = Candidates.of(
            everything,
            List.of(Hits.hit("z", 0.9f), Hits.hit("c", 0.8f)),
            false,
            false,
            null
        );
        assertEquals(List.of("z", "c", "a", "b"), ids(candidates));
        candidates.toMessages(FIELDS, false, Integer.MAX_VALUE).forEach(message -> assertFalse(message.hasRetrievalScore()));
    }

    @Test
    public void theOrderOfWhatAUserLikesSaysNothingBesides() {
        SearchHit[] everything = { Hits.hit("a", 1), Hits.hit("c", 1) };
        Candidates candidates = Candidates.of(everything, List.of(Hits.hit("z", 0.9f)), false, true, null);
        assertEquals(List.of("z", "a", "c"), ids(candidates));
        List<Candidate> messages = candidates.toMessages(FIELDS, false, Integer.MAX_VALUE);
        assertFalse(messages.get(0).hasRetrievalScore());
        assertEquals("equal: they say nothing either", 1, messages.get(1).getRetrievalScore(), 0);
        assertEquals(1, messages.get(2).getRetrievalScore(), 0);
        SearchHit[] popular = { Hits.hit("a", 9), Hits.hit("b", 1) };
        messages = Candidates.of(popular, List.of(), false, true, null).toMessages(FIELDS, false, Integer.MAX_VALUE);
        assertEquals(9, messages.get(0).getRetrievalScore(), 0);
    }

    @Test
    public void withoutTextScoresThatDifferStillCount() {
        SearchHit[] popular = { Hits.hit("a", 9), Hits.hit("b", 1) };
        Candidates candidates = Candidates.of(popular, List.of(Hits.hit("z", 0.9f)), false, false, null);
        assertEquals(List.of("a", "b", "z"), ids(candidates));
        assertTrue(candidates.toMessages(FIELDS, false, Integer.MAX_VALUE).get(0).hasRetrievalScore());
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
            false,
            null
        );
        Candidate message = candidates.toMessages(FIELDS, false, Integer.MAX_VALUE).get(0);
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
    public void theTextsOfALargeWindowAreAllInOneMessage() {
        String source = "{\"title\":\"" + "电".repeat(5_000) + "\"}";
        for (int count : new int[] { 1, 2_500, 10_000 }) {
            SearchHit[] hits = IntStream.range(0, count)
                .mapToObj(number -> Hits.hit("p", "i" + number, 1, source))
                .toArray(SearchHit[]::new);
            List<Candidate> messages = Candidates.of(hits, List.of(), true, false, null)
                .toMessages(FIELDS, false, Integer.MAX_VALUE);
            assertEquals(count == 10_000 ? 1_000 : 4_000, messages.get(count - 1).getText().length());
            assertTrue(messages.stream().mapToLong(Candidate::getSerializedSize).sum() < 48L << 20);
        }
    }

    @Test
    public void noMoreOfATextIsSentThanIsRead() {
        SearchHit[] hits = { Hits.hit("p", "a", 1, "{\"title\":\"a😀b😀c\"}") };
        Candidates candidates = Candidates.of(hits, List.of(), true, false, null);
        for (Map.Entry<Integer, String> each : Map.of(1, "a", 2, "a😀", 4, "a😀b😀", 5, "a😀b😀c", 9, "a😀b😀c").entrySet()) {
            assertEquals(each.getValue(), candidates.toMessages(FIELDS, false, each.getKey()).get(0).getText());
        }
        // One character with its marks is one, as the sidecar reads it.
        String syllable = "\u1100\u1161\u11a8"; // 각, in three
        SearchHit[] apart = { Hits.hit("p", "a", 1, "{\"title\":\"" + syllable.repeat(3) + "\"}") };
        List<Candidate> messages = Candidates.of(apart, List.of(), true, false, null).toMessages(FIELDS, false, 2);
        assertEquals("\uac01\uac01", messages.get(0).getText());
    }

    private static Candidate message(String source) {
        SearchHit[] hits = { Hits.hit("p", "a", 1, source) };
        return Candidates.of(hits, List.of(), true, false, null).toMessages(FIELDS, false, Integer.MAX_VALUE).get(0);
    }

    @Test
    public void aColourIsAnAttributeToo() {
        Candidate both = message("{\"color\":\"black\",\"attributes\":{\"size\":13}}");
        assertEquals(Set.of("color", "size"), both.getAttributesMap().keySet());
        assertEquals(List.of("black"), both.getAttributesMap().get("color").getValuesList());
        Candidate alone = message("{\"color\":[\"black\",\"red\"]}");
        assertEquals(List.of("black", "red"), alone.getAttributesMap().get("color").getValuesList());
        Candidate named = message("{\"color\":\"black\",\"attributes\":{\"color\":\"night\"}}");
        assertEquals(List.of("night"), named.getAttributesMap().get("color").getValuesList());
        Candidate empty = message("{\"color\":\"black\",\"attributes\":{\"color\":null}}");
        assertEquals(List.of("black"), empty.getAttributesMap().get("color").getValuesList());
        assertTrue(List.of(FIELDS.fetch(FetchSourceContext.DO_NOT_FETCH_SOURCE).includes()).contains("color"));
    }

    @Test
    public void whatIsTooMuchForTheContractIsCut() {
        String many = IntStream.range(0, 1_100).mapToObj(n -> "\"v" + n + "\"").collect(Collectors.joining(","));
        String names = IntStream.range(0, 1_100).mapToObj(n -> "\"n" + n + "\":1").collect(Collectors.joining(","));
        String name = "b".repeat(2_000);
        // The last character that fits takes two, of which one would not.
        String value = "v".repeat(32_765) + "\uD83D\uDE00";
        Candidate message = message(
            "{\"title\":\"" + value + "\",\"brand\":\"" + name + "\",\"category\":[\"" + name + "\"," + many + "],"
                + "\"color\":[\"" + value + "\"," + many + "],\"attributes\":{\"" + name + "\":1," + names + "}}"
        );
        assertEquals(4_000, message.getText().length());
        assertEquals(name.substring(0, 1_024), message.getBrand());
        assertEquals(100, message.getCategoryCount());
        assertEquals(name.substring(0, 1_024), message.getCategory(0));
        assertEquals(1_000, message.getAttributesCount());
        assertFalse(message.containsAttributes(name));
        List<String> colors = message.getAttributesMap().get("color").getValuesList();
        assertEquals(1_000, colors.size());
        assertEquals("v".repeat(32_765), colors.get(0));
    }

    @Test
    public void fieldsOfAnyShapeAreReadAsFarAsTheyGo() {
        Candidate message = message(
            "{\"brand\":{\"name\":\"Apple\"},\"category\":17,\"price\":{\"eur\":5},"
                + "\"attributes\":[{\"name\":\"size\",\"value\":3}]}"
        );
        assertEquals("Apple", message.getBrand());
        assertEquals(List.of("17"), message.getCategoryList());
        assertFalse(message.hasPrice());
        assertEquals(0, message.getAttributesCount());
    }

    @Test
    public void ofSeveralPricesTheLowestCounts() {
        Map<String, Double> prices = Map.of("[5000]", 5000.0, "[[30],\"20\",\"ask\",null,40]", 20.0);
        prices.forEach((given, price) -> assertEquals(price, message("{\"price\":" + given + "}").getPrice(), 0));
        for (String unknown : List.of("[]", "[null]", "[\"ask\"]", "[true]")) {
            assertFalse(unknown, message("{\"price\":" + unknown + "}").hasPrice());
        }
    }

    @Test
    public void ofSeveralBrandsFiltersSeeAll() {
        Candidate one = message("{\"brand\":[\"Apple\"],\"attributes\":{\"brand\":\"A\"}}");
        assertEquals("Apple", one.getBrand());
        assertEquals(List.of("A"), one.getAttributesMap().get("brand").getValuesList());
        Candidate two = message("{\"brand\":[\"Apple\",\"Beats\"],\"attributes\":{\"brand\":\"A\"}}");
        assertEquals("Apple", two.getBrand());
        assertEquals(List.of("Apple", "Beats"), two.getAttributesMap().get("brand").getValuesList());
    }

    @Test
    public void listsOfObjectsAreReadAsWhatIsInEach() {
        ItemFields fields = ItemFields.of(
            Options.parse(
                Map.of(
                    "text_fields",
                    List.of("parts.name", "specs"),
                    "fields",
                    Map.of("brand", "makers.name", "price", "offers.price", "in_stock", "offers.stock")
                ),
                Options.RANK_KEYS,
                "x"
            )
        );
        String source = "{\"parts\":[{\"name\":\"lid\"},{},{\"name\":[\"pot\",\"cup\"]}],\"specs\":[{\"volts\":230}],"
            + "\"makers\":[{\"name\":\"Good\"},{\"name\":[\"Bad\"]}],"
            + "\"offers\":[{\"price\":9,\"stock\":0},{\"price\":[7,8],\"stock\":2},{\"stock\":null}]}";
        Candidate message = Candidates.of(
            new SearchHit[] { Hits.hit("p", "a", 1, source) },
            List.of(),
            true,
            false,
            null
        ).toMessages(fields, false, Integer.MAX_VALUE).get(0);
        assertEquals("lid pot cup\n230", message.getText());
        assertEquals("Good", message.getBrand());
        assertEquals(List.of("Good", "Bad"), message.getAttributesMap().get("brand").getValuesList());
        assertEquals(7, message.getPrice(), 0);
        assertTrue(message.getInStock());
    }

    @Test
    public void wholeNumbersHaveNoDecimals() {
        Candidate message = message(
            "{\"attributes\":{\"volts\":230.0,\"amps\":13,\"litres\":1.7,\"far\":1e300,\"id\":9007199254740993}}"
        );
        assertEquals(
            Map.of("volts", "230", "amps", "13", "litres", "1.7", "far", "1.0E300", "id", "9007199254740993"),
            message.getAttributesMap().entrySet().stream().collect(
                Collectors.toMap(Map.Entry::getKey, entry -> entry.getValue().getValues(0))
            )
        );
    }

    @Test
    public void stockIsATruthValueOrACount() {
        for (String none : List.of("false", "\"false\"", "0", "0.0", "-3", "\"0\"", "[false]", "[0,[\"0\"],\"ask\"]")) {
            Candidate message = message("{\"in_stock\":" + none + "}");
            assertTrue(none, message.hasInStock());
            assertFalse(none, message.getInStock());
        }
        for (String some : List.of("true", "\"true\"", "1", "0.5", "\"12\"", "[0,3]", "[false,\"true\"]")) {
            assertTrue(some, message("{\"in_stock\":" + some + "}").getInStock());
        }
        for (String unknown : List.of("null", "\"ask\"", "[]", "[null,\"ask\"]", "\"NaN\"")) {
            assertFalse(unknown, message("{\"in_stock\":" + unknown + "}").hasInStock());
        }
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
        Candidate message = Candidates.of(new SearchHit[] { hit }, List.of(), true, false, null)
            .toMessages(fields, false, Integer.MAX_VALUE)
            .get(0);
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

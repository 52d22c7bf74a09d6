package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;

import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.Test;
import org.neuralrank.options.Options;
import org.neuralrank.options.RankSection;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.builder.SearchSourceBuilder;

public class AskedTest {

    private static SearchExtBuilder own(Map<String, ?> given) {
        return new RankSection(Options.parse(given, Options.REQUEST_KEYS, "ext.neural_rank"));
    }

    private static Asked asked(SearchExtBuilder... sections) {
        return Asked.of(
            new SearchRequest().source(
                new SearchSourceBuilder().query(QueryBuilders.matchQuery("title", "dsl")).ext(Arrays.asList(sections))
            )
        );
    }

    @Test
    public void theTextComesFromTheMostExplicitPlace() throws IOException {
        SearchExtBuilder text = Hits.section("rerank", "{\"query_context\":{\"query_text\":\"rerank\"}}");
        SearchExtBuilder path = Hits.section(
            "rerank",
            "{\"query_context\":{\"query_text_path\":\"query.match.title.query\"}}"
        );
        SearchExtBuilder lost = Hits.section("rerank", "{\"query_context\":{\"query_text_path\":\"query.term.x\"}}");
        assertEquals("own", asked(own(Map.of("query_text", " own ")), text).queryText());
        assertEquals("rerank", asked(text).queryText());
        assertEquals("dsl", asked(path).queryText());
        assertEquals("dsl", asked(lost).queryText());
        assertEquals("dsl", asked().queryText());
        assertEquals("an item stands for the query", "", asked(own(Map.of("similar_to", "i"))).queryText());
    }

    @Test
    public void theUserComesFromTheMostExplicitPlace() throws IOException {
        SearchExtBuilder personalize = Hits.section("personalize_request_parameters", "{\"user_id\":\"p\",\"context\":{}}");
        SearchExtBuilder ubi = Hits.section("ubi", "{\"client_id\":\"u\",\"query_id\":\"q\"}");
        assertEquals("own", asked(own(Map.of("user_id", "own")), personalize, ubi).userId());
        assertEquals("p", asked(personalize, ubi).userId());
        assertEquals("u", asked(ubi).userId());
        assertEquals("q", asked(ubi).requestId());
        assertEquals("", asked().userId());
    }

    @Test
    public void whatWasTypedMayBeAnObject() throws IOException {
        assertEquals("red shoe", asked(Hits.section("ubi", "{\"user_query\":\"red shoe\"}")).ubi("user_query"));
        SearchExtBuilder object = Hits.section("ubi", "{\"user_query\":{\"text\":\"red shoe\",\"facets\":[]}}");
        assertEquals("red shoe", asked(object).ubi("user_query"));
        assertEquals("", asked(Hits.section("ubi", "{\"user_query\":{}}")).ubi("user_query"));
    }

    @Test
    public void thePageHasOpenSearchsDefaults() {
        assertEquals(0, asked().from());
        assertEquals(10, asked().size());
        assertNull(asked().fetchSource());
        SearchSourceBuilder stored = new SearchSourceBuilder().storedFields(List.of("sku"));
        assertFalse(Asked.of(new SearchRequest().source(stored)).fetchSource().fetchSource());
    }
}

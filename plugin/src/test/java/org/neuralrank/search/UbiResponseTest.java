package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertSame;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.lucene.search.TotalHits;
import org.junit.Test;
import org.neuralrank.options.ReportSection;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.search.SearchResponseSections;
import org.opensearch.action.search.ShardSearchFailure;
import org.opensearch.action.support.ActionFilterChain;
import org.opensearch.common.xcontent.XContentFactory;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;
import org.opensearch.search.internal.InternalSearchResponse;
import org.opensearch.tasks.Task;

public class UbiResponseTest {

    private static final Map<String, Object> REPORT = Map.of("reranked", true);

    /** Writes as the class of this name in the UBI plugin does. */
    private static final class UbiSearchResponse extends SearchResponse {

        UbiSearchResponse(SearchResponseSections sections) {
            super(sections, null, 1, 1, 0, 3, ShardSearchFailure.EMPTY_ARRAY, SearchResponse.Clusters.EMPTY);
        }

        @Override
        public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
            builder.startObject();
            innerToXContent(builder, params);
            builder.startObject("ext").startObject("ubi").field("query_id", "q").endObject().endObject();
            return builder.endObject();
        }
    }

    private static SearchResponse ubi(SearchExtBuilder... sections) {
        SearchHit[] hits = { Hits.hit("a", 3), Hits.hit("b", 2) };
        SearchHits found = new SearchHits(hits, new TotalHits(2, TotalHits.Relation.EQUAL_TO), 3);
        return new UbiSearchResponse(
            new InternalSearchResponse(found, null, null, null, false, null, 1, List.of(sections), List.of())
        );
    }

    private static SearchResponse filtered(SearchResponse response) throws Exception {
        CompletableFuture<SearchResponse> seen = new CompletableFuture<>();
        ActionFilterChain<ActionRequest, SearchResponse> chain = new ActionFilterChain<>() {
            @Override
            public void proceed(Task task, String action, ActionRequest request, ActionListener<SearchResponse> to) {
                to.onResponse(response);
            }
        };
        new UbiResponse().apply(
            null,
            SearchAction.NAME,
            new SearchRequest(),
            ActionListener.wrap(seen::complete, seen::completeExceptionally),
            chain
        );
        return seen.get();
    }

    private static Map<String, Object> json(SearchResponse response) throws IOException {
        try (XContentBuilder builder = XContentFactory.jsonBuilder()) {
            String json = response.toXContent(builder, ToXContent.EMPTY_PARAMS).toString();
            // It refuses a key that comes twice.
            return XContentHelper.convertToMap(JsonXContent.jsonXContent, json, false);
        }
    }

    @Test
    public void whatUbiWritesLiesBesideTheReport() throws Exception {
        Map<String, Object> shown = json(filtered(ubi(new ReportSection(REPORT))));
        assertEquals(Map.of("neural_rank", REPORT, "ubi", Map.of("query_id", "q")), shown.remove("ext"));
        Map<String, Object> plain = json(ubi());
        plain.remove("ext");
        assertEquals("all else is as it was", plain, shown);
    }

    @Test
    public void sectionsOfOthersStayWhereTheyAre() throws Exception {
        SearchExtBuilder other = Hits.section("other", "{\"said\":1}");
        assertEquals(
            Map.of("other", Map.of("said", 1), "neural_rank", REPORT, "ubi", Map.of("query_id", "q")),
            json(filtered(ubi(other, new ReportSection(REPORT)))).get("ext")
        );
    }

    @Test
    public void whereNothingIsRankedNothingIsTouched() throws Exception {
        SearchResponse theirs = ubi();
        assertSame(theirs, filtered(theirs));
        SearchResponse plain = Hits.response(Hits.hit("a", 3));
        assertSame(plain, filtered(plain));
        assertFalse(json(plain).containsKey("ext"));
    }
}

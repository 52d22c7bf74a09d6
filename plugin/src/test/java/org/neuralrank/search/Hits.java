package org.neuralrank.search;

import java.io.IOException;
import java.util.Map;
import org.apache.lucene.search.TotalHits;
import org.neuralrank.options.ForeignSection;
import org.opensearch.action.OriginalIndices;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.search.ShardSearchFailure;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.common.bytes.BytesArray;
import org.opensearch.core.index.shard.ShardId;
import org.opensearch.core.xcontent.DeprecationHandler;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;
import org.opensearch.search.SearchShardTarget;
import org.opensearch.search.internal.InternalSearchResponse;

/** Makes hits and responses for tests. */
final class Hits {

    private Hits() {}

    static SearchHit hit(String index, String id, float score, String source) {
        SearchHit hit = new SearchHit(1, id, Map.of(), Map.of());
        hit.score(score);
        hit.setSeqNo(7);
        hit.setPrimaryTerm(1);
        hit.shard(new SearchShardTarget("node", new ShardId(index, "uuid", 0), null, OriginalIndices.NONE));
        if (source != null) {
            hit.sourceRef(new BytesArray(source));
        }
        return hit;
    }

    static SearchHit hit(String id, float score) {
        return hit("products", id, score, "{\"title\":\"item " + id + "\",\"brand\":\"B\",\"price\":5}");
    }

    /** A section of {@code ext} that is another plugin's. */
    static SearchExtBuilder section(String name, String json) throws IOException {
        XContentParser parser = JsonXContent.jsonXContent.createParser(
            NamedXContentRegistry.EMPTY,
            DeprecationHandler.THROW_UNSUPPORTED_OPERATION,
            json
        );
        parser.nextToken();
        return ForeignSection.fromXContent(name, parser);
    }

    static SearchResponse response(SearchHit... hits) {
        return response(new TotalHits(hits.length, TotalHits.Relation.EQUAL_TO), hits);
    }

    static SearchResponse response(TotalHits total, SearchHit... hits) {
        float max = hits.length == 0 ? Float.NaN : hits[0].getScore();
        return new SearchResponse(
            new InternalSearchResponse(new SearchHits(hits, total, max), null, null, null, false, null, 1),
            null,
            1,
            1,
            0,
            3,
            ShardSearchFailure.EMPTY_ARRAY,
            SearchResponse.Clusters.EMPTY
        );
    }
}

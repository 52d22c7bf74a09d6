package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;
import static org.opensearch.index.query.QueryBuilders.boolQuery;
import static org.opensearch.index.query.QueryBuilders.constantScoreQuery;
import static org.opensearch.index.query.QueryBuilders.disMaxQuery;
import static org.opensearch.index.query.QueryBuilders.functionScoreQuery;
import static org.opensearch.index.query.QueryBuilders.matchAllQuery;
import static org.opensearch.index.query.QueryBuilders.matchPhraseQuery;
import static org.opensearch.index.query.QueryBuilders.matchQuery;
import static org.opensearch.index.query.QueryBuilders.multiMatchQuery;
import static org.opensearch.index.query.QueryBuilders.nestedQuery;
import static org.opensearch.index.query.QueryBuilders.queryStringQuery;
import static org.opensearch.index.query.QueryBuilders.rangeQuery;
import static org.opensearch.index.query.QueryBuilders.simpleQueryStringQuery;
import static org.opensearch.index.query.QueryBuilders.termQuery;

import org.apache.lucene.search.join.ScoreMode;
import org.junit.Test;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.CombinedFieldsQueryBuilder;

public class QueriesTest {

    @Test
    public void textIsFoundWhereverItIsSearchedFor() {
        assertEquals("电脑", QueryText.of(matchQuery("title", "电脑")));
        assertEquals("red shoes", QueryText.of(multiMatchQuery("red shoes", "title", "brand")));
        assertEquals("a b", QueryText.of(queryStringQuery("a b")));
        assertEquals("a b", QueryText.of(simpleQueryStringQuery("a b")));
        assertEquals("a b", QueryText.of(new CombinedFieldsQueryBuilder("a b", "title")));
        assertEquals("x", QueryText.of(functionScoreQuery(matchQuery("title", "x"))));
        assertEquals("x", QueryText.of(constantScoreQuery(matchQuery("title", "x"))));
        assertEquals("x", QueryText.of(nestedQuery("variants", matchQuery("variants.title", "x"), ScoreMode.Max)));
        assertEquals(
            "once twice",
            QueryText.of(
                boolQuery().must(disMaxQuery().add(matchQuery("a", "once")).add(matchPhraseQuery("b", "once")))
                    .should(matchQuery("c", "twice"))
                    .filter(matchQuery("d", "filter"))
                    .mustNot(matchQuery("e", "not"))
            )
        );
        assertEquals("", QueryText.of(matchAllQuery()));
        assertEquals("", QueryText.of(null));
        assertEquals("", QueryText.of(termQuery("brand", "x")));
    }

    @Test
    public void aLongTextIsCutBetweenCharacters() {
        String long2 = "😀".repeat(3_000);
        assertEquals(QueryText.LONGEST, QueryText.cut(long2).codePointCount(0, QueryText.cut(long2).length()));
        assertEquals("short", QueryText.cut("short"));
    }

    @Test
    public void conditionsOfTheQueryBindNeighboursToo() {
        BoolQueryBuilder conditions = (BoolQueryBuilder) HardFilters.of(
            functionScoreQuery(
                boolQuery().must(matchQuery("title", "x"))
                    .must(termQuery("brand", "Apple"))
                    .must(boolQuery().filter(rangeQuery("price").lte(5)))
                    .filter(termQuery("in_stock", true))
                    .mustNot(termQuery("category", "phones"))
                    .should(termQuery("color", "red"))
            ),
            rangeQuery("rating").gte(3)
        );
        assertEquals(4, conditions.filter().size());
        assertTrue(conditions.filter().contains(termQuery("brand", "Apple")));
        assertTrue(conditions.filter().contains(rangeQuery("price").lte(5)));
        assertTrue(conditions.filter().contains(rangeQuery("rating").gte(3)));
        assertEquals(1, conditions.mustNot().size());
        assertTrue(conditions.should().isEmpty());
    }

    @Test
    public void aPlainQueryHasNoConditions() {
        assertNull(HardFilters.of(matchQuery("title", "x"), null));
        assertNull(HardFilters.of(matchAllQuery(), null));
        assertNull(HardFilters.of(null, null));
    }
}

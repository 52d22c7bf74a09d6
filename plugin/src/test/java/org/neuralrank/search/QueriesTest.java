package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;
import static org.opensearch.index.query.QueryBuilders.boolQuery;
import static org.opensearch.index.query.QueryBuilders.boostingQuery;
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

import java.util.List;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.join.ScoreMode;
import org.junit.Test;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.index.query.AbstractQueryBuilder;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.CombinedFieldsQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilderVisitor;
import org.opensearch.index.query.QueryShardContext;

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
        assertEquals(
            "x y",
            QueryText.of(
                boolQuery().should(constantScoreQuery(matchQuery("title", "x")))
                    .should(constantScoreQuery(boolQuery().must(matchQuery("brand", "y")).filter(termQuery("a", "z"))))
                    .filter(constantScoreQuery(matchQuery("category", "not typed")))
            )
        );
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
        assertEquals(
            "x",
            QueryText.of(
                boostingQuery(
                    boolQuery().must(matchQuery("a", "x")).filter(termQuery("b", "y")),
                    matchQuery("a", "refurbished")
                ).negativeBoost(0.5f)
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

    @Test
    public void ofAlternativesAHitMeetsTheConditionsOfOne() {
        QueryBuilder apple = boolQuery().must(matchQuery("title", "x")).filter(termQuery("brand", "Apple"));
        QueryBuilder cheap = boolQuery().must(matchQuery("title", "y")).filter(rangeQuery("price").lte(5));
        QueryBuilder either = boolQuery().filter(
            boolQuery().should(boolQuery().filter(termQuery("brand", "Apple")))
                .should(boolQuery().filter(rangeQuery("price").lte(5)))
        );
        assertEquals(either, HardFilters.of(disMaxQuery().add(apple).add(cheap), null));
        assertEquals(either, HardFilters.of(boolQuery().should(apple).should(cheap), null));
        assertEquals(either, HardFilters.of(boolQuery().must(boolQuery().should(apple).should(cheap)), null));
        assertEquals(either, HardFilters.of(new Hybrid(List.of(apple, cheap)), null));
        assertNull(HardFilters.of(disMaxQuery().add(apple).add(matchQuery("title", "z")), null));
        assertNull(HardFilters.of(new Hybrid(List.of(apple, matchAllQuery())), null));
    }

    @Test
    public void whatOnlyRaisesAScoreIsNoCondition() {
        BoolQueryBuilder optional = boolQuery().must(matchQuery("title", "x")).should(termQuery("brand", "Apple"));
        assertNull(HardFilters.of(optional, null));
        assertTrue(HardFilters.of(optional.minimumShouldMatch(1), null).toString().contains("Apple"));
    }

    @Test
    public void textOfAHybridQueryIsThatOfItsParts() {
        assertEquals("x", QueryText.of(new Hybrid(List.of(matchQuery("title", "x"), termQuery("brand", "Apple")))));
    }

    /** The query of neural-search, which is not published for tests: this is how it is visited. */
    private static final class Hybrid extends AbstractQueryBuilder<Hybrid> {

        private final List<QueryBuilder> queries;

        private Hybrid(List<QueryBuilder> queries) {
            this.queries = queries;
        }

        @Override
        public void visit(QueryBuilderVisitor visitor) {
            visitor.accept(this);
            QueryBuilderVisitor inner = visitor.getChildVisitor(BooleanClause.Occur.MUST);
            queries.forEach(query -> query.visit(inner));
        }

        @Override
        public String getWriteableName() {
            return "hybrid";
        }

        @Override
        protected void doWriteTo(StreamOutput out) {}

        @Override
        protected void doXContent(XContentBuilder builder, Params params) {}

        @Override
        protected Query doToQuery(QueryShardContext context) {
            return new MatchNoDocsQuery();
        }

        @Override
        protected boolean doEquals(Hybrid other) {
            return queries.equals(other.queries);
        }

        @Override
        protected int doHashCode() {
            return queries.hashCode();
        }
    }
}

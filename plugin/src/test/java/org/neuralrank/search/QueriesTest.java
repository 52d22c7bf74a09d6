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

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.join.ScoreMode;
import org.junit.Test;
import org.opensearch.common.settings.Settings;
import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.index.query.AbstractQueryBuilder;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.CombinedFieldsQueryBuilder;
import org.opensearch.index.query.InnerHitBuilder;
import org.opensearch.index.query.MatchNoneQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilderVisitor;
import org.opensearch.index.query.QueryShardContext;
import org.opensearch.index.query.WrapperQueryBuilder;
import org.opensearch.search.SearchModule;

public class QueriesTest {

    private static final NamedXContentRegistry REGISTRY = new NamedXContentRegistry(
        Stream.concat(
            new SearchModule(Settings.EMPTY, List.of()).getNamedXContents().stream(),
            Stream.of(
                new NamedXContentRegistry.Entry(
                    QueryBuilder.class,
                    new ParseField("knn"),
                    parser -> new Foreign("knn", parser.map())
                )
            )
        ).toList()
    );

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
        BoolQueryBuilder conditions = (BoolQueryBuilder) conditions(
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
        assertNull(conditions(matchQuery("title", "x"), null));
        assertNull(conditions(matchAllQuery(), null));
        assertNull(conditions(null, null));
    }

    @Test
    public void aNumberOrATruthValueIsNoTextButACondition() {
        QueryBuilder inStock = matchQuery("in_stock", true);
        QueryBuilder query = boolQuery().must(matchQuery("title", "x")).must(inStock).must(matchQuery("rank", 3));
        assertEquals(boolQuery().filter(inStock).filter(matchQuery("rank", 3)), conditions(query, null));
        assertEquals("x", QueryText.of(query));
        assertEquals("", QueryText.of(inStock));
    }

    @Test
    public void aMatchOfAFieldWithoutAnalysisIsACondition() {
        QueryBuilder apple = matchQuery("brand.keyword", "Apple");
        QueryBuilder query = boolQuery().must(matchQuery("title", "x")).must(apple);
        assertEquals(boolQuery().filter(apple), conditions(query, null));
        assertNull(conditions(boolQuery().should(matchQuery("title", "x")).should(apple), null));
    }

    /** The whole match family as JSON has it, each looking for a value in a field. */
    private static List<QueryBuilder> matches(String field, Object value) {
        List<String> ofOneField = List.of("match", "match_phrase", "match_phrase_prefix", "match_bool_prefix");
        Map<String, ?> several = Map.of("multi_match", Map.of("query", value, "fields", List.of(field)));
        return Stream.concat(ofOneField.stream().map(name -> Map.of(name, Map.of(field, value))), Stream.of(several))
            .map(QueriesTest::parse)
            .toList();
    }

    private static QueryBuilder parse(Map<String, ?> clause) {
        try {
            return Clauses.parse(clause, REGISTRY);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    public void whatHoldsForAMatchHoldsForPhrasesPrefixesAndSeveralFields() {
        for (QueryBuilder shop : matches("shop_id", 17)) {
            QueryBuilder query = boolQuery().must(matchQuery("title", "shoes")).must(shop);
            assertEquals(boolQuery().filter(shop), conditions(query, null));
            assertEquals("shoes", QueryText.of(query));
        }
        for (QueryBuilder apple : matches("brand.keyword", "Apple")) {
            assertEquals(boolQuery().filter(apple), conditions(boolQuery().must(apple), null));
        }
        for (QueryBuilder text : matches("title", "shoes")) {
            assertNull(conditions(text, null));
            assertEquals("shoes", QueryText.of(text));
        }
    }

    @Test
    public void aMatchOfSeveralFieldsIsAConditionWhereAllAreWithoutAnalysis() {
        QueryBuilder both = multiMatchQuery("Apple", "brand.keyword", "maker.keyword");
        assertEquals(boolQuery().filter(both), conditions(both, null));
        assertNull("one may hold the text", conditions(multiMatchQuery("Apple", "brand.keyword", "title"), null));
        assertNull("all fields", conditions(multiMatchQuery("Apple"), null));
    }

    @Test
    public void aQueryStringThatRequiresOrExcludesBindsNeighbours() {
        List<String> words = List.of("usb-c cable", "t-shirt - red", "a (b) \"c d\" e* f~1", "AT&T", "it\\:s", "Andes NOTE");
        for (String free : words) {
            assertNull(free, conditions(queryStringQuery(free), null));
            assertNull(free, conditions(simpleQueryStringQuery(free), null));
        }
        for (String bound : List.of("a -case", "-case", "+a b", "a (-b c)")) {
            assertEquals(boolQuery().filter(queryStringQuery(bound)), conditions(queryStringQuery(bound), null));
            QueryBuilder simple = simpleQueryStringQuery(bound);
            assertEquals(boolQuery().filter(simple), conditions(simple, null));
        }
        for (String bound : List.of("a NOT b", "a AND b", "a && b", "brand:Apple", "price:[1 TO 5]", "a !b")) {
            assertEquals(boolQuery().filter(queryStringQuery(bound)), conditions(queryStringQuery(bound), null));
            assertNull("no operators there", conditions(simpleQueryStringQuery(bound), null));
        }
    }

    @Test
    public void ofAlternativesAHitMeetsTheConditionsOfOne() {
        QueryBuilder apple = boolQuery().must(matchQuery("title", "x")).filter(termQuery("brand", "Apple"));
        QueryBuilder cheap = boolQuery().must(matchQuery("title", "y")).filter(rangeQuery("price").lte(5));
        QueryBuilder either = boolQuery().filter(
            boolQuery().should(boolQuery().filter(termQuery("brand", "Apple")))
                .should(boolQuery().filter(rangeQuery("price").lte(5)))
        );
        assertEquals(either, conditions(disMaxQuery().add(apple).add(cheap), null));
        assertEquals(either, conditions(boolQuery().should(apple).should(cheap), null));
        assertEquals(either, conditions(boolQuery().must(boolQuery().should(apple).should(cheap)), null));
        assertEquals(either, conditions(new Hybrid(List.of(apple, cheap)), null));
        assertNull(conditions(disMaxQuery().add(apple).add(matchQuery("title", "z")), null));
        assertNull(conditions(new Hybrid(List.of(apple, matchAllQuery())), null));
    }

    @Test
    public void whatOnlyRaisesAScoreIsNoCondition() {
        BoolQueryBuilder optional = boolQuery().must(matchQuery("title", "x")).should(termQuery("brand", "Apple"));
        assertNull(conditions(optional, null));
        assertTrue(conditions(optional.minimumShouldMatch(1), null).toString().contains("Apple"));
    }

    @Test
    public void textOfAHybridQueryIsThatOfItsParts() {
        assertEquals("x", QueryText.of(new Hybrid(List.of(matchQuery("title", "x"), termQuery("brand", "Apple")))));
    }

    @Test
    public void asManyConditionsAreMetAsAlternativesAreNeeded() {
        BoolQueryBuilder two = boolQuery().should(termQuery("brand", "Apple"))
            .should(rangeQuery("price").lte(5))
            .minimumShouldMatch(2);
        BoolQueryBuilder found = (BoolQueryBuilder) conditions(two, null);
        assertEquals("2", ((BoolQueryBuilder) found.filter().get(0)).minimumShouldMatch());
        found = (BoolQueryBuilder) conditions(two.should(matchQuery("title", "x")), null);
        assertNull("one of the two may be the text", ((BoolQueryBuilder) found.filter().get(0)).minimumShouldMatch());
    }

    @Test
    public void whatIsJoinedIsACondition() {
        QueryBuilder size = nestedQuery("offers", termQuery("offers.size", "42"), ScoreMode.Avg);
        assertEquals(boolQuery().filter(size), conditions(boolQuery().must(matchQuery("title", "x")).must(size), null));
        assertEquals(boolQuery().filter(size), conditions(size, null));
        QueryBuilder any = nestedQuery("offers", matchAllQuery(), ScoreMode.Avg);
        assertEquals(boolQuery().filter(any), conditions(any, null));
    }

    @Test
    public void ofJoinedTextTheConditionsHold() {
        QueryBuilder text = matchQuery("offers.name", "x");
        assertNull(conditions(nestedQuery("offers", text, ScoreMode.Max), null));
        QueryBuilder size = termQuery("offers.size", "42");
        assertEquals(
            boolQuery().filter(nestedQuery("offers", boolQuery().filter(size), ScoreMode.Max)),
            conditions(nestedQuery("offers", boolQuery().must(text).filter(size), ScoreMode.Max), null)
        );
    }

    @Test
    public void conditionsShowNothingOfWhatIsJoined() {
        QueryBuilder named = termQuery("inner_hits", "42");
        QueryBuilder size = nestedQuery("offers", named, ScoreMode.Avg);
        QueryBuilder shown = nestedQuery("offers", named, ScoreMode.Avg).innerHit(new InnerHitBuilder());
        assertEquals(boolQuery().filter(size), conditions(shown, null));
        assertEquals(boolQuery().filter(size), conditions(boolQuery().filter(shown), null));
        assertEquals(boolQuery().filter(size), conditions(null, shown));
        assertEquals(
            boolQuery().filter(boolQuery().should(constantScoreQuery(size))),
            conditions(boolQuery().filter(boolQuery().should(constantScoreQuery(shown))), null)
        );
        QueryBuilder text = boolQuery().must(matchQuery("offers.name", "x")).filter(named);
        assertEquals(
            boolQuery().filter(nestedQuery("offers", boolQuery().filter(named), ScoreMode.Avg)),
            conditions(nestedQuery("offers", text, ScoreMode.Avg).innerHit(new InnerHitBuilder()), null)
        );
    }

    @Test
    public void whatMatchesNothingIsACondition() {
        QueryBuilder none = new MatchNoneQueryBuilder();
        assertEquals(boolQuery().filter(none), conditions(none, null));
    }

    @Test
    public void conditionsHoldUnderEqualScores() {
        QueryBuilder apple = termQuery("brand", "Apple");
        QueryBuilder query = constantScoreQuery(boolQuery().must(matchQuery("title", "x")).filter(apple));
        assertEquals(boolQuery().filter(apple), conditions(query, null));
    }

    @Test
    public void theFilterOfAVectorQueryIsACondition() {
        QueryBuilder apple = termQuery("brand", "Apple");
        for (String name : List.of("knn", "neural")) {
            Foreign vector = new Foreign(name, Map.of("v", Map.of("k", 5, "filter", asMap(apple))));
            assertEquals(boolQuery().filter(apple), conditions(vector, null));
            QueryBuilder words = boolQuery().must(matchQuery("title", "x")).filter(apple);
            QueryBuilder either = boolQuery().filter(
                boolQuery().should(boolQuery().filter(apple)).should(boolQuery().filter(apple))
            );
            assertEquals(either, conditions(boolQuery().should(words).should(vector), null));
            assertEquals(either, conditions(new Hybrid(List.of(words, vector)), null));
            assertNull(conditions(new Foreign(name, Map.of("v", Map.of("k", 5))), null));
        }
        Map<String, ?> method = Map.of("method_parameters", Map.of("filter", asMap(apple)));
        assertEquals(boolQuery().filter(apple), conditions(new Foreign("neural_sparse", Map.of("v", method)), null));
    }

    @Test
    public void theFilterOfANestedVectorMayBeOnAnything() {
        Foreign free = new Foreign("knn", Map.of("v", Map.of("k", 5)));
        assertNull(conditions(nestedQuery("offers", free, ScoreMode.Max), null));
        Foreign filtered = new Foreign("knn", Map.of("v", Map.of("filter", asMap(termQuery("brand", "Apple")))));
        QueryBuilder nested = nestedQuery("offers", boolQuery().must(boolQuery().should(filtered)), ScoreMode.Max);
        assertEquals(Set.of("nested with a filtered vector"), opaque(nested));
    }

    @Test
    public void aWrappedQueryIsLookedInto() {
        QueryBuilder apple = termQuery("brand", "Apple");
        QueryBuilder wrapped = boolQuery().must(matchQuery("title", "x")).filter(apple);
        assertEquals(boolQuery().filter(apple), conditions(new WrapperQueryBuilder(wrapped.toString()), null));
    }

    @Test
    public void whereItCanNotBeToldWhatAQueryExcludesThatIsSaid() {
        QueryBuilder text = matchQuery("title", "x");
        QueryBuilder learned = new Foreign("sltr", Map.of("model", "m"));
        assertEquals(Set.of("sltr"), opaque(boolQuery().must(text).must(learned)));
        assertEquals(Set.of("sltr"), opaque(constantScoreQuery(boolQuery().must(learned))));
        assertEquals(Set.of("wrapper"), opaque(new WrapperQueryBuilder("{\"nonsense\":{}}")));
        assertEquals(Set.of("function_score with min_score"), opaque(functionScoreQuery(text).setMinScore(2)));
        assertEquals("a filter is taken as it is", Set.of(), opaque(boolQuery().must(text).filter(learned)));
        assertEquals("only raises a score", Set.of(), opaque(boolQuery().must(text).should(learned)));
        assertEquals("the text alone will do", Set.of(), opaque(boolQuery().should(text).should(learned)));
        QueryBuilder apple = boolQuery().must(text).filter(termQuery("brand", "Apple"));
        assertEquals(Set.of("sltr"), opaque(boolQuery().should(apple).should(learned)));
    }

    private static QueryBuilder conditions(QueryBuilder query, QueryBuilder postFilter) {
        HardFilters found = HardFilters.of(query, postFilter, REGISTRY, name -> name.endsWith(".keyword"));
        assertEquals(Set.of(), found.opaque());
        return found.query();
    }

    private static Set<String> opaque(QueryBuilder query) {
        return HardFilters.of(query, null, REGISTRY, name -> false).opaque();
    }

    private static Map<String, Object> asMap(QueryBuilder query) {
        try {
            return Clauses.asMap(query);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** A query of another plugin: all that is known of it is what it says. */
    private static final class Foreign extends AbstractQueryBuilder<Foreign> {

        private final String name;
        private final Map<String, ?> content;

        private Foreign(String name, Map<String, ?> content) {
            this.name = name;
            this.content = content;
        }

        @Override
        public String getWriteableName() {
            return name;
        }

        @Override
        protected void doWriteTo(StreamOutput out) {}

        @Override
        protected void doXContent(XContentBuilder builder, Params params) throws IOException {
            builder.field(name, content);
        }

        @Override
        protected Query doToQuery(QueryShardContext context) {
            return new MatchNoDocsQuery();
        }

        @Override
        protected boolean doEquals(Foreign other) {
            return name.equals(other.name) && content.equals(other.content);
        }

        @Override
        protected int doHashCode() {
            return content.hashCode();
        }
    }

    /** The query of neural-search, which is not published for tests: this is how it is visited. */
    static final class Hybrid extends AbstractQueryBuilder<Hybrid> {

        private final List<QueryBuilder> queries;

        Hybrid(List<QueryBuilder> queries) {
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

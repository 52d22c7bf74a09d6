package org.neuralrank.search;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;
import org.apache.lucene.search.BooleanClause;
import org.opensearch.common.lucene.search.Queries;
import org.opensearch.core.common.bytes.BytesArray;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.query.AbstractQueryBuilder;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.BoostingQueryBuilder;
import org.opensearch.index.query.ConstantScoreQueryBuilder;
import org.opensearch.index.query.DisMaxQueryBuilder;
import org.opensearch.index.query.MatchAllQueryBuilder;
import org.opensearch.index.query.MultiMatchQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilderVisitor;
import org.opensearch.index.query.QueryStringQueryBuilder;
import org.opensearch.index.query.SimpleQueryStringBuilder;
import org.opensearch.index.query.WithFieldName;
import org.opensearch.index.query.WrapperQueryBuilder;
import org.opensearch.index.query.functionscore.FunctionScoreQueryBuilder;
import org.opensearch.index.query.functionscore.ScriptScoreQueryBuilder;

/**
 * The conditions of a query that every hit must meet whatever the text, so that neighbours of a vector are held to
 * them too: {@code filter} and {@code must_not} clauses, required clauses that match no text, query strings that
 * require or exclude something, the filter of a vector query, the post filter. Of alternatives (dis_max, should,
 * hybrid), those of one of them.
 */
final class HardFilters {

    /** Clauses that select rather than search, and so are conditions even where they stand in {@code must}. */
    private static final Set<String> SELECTING = Set.of(
        "distance_feature",
        "exists",
        "geo_bounding_box",
        "geo_distance",
        "geo_polygon",
        "geo_shape",
        "ids",
        "match_none",
        "parent_id",
        "prefix",
        "range",
        "rank_feature",
        "regexp",
        "script",
        "term",
        "terms",
        "terms_set",
        "wildcard",
        "xy_shape"
    );

    /** Clauses that search: neighbours are what was meant by them, and need not match them. */
    private static final Set<String> SEARCHING = Set.of(
        "combined_fields",
        "common",
        "field_masking_span",
        "fuzzy",
        "intervals",
        "match",
        "match_bool_prefix",
        "match_phrase",
        "match_phrase_prefix",
        "more_like_this",
        "multi_match",
        "query_string",
        "simple_query_string",
        "span_containing",
        "span_first",
        "span_multi",
        "span_near",
        "span_not",
        "span_or",
        "span_term",
        "span_within"
    );

    /** The query of neural-search. */
    static final String HYBRID = "hybrid";

    private final NamedXContentRegistry registry;
    private final Predicate<String> isExact;
    private final BoolQueryBuilder conditions = new BoolQueryBuilder();
    private final Set<String> opaque = new TreeSet<>();
    private boolean searches;
    private boolean filtersVectors;

    private HardFilters(NamedXContentRegistry registry, Predicate<String> isExact) {
        this.registry = registry;
        this.isExact = isExact;
    }

    /**
     * @param registry parses what other plugins' clauses are made of
     * @param isExact  whether a field holds no text but what is searched for as it is
     */
    static HardFilters of(
        QueryBuilder query,
        QueryBuilder postFilter,
        NamedXContentRegistry registry,
        Predicate<String> isExact
    ) {
        HardFilters found = new HardFilters(registry, isExact);
        found.collect(query);
        if (postFilter != null) {
            found.require(postFilter);
        }
        return found;
    }

    /** One query with all conditions, or null where there are none. */
    QueryBuilder query() {
        return conditions.hasClauses() ? conditions : null;
    }

    /** Clauses of which it can't be told what they exclude: where there are any, {@link #query} is not all. */
    Set<String> opaque() {
        return opaque;
    }

    /**
     * A condition shows nothing of what is joined: the query itself may stand beside it to do so, and OpenSearch
     * refuses two {@code inner_hits} of one name.
     */
    private void require(QueryBuilder condition) {
        try {
            conditions.filter(Clauses.withoutInnerHits(condition, registry));
        } catch (IOException | RuntimeException e) {
            opaque.add(condition.getName());
        }
    }

    private void collect(QueryBuilder query) {
        switch (query) {
            case null -> {
            }
            case MatchAllQueryBuilder all -> {
            }
            case BoolQueryBuilder bool -> {
                bool.filter().forEach(this::require);
                bool.mustNot().forEach(conditions::mustNot);
                bool.must().forEach(this::collect);
                collectAny(bool.should(), needed(bool));
            }
            case DisMaxQueryBuilder alternatives -> collectAny(alternatives.innerQueries(), 1);
            case FunctionScoreQueryBuilder scored -> collectScored(scored, scored.query(), scored.getMinScore());
            case ScriptScoreQueryBuilder scored -> collectScored(scored, scored.query(), scored.getMinScore());
            case BoostingQueryBuilder boosting -> collect(boosting.positiveQuery());
            case ConstantScoreQueryBuilder constant -> collect(constant.innerQuery());
            case QueryBuilder exact when selects(exact) -> conditions.filter(exact);
            case QueryStringQueryBuilder said when QueryText.hasConditions(said) -> conditions.filter(said);
            case SimpleQueryStringBuilder said when QueryText.hasConditions(said) -> conditions.filter(said);
            default -> {
                if (SELECTING.contains(query.getName())) {
                    require(query);
                } else if (SEARCHING.contains(query.getName())) {
                    searches = true;
                } else {
                    try {
                        collectOther(query);
                    } catch (IOException | RuntimeException e) {
                        opaque.add(query.getName());
                    }
                }
            }
        }
    }

    /** Whether a clause of the match family is for no text, or in fields without analysis alone. */
    private boolean selects(QueryBuilder clause) {
        Object value = QueryText.matched(clause);
        if (value == null) {
            return false;
        }
        Set<String> fields = clause instanceof MultiMatchQueryBuilder several
            ? several.fields().keySet()
            : Set.of(((WithFieldName) clause).fieldName());
        // Without fields it searches those of the index's setting.
        return !QueryText.isText(value) || (!fields.isEmpty() && fields.stream().allMatch(isExact));
    }

    /** A least score is of the query's own scores, which neighbours have none of. */
    private void collectScored(QueryBuilder scored, QueryBuilder inner, Float minScore) {
        if (minScore != null) {
            opaque.add(scored.getName() + " with min_score");
        }
        collect(inner);
    }

    private void collectOther(QueryBuilder query) throws IOException {
        switch (query.getName()) {
            case HYBRID -> collectAny(inner(query), 1);
            case "knn", "neural", "neural_sparse" -> collectVector(query);
            case String join when Clauses.JOINS.contains(join) -> collectJoined(query);
            case "wrapper" -> {
                BytesReference json = new BytesArray(((WrapperQueryBuilder) query).source());
                try (XContentParser parser = Clauses.parser(json, registry)) {
                    collect(AbstractQueryBuilder.parseInnerQueryBuilder(parser));
                }
            }
            default -> opaque.add(query.getName());
        }
    }

    /** What a vector query finds lies within its filter; a sparse one has it among its method's parameters. */
    private void collectVector(QueryBuilder query) throws IOException {
        searches = true;
        for (Object field : Clauses.content(query).values()) {
            if (field instanceof Map<?, ?> vector) {
                addFilter(vector);
                if (vector.get("method_parameters") instanceof Map<?, ?> method) {
                    addFilter(method);
                }
            }
        }
    }

    @SuppressWarnings("unchecked")
    private void addFilter(Map<?, ?> parameters) throws IOException {
        if (parameters.get("filter") instanceof Map<?, ?> filter) {
            filtersVectors = true;
            require(Clauses.parse((Map<String, ?>) filter, registry));
        }
    }

    /** What is joined must meet the conditions of the query on it; where that searches for nothing, all of it. */
    @SuppressWarnings("unchecked")
    private void collectJoined(QueryBuilder query) throws IOException {
        Map<String, Object> join = Clauses.content(query);
        HardFilters joined = of(Clauses.parse((Map<String, ?>) join.get("query"), registry), null, registry, isExact);
        opaque.addAll(joined.opaque);
        if (!joined.searches) {
            require(query);
            return;
        }
        searches = true;
        if (joined.filtersVectors) {
            // Such a filter may be on what is joined or on what it is joined to.
            opaque.add(query.getName() + " with a filtered vector");
        }
        if (joined.query() != null) {
            join.put("query", Clauses.asMap(joined.query()));
            join.remove("max_children"); // More may meet the conditions than match.
            require(Clauses.parse(Map.of(query.getName(), join), registry));
        }
    }

    /** A hit meets the conditions of as many alternatives as are needed; those without conditions are always met. */
    private void collectAny(List<QueryBuilder> alternatives, int needed) {
        if (needed <= 0) {
            return;
        }
        BoolQueryBuilder any = new BoolQueryBuilder();
        Set<String> unknown = new TreeSet<>();
        int left = needed;
        for (QueryBuilder alternative : alternatives) {
            HardFilters its = of(alternative, null, registry, isExact);
            searches |= its.searches;
            filtersVectors |= its.filtersVectors;
            unknown.addAll(its.opaque);
            if (its.query() != null) {
                any.should(its.query());
            } else if (its.opaque.isEmpty()) {
                left--;
            }
        }
        if (left <= 0) {
            return;
        }
        opaque.addAll(unknown);
        if (any.hasClauses()) {
            conditions.filter(left > 1 ? any.minimumShouldMatch(left) : any);
        }
    }

    /** How many of its {@code should} clauses a hit must match. */
    private static int needed(BoolQueryBuilder bool) {
        if (bool.minimumShouldMatch() == null) {
            return bool.must().isEmpty() && bool.filter().isEmpty() ? 1 : 0;
        }
        return Queries.calculateMinShouldMatch(bool.should().size(), bool.minimumShouldMatch());
    }

    /** The queries that one of another plugin's class is made of: all that is known of it is that it can be visited. */
    private static List<QueryBuilder> inner(QueryBuilder query) {
        List<QueryBuilder> found = new ArrayList<>();
        query.visit(new QueryBuilderVisitor() {
            @Override
            public void accept(QueryBuilder itself) {}

            @Override
            public QueryBuilderVisitor getChildVisitor(BooleanClause.Occur occur) {
                return new QueryBuilderVisitor() {
                    @Override
                    public void accept(QueryBuilder child) {
                        found.add(child);
                    }

                    @Override
                    public QueryBuilderVisitor getChildVisitor(BooleanClause.Occur deeper) {
                        return NO_OP_VISITOR;
                    }
                };
            }
        });
        return found;
    }
}

package org.neuralrank.search;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.apache.lucene.search.BooleanClause;
import org.opensearch.common.lucene.search.Queries;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.BoostingQueryBuilder;
import org.opensearch.index.query.ConstantScoreQueryBuilder;
import org.opensearch.index.query.DisMaxQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilderVisitor;
import org.opensearch.index.query.functionscore.FunctionScoreQueryBuilder;
import org.opensearch.index.query.functionscore.ScriptScoreQueryBuilder;

/**
 * The conditions of a query that every hit must meet whatever the text, so that neighbours of a vector are held to
 * them too: {@code filter} and {@code must_not} clauses, required clauses that match no text, the post filter. Of
 * alternatives (dis_max, should, hybrid), those of one of them.
 */
final class HardFilters {

    /** Clauses that select rather than search, and so are conditions even where they stand in {@code must}. */
    private static final Set<String> SELECTING = Set.of(
        "term",
        "terms",
        "terms_set",
        "range",
        "exists",
        "ids",
        "prefix",
        "wildcard",
        "regexp",
        "script",
        "geo_distance",
        "geo_bounding_box",
        "geo_polygon",
        "geo_shape"
    );

    /** The query of neural-search. */
    private static final String HYBRID = "hybrid";

    private HardFilters() {}

    /** One query with all conditions, or null where there are none. */
    static QueryBuilder of(QueryBuilder query, QueryBuilder postFilter) {
        BoolQueryBuilder conditions = new BoolQueryBuilder();
        collect(query, conditions);
        if (postFilter != null) {
            conditions.filter(postFilter);
        }
        return conditions.hasClauses() ? conditions : null;
    }

    private static void collect(QueryBuilder query, BoolQueryBuilder into) {
        switch (query) {
            case null -> {
            }
            case BoolQueryBuilder bool -> {
                bool.filter().forEach(into::filter);
                bool.mustNot().forEach(into::mustNot);
                bool.must().forEach(clause -> collect(clause, into));
                if (needsOneOf(bool)) {
                    collectAny(bool.should(), into);
                }
            }
            case DisMaxQueryBuilder alternatives -> collectAny(alternatives.innerQueries(), into);
            case FunctionScoreQueryBuilder function -> collect(function.query(), into);
            case ScriptScoreQueryBuilder script -> collect(script.query(), into);
            case BoostingQueryBuilder boosting -> collect(boosting.positiveQuery(), into);
            case ConstantScoreQueryBuilder constant -> {
                if (QueryText.of(constant.innerQuery()).isEmpty()) {
                    into.filter(constant.innerQuery());
                }
            }
            default -> {
                if (SELECTING.contains(query.getName())) {
                    into.filter(query);
                } else if (query.getName().equals(HYBRID)) {
                    collectAny(inner(query), into);
                }
            }
        }
    }

    /** Of alternatives, a hit meets the conditions of one; if one of them has none, there is none. */
    private static void collectAny(List<QueryBuilder> alternatives, BoolQueryBuilder into) {
        BoolQueryBuilder any = new BoolQueryBuilder();
        for (QueryBuilder alternative : alternatives) {
            BoolQueryBuilder conditions = new BoolQueryBuilder();
            collect(alternative, conditions);
            if (!conditions.hasClauses()) {
                return;
            }
            any.should(conditions);
        }
        if (any.hasClauses()) {
            into.filter(any);
        }
    }

    private static boolean needsOneOf(BoolQueryBuilder bool) {
        if (bool.minimumShouldMatch() == null) {
            return bool.must().isEmpty() && bool.filter().isEmpty();
        }
        return Queries.calculateMinShouldMatch(bool.should().size(), bool.minimumShouldMatch()) > 0;
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

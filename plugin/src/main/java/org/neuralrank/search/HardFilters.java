package org.neuralrank.search;

import java.util.Set;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.BoostingQueryBuilder;
import org.opensearch.index.query.ConstantScoreQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.functionscore.FunctionScoreQueryBuilder;
import org.opensearch.index.query.functionscore.ScriptScoreQueryBuilder;

/**
 * The conditions of a query that every hit must meet whatever the text, so that neighbours of a vector are held to
 * them too: {@code filter} and {@code must_not} clauses, required clauses that match no text, the post filter.
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
            }
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
                }
            }
        }
    }
}

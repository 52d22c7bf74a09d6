package org.neuralrank.search;

import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.lucene.search.BooleanClause;
import org.neuralrank.options.ForeignSection;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.index.query.BoostingQueryBuilder;
import org.opensearch.index.query.CombinedFieldsQueryBuilder;
import org.opensearch.index.query.ConstantScoreQueryBuilder;
import org.opensearch.index.query.MatchBoolPrefixQueryBuilder;
import org.opensearch.index.query.MatchPhrasePrefixQueryBuilder;
import org.opensearch.index.query.MatchPhraseQueryBuilder;
import org.opensearch.index.query.MatchQueryBuilder;
import org.opensearch.index.query.MultiMatchQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilderVisitor;
import org.opensearch.index.query.QueryStringQueryBuilder;
import org.opensearch.index.query.SimpleQueryStringBuilder;
import org.opensearch.search.SearchExtBuilder;

/** Finds what the user typed. */
final class QueryText {

    /** The longest query that the sidecar takes, in code points. */
    static final int LONGEST = 2048;

    /** What requires or excludes something in the language of {@code query_string}, a field's name among it. */
    private static final Pattern CONDITIONS = Pattern.compile(
        "(?:^|[\\s(])[+\\-!](?=\\S)|\\b(?:AND|NOT)\\b|&&|(?<!\\\\):"
    );
    /** The same in that of {@code simple_query_string}. */
    private static final Pattern SIMPLE_CONDITIONS = Pattern.compile("(?:^|[\\s(|+])[+\\-](?=\\S)");

    private QueryText() {}

    /** What a clause of the match family looks for, null for other clauses. */
    static Object matched(QueryBuilder clause) {
        return switch (clause) {
            case MatchQueryBuilder match -> match.value();
            case MultiMatchQueryBuilder match -> match.value();
            case MatchPhraseQueryBuilder match -> match.value();
            case MatchPhrasePrefixQueryBuilder match -> match.value();
            case MatchBoolPrefixQueryBuilder match -> match.value();
            default -> null;
        };
    }

    /** Whether what such a clause looks for was typed; a number or truth value in JSON says what a hit must have. */
    static boolean isText(Object value) {
        return !(value instanceof Boolean || value instanceof Number);
    }

    /** Whether it requires or excludes something, beside searching for words. */
    static boolean hasConditions(QueryStringQueryBuilder query) {
        return CONDITIONS.matcher(query.queryString()).find();
    }

    /** Whether it requires or excludes something, beside searching for words. */
    static boolean hasConditions(SimpleQueryStringBuilder query) {
        return SIMPLE_CONDITIONS.matcher(query.value()).find();
    }

    /** The text of {@code ext.rerank.query_context}, empty without one. */
    static String ofRerankSection(SearchExtBuilder section, SearchRequest request) {
        if (!(ForeignSection.contentOf(section).get("query_context") instanceof Map<?, ?> context)) {
            return "";
        }
        if (context.get("query_text") instanceof String text) {
            return text;
        }
        if (context.get("query_text_path") instanceof String path) {
            Object at = XContentHelper.convertToMap(XContentType.JSON.xContent(), request.source().toString(), false);
            for (String step : path.split("\\.")) {
                at = at instanceof Map<?, ?> map ? map.get(step) : null;
            }
            return at == null ? "" : at.toString();
        }
        return "";
    }

    /**
     * The text in the full-text clauses of a query, in their order and each once, joined with spaces; empty where
     * there is none. Filters and exclusions are not what the user typed.
     */
    static String of(QueryBuilder query) {
        if (query == null) {
            return "";
        }
        Set<String> texts = new LinkedHashSet<>();
        Set<QueryBuilder> seen = Collections.newSetFromMap(new IdentityHashMap<>());
        query.visit(new QueryBuilderVisitor() {
            @Override
            public void accept(QueryBuilder clause) {
                if (seen.contains(clause)) {
                    return;
                }
                if (clause instanceof BoostingQueryBuilder boosting) {
                    // It shows its parts without what they are made of, and what to avoid like what to find.
                    seen.addAll(List.of(boosting.positiveQuery(), boosting.negativeQuery()));
                }
                Object text = textOf(clause);
                if (text != null && !text.toString().isBlank()) {
                    texts.add(text.toString().strip());
                }
            }

            @Override
            public QueryBuilderVisitor getChildVisitor(BooleanClause.Occur occur) {
                return switch (occur) {
                    case MUST, SHOULD -> this;
                    case FILTER, MUST_NOT -> NO_OP_VISITOR;
                };
            }
        });
        return String.join(" ", texts);
    }

    private static Object textOf(QueryBuilder clause) {
        Object matched = matched(clause);
        return switch (clause) {
            case QueryBuilder match when matched != null -> isText(matched) ? matched : null;
            case CombinedFieldsQueryBuilder match -> match.queryValue();
            case QueryStringQueryBuilder match -> match.queryString();
            case SimpleQueryStringBuilder match -> match.value();
            case BoostingQueryBuilder boosting -> of(boosting.positiveQuery());
            // It shows its query as a filter, and what is searched for with equal scores was typed all the same.
            case ConstantScoreQueryBuilder constant -> of(constant.innerQuery());
            default -> null;
        };
    }

    /** At most as long as the sidecar takes. */
    static String cut(String text) {
        if (text.codePointCount(0, text.length()) <= LONGEST) {
            return text;
        }
        return text.substring(0, text.offsetByCodePoints(0, LONGEST));
    }
}

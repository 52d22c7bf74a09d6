package org.neuralrank.search;

import java.io.IOException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.DeprecationHandler;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.query.AbstractQueryBuilder;
import org.opensearch.index.query.InnerHitContextBuilder;
import org.opensearch.index.query.QueryBuilder;

/** Query clauses as JSON: so those of other plugins are read, whose classes can't be compiled against. */
final class Clauses {

    /** Clauses on what is joined to a hit. */
    static final Set<String> JOINS = Set.of("nested", "has_child", "has_parent");

    private Clauses() {}

    /** What a clause says under its name. */
    @SuppressWarnings("unchecked")
    static Map<String, Object> content(QueryBuilder clause) throws IOException {
        return (Map<String, Object>) asMap(clause).get(clause.getName());
    }

    static Map<String, Object> asMap(QueryBuilder clause) throws IOException {
        try (XContentBuilder json = XContentBuilder.builder(XContentType.JSON.xContent())) {
            clause.toXContent(json, ToXContent.EMPTY_PARAMS);
            return XContentHelper.convertToMap(BytesReference.bytes(json), false, XContentType.JSON).v2();
        }
    }

    static QueryBuilder parse(Map<String, ?> clause, NamedXContentRegistry registry) throws IOException {
        try (XContentBuilder json = XContentBuilder.builder(XContentType.JSON.xContent())) {
            return parse(json.map(clause), registry);
        }
    }

    static QueryBuilder parse(XContentBuilder json, NamedXContentRegistry registry) throws IOException {
        try (XContentParser parser = parser(BytesReference.bytes(json), registry)) {
            return AbstractQueryBuilder.parseInnerQueryBuilder(parser);
        }
    }

    /** The same clause, without showing what in it is joined to a hit. */
    @SuppressWarnings("unchecked")
    static QueryBuilder withoutInnerHits(QueryBuilder clause, NamedXContentRegistry registry) throws IOException {
        Map<String, InnerHitContextBuilder> shown = new HashMap<>();
        InnerHitContextBuilder.extractInnerHits(clause, shown);
        return shown.isEmpty() ? clause : parse((Map<String, Object>) withoutInnerHits(asMap(clause)), registry);
    }

    private static Object withoutInnerHits(Object json) {
        if (json instanceof List<?> list) {
            return list.stream().map(Clauses::withoutInnerHits).toList();
        }
        if (!(json instanceof Map<?, ?> map)) {
            return json;
        }
        Map<Object, Object> left = new LinkedHashMap<>();
        map.forEach((key, value) -> {
            Object inner = withoutInnerHits(value);
            if (JOINS.contains(key) && inner instanceof Map<?, ?> join) {
                join.remove("inner_hits");
            }
            left.put(key, inner);
        });
        return left;
    }

    /** At the first token of some JSON. */
    static XContentParser parser(BytesReference json, NamedXContentRegistry registry) throws IOException {
        XContentParser parser = XContentType.JSON.xContent()
            .createParser(registry, DeprecationHandler.IGNORE_DEPRECATIONS, json.streamInput());
        parser.nextToken();
        return parser;
    }
}

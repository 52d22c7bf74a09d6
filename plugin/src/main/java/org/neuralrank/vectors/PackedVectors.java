package org.neuralrank.vectors;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.lucene.search.Query;
import org.opensearch.common.xcontent.LoggingDeprecationHandler;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.support.XContentMapValues;
import org.opensearch.core.xcontent.MapXContentParser;
import org.opensearch.core.xcontent.MediaTypeRegistry;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.mapper.DocumentMapper;
import org.opensearch.index.mapper.FieldMapper;
import org.opensearch.index.mapper.MappedFieldType;
import org.opensearch.index.mapper.MapperParsingException;
import org.opensearch.index.mapper.MetadataFieldMapper;
import org.opensearch.index.mapper.ParseContext;
import org.opensearch.index.mapper.SourceToParse;
import org.opensearch.index.mapper.TextSearchInfo;
import org.opensearch.index.mapper.ValueFetcher;
import org.opensearch.index.query.QueryShardContext;
import org.opensearch.search.lookup.SearchLookup;

/**
 * Indexes a vector that a document holds packed only as if its numbers stood there too. Numbers are half of what a
 * search pays for reading a hit, whether it shows them or not.
 *
 * <p>Only in indices whose mapping names packed fields ({@code _meta.neuralrank.packed_vectors}), and only for documents
 * without the numbers. Part of every index's mapping, but never written into it, as {@code _ignored} is: an index can be
 * opened without the plugin. See docs/decisions/033-vectors-once.md.
 */
public final class PackedVectors extends MetadataFieldMapper {

    /** For every index. */
    public static final TypeParser PARSER = new FixedTypeParser(context -> new PackedVectors());
    public static final String NAME = "_neural_rank_vectors";
    /** An attribute of nodes that do this. The indexer leaves out numbers where all that hold data have it. */
    public static final String ATTRIBUTE = "neural_rank_packed_vectors";

    /**
     * A vector of an index.
     *
     * @param field  that is searched
     * @param packed the field that has it packed
     */
    private record Vector(String field, String packed) {}

    /** Those of an index, as a mapping has them. */
    private record Known(DocumentMapper mapper, List<Vector> vectors) {}

    // Of the mapping that was asked last; a new one comes with each change.
    private volatile Known known;

    private PackedVectors() {
        super(new Hidden());
    }

    @Override
    protected String contentType() {
        return NAME;
    }

    @Override
    public void postParse(ParseContext context) throws IOException {
        Map<String, Vector> missing = new HashMap<>();
        for (Vector vector : vectors(context.docMapper())) {
            if (context.rootDoc().getField(vector.field()) == null) {
                missing.put(vector.packed(), vector);
            }
        }
        if (missing.isEmpty()) {
            return;
        }
        for (Map.Entry<String, String> found : texts(context.sourceToParse(), missing).entrySet()) {
            Vector vector = missing.get(found.getKey());
            float[] numbers = unpack(vector.packed(), found.getValue());
            if (context.docMapper().mappers().getMapper(vector.field()) instanceof FieldMapper mapper) {
                index(mapper, numbers, context);
            }
        }
    }

    /** As if the numbers had stood in the document. */
    private static void index(FieldMapper mapper, float[] numbers, ParseContext context) throws IOException {
        try (XContentParser parser = parser(numbers)) {
            // The parsing of a document of its own, since that of another can't be given other values to read.
            ParseContext alone = new ParseContext.InternalParseContext(
                context.indexSettings(),
                context.docMapperParser(),
                context.docMapper(),
                context.sourceToParse(),
                parser
            );
            mapper.parse(alone);
            alone.rootDoc().getFields().forEach(context.rootDoc()::add);
        }
    }

    private List<Vector> vectors(DocumentMapper mapper) {
        Known there = known;
        if (there == null || there.mapper() != mapper) {
            there = new Known(mapper, read(mapper));
            known = there;
        }
        return there.vectors();
    }

    private static List<Vector> read(DocumentMapper mapper) {
        if (mapper.meta() == null
            || !(mapper.meta().get("neuralrank") instanceof Map<?, ?> ours)
            || !(ours.get("packed_vectors") instanceof Map<?, ?> packed)) {
            return List.of();
        }
        Map<String, Object> source = XContentHelper.convertToMap(
            mapper.mappingSource().uncompressed(),
            false,
            MediaTypeRegistry.JSON
        ).v2();
        List<Vector> vectors = new ArrayList<>();
        packed.forEach((field, name) -> {
            if (XContentMapValues.extractValue("_doc.properties." + field, source) instanceof Map<?, ?> mapped
                && "knn_vector".equals(mapped.get("type"))) {
                vectors.add(new Vector(field.toString(), name.toString()));
            }
        });
        return List.copyOf(vectors);
    }

    /** Of the wanted fields those that are texts; everything else in the document is passed over. */
    private static Map<String, String> texts(SourceToParse document, Map<String, ?> wanted) throws IOException {
        Map<String, String> found = new HashMap<>();
        try (
            XContentParser parser = XContentHelper.createParser(
                NamedXContentRegistry.EMPTY,
                LoggingDeprecationHandler.INSTANCE,
                document.source(),
                document.getMediaType()
            )
        ) {
            parser.nextToken();
            while (found.size() < wanted.size() && parser.nextToken() == XContentParser.Token.FIELD_NAME) {
                String name = parser.currentName();
                if (parser.nextToken() == XContentParser.Token.VALUE_STRING && wanted.containsKey(name)) {
                    found.put(name, parser.text());
                } else {
                    parser.skipChildren();
                }
            }
        }
        return found;
    }

    private static float[] unpack(String field, String text) {
        byte[] bytes;
        try {
            bytes = Base64.getDecoder().decode(text);
        } catch (IllegalArgumentException e) {
            throw wrong(field, "is not base64");
        }
        if (bytes.length == 0 || bytes.length % Float.BYTES != 0) {
            throw wrong(field, "has " + bytes.length + " bytes");
        }
        float[] numbers = new float[bytes.length / Float.BYTES];
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(numbers);
        return numbers;
    }

    private static MapperParsingException wrong(String field, String what) {
        return new MapperParsingException(
            "[" + field + "] " + what + "; it must be the base64 of a vector's numbers as little-endian float32, or be"
                + " left out beside a vector in numbers"
        );
    }

    /** At the beginning of a list of these numbers. */
    private static XContentParser parser(float[] numbers) throws IOException {
        List<Float> list = new ArrayList<>(numbers.length);
        for (float number : numbers) {
            list.add(number);
        }
        XContentParser parser = new MapXContentParser(
            NamedXContentRegistry.EMPTY,
            LoggingDeprecationHandler.INSTANCE,
            Map.of("vector", list),
            MediaTypeRegistry.JSON
        );
        parser.nextToken(); // the object
        parser.nextToken(); // its field
        parser.nextToken();
        return parser;
    }

    /** What a mapper needs of a field; this one has no values. */
    private static final class Hidden extends MappedFieldType {

        Hidden() {
            super(NAME, false, false, false, TextSearchInfo.NONE, Map.of());
        }

        @Override
        public String typeName() {
            return NAME;
        }

        @Override
        public ValueFetcher valueFetcher(QueryShardContext context, SearchLookup lookup, String format) {
            return values -> List.of();
        }

        @Override
        public Query termQuery(Object value, QueryShardContext context) {
            throw new IllegalArgumentException("[" + NAME + "] has no values to search for");
        }
    }
}

package org.neuralrank.options;

import java.io.IOException;
import java.util.Map;
import java.util.Objects;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.core.common.ParsingException;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.search.SearchExtBuilder;

/**
 * An {@code ext} section that another plugin invented and that is understood here too: {@code rerank},
 * {@code personalize_request_parameters} or {@code ubi}. Read as it comes; what is not understood is ignored.
 */
public final class ForeignSection extends SearchExtBuilder {

    private final String name;
    private final Map<String, Object> content;

    private ForeignSection(String name, Map<String, Object> content) {
        this.name = name;
        this.content = content;
    }

    public static ForeignSection read(String name, StreamInput in) throws IOException {
        return new ForeignSection(name, in.readMap());
    }

    public static ForeignSection fromXContent(String name, XContentParser parser) throws IOException {
        if (parser.currentToken() != XContentParser.Token.START_OBJECT) {
            throw new ParsingException(
                parser.getTokenLocation(),
                "ext." + name + " is [" + parser.currentToken() + "]; allowed is an object"
            );
        }
        return new ForeignSection(name, parser.map());
    }

    /**
     * What a section holds, whoever registered it: another plugin's class is not known here, but can write itself.
     * Empty if it can't.
     */
    @SuppressWarnings("unchecked")
    public static Map<String, Object> contentOf(SearchExtBuilder section) {
        if (section instanceof ForeignSection own) {
            return own.content;
        }
        try {
            Map<String, Object> written = written(section);
            Object inner = written.get(section.getWriteableName());
            return inner instanceof Map ? (Map<String, Object>) inner : written;
        } catch (IOException | RuntimeException e) {
            return Map.of();
        }
    }

    /** What any section writes into {@code ext}, by key. */
    public static Map<String, Object> written(SearchExtBuilder section) throws IOException {
        try (XContentBuilder builder = XContentBuilder.builder(XContentType.JSON.xContent())) {
            builder.startObject();
            section.toXContent(builder, ToXContent.EMPTY_PARAMS);
            builder.endObject();
            return XContentHelper.convertToMap(BytesReference.bytes(builder), false, XContentType.JSON).v2();
        }
    }

    @Override
    public String getWriteableName() {
        return name;
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeMap(content);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return builder.field(name, content);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof ForeignSection section && name.equals(section.name) && content.equals(section.content);
    }

    @Override
    public int hashCode() {
        return Objects.hash(name, content);
    }
}

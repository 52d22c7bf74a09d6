package org.neuralrank.options;

import java.io.IOException;
import org.opensearch.core.common.ParsingException;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.search.SearchExtBuilder;

/** {@code ext.neural_rank} of a search request: who asks, for what, and how it is to be ranked. */
public final class RankSection extends SearchExtBuilder {

    /** The section's name. */
    public static final String NAME = "neural_rank";

    private final Options options;

    public RankSection(Options options) {
        this.options = options;
    }

    public RankSection(StreamInput in) throws IOException {
        this(Options.parse(in.readMap(), Options.REQUEST_KEYS, "ext." + NAME));
    }

    /**
     * Reads the section strictly: an unknown key or a value of the wrong kind fails the request with 400, because a
     * misspelt option that is silently ignored costs its owner days.
     */
    public static RankSection fromXContent(XContentParser parser) throws IOException {
        if (parser.currentToken() != XContentParser.Token.START_OBJECT) {
            throw new ParsingException(
                parser.getTokenLocation(),
                "ext." + NAME + " is [" + parser.currentToken() + "]; allowed is an object such as {\"user_id\": \"A\"}"
            );
        }
        var location = parser.getTokenLocation();
        try {
            return new RankSection(Options.parse(parser.map(), Options.REQUEST_KEYS, "ext." + NAME));
        } catch (IllegalArgumentException e) {
            throw new ParsingException(location, e.getMessage());
        }
    }

    public Options options() {
        return options;
    }

    @Override
    public String getWriteableName() {
        return NAME;
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeMap(options.asMap());
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return builder.field(NAME, options.asMap());
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof RankSection section && options.equals(section.options);
    }

    @Override
    public int hashCode() {
        return options.hashCode();
    }
}

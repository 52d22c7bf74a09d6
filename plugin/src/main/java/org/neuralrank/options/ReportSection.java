package org.neuralrank.options;

import java.io.IOException;
import java.util.Map;
import org.opensearch.core.common.ParsingException;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.search.SearchExtBuilder;

/**
 * {@code ext.neural_rank} of a search response: whether it was re-ranked, and if not fully, why.
 *
 * <p>On the wire between nodes it needs another name than the request's section, which is of another class; in JSON
 * both are called {@code neural_rank}.
 */
public final class ReportSection extends SearchExtBuilder {

    /** The name between nodes. */
    public static final String NAME = "neural_rank_report";

    private final Map<String, Object> content;
    // Only of JSON: who reads it from another node has not seen what was written beside it either.
    private final Map<String, Object> beside;

    public ReportSection(Map<String, Object> content) {
        this(content, Map.of());
    }

    private ReportSection(Map<String, Object> content, Map<String, Object> beside) {
        this.content = content;
        this.beside = beside;
    }

    /** This report, and in JSON what another plugin has in {@code ext} without a section of its own. */
    public ReportSection beside(Map<String, Object> others) {
        return new ReportSection(content, others);
    }

    public ReportSection(StreamInput in) throws IOException {
        this(in.readMap());
    }

    /** Refuses: a report belongs in responses. */
    public static ReportSection fromXContent(XContentParser parser) {
        throw new ParsingException(
            parser.getTokenLocation(),
            "ext." + NAME + " is not for requests; allowed is ext." + RankSection.NAME
        );
    }

    public Map<String, Object> content() {
        return content;
    }

    @Override
    public String getWriteableName() {
        return NAME;
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeMap(content);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return builder.field(RankSection.NAME, content).mapContents(beside);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof ReportSection report && content.equals(report.content);
    }

    @Override
    public int hashCode() {
        return content.hashCode();
    }
}

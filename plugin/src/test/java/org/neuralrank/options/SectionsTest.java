package org.neuralrank.options;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import org.junit.Test;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.common.ParsingException;
import org.opensearch.core.xcontent.DeprecationHandler;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;

public class SectionsTest {

    private static XContentParser json(String text) throws IOException {
        XContentParser parser = JsonXContent.jsonXContent.createParser(
            NamedXContentRegistry.EMPTY,
            DeprecationHandler.THROW_UNSUPPORTED_OPERATION,
            text
        );
        parser.nextToken();
        return parser;
    }

    @Test
    public void aRequestSectionSurvivesTheWire() throws IOException {
        RankSection section = RankSection.fromXContent(
            json("{\"user_id\": \"A\", \"filters\": {\"max_price\": 10, \"exclude_items\": [\"x\"]}}")
        );
        try (BytesStreamOutput out = new BytesStreamOutput()) {
            section.writeTo(out);
            assertEquals(section, new RankSection(out.bytes().streamInput()));
        }
    }

    @Test
    public void aMisspeltKeyIsAParsingErrorWithItsPlace() throws IOException {
        ParsingException error = assertThrows(
            ParsingException.class,
            () -> RankSection.fromXContent(json("{\"userid\": \"A\"}"))
        );
        assertTrue(error.getMessage(), error.getMessage().contains("unknown key [userid]"));
        assertEquals(1, error.getLineNumber());
        assertThrows(ParsingException.class, () -> RankSection.fromXContent(json("[]")));
    }

    @Test
    public void aReportSurvivesTheWireAndIsCalledNeuralRankInJson() throws IOException {
        ReportSection report = new ReportSection(
            Map.of("reranked", true, "degraded", List.of(Map.of("reason", "no_user")), "took_ms", Map.of("rank", 1.5))
        );
        try (BytesStreamOutput out = new BytesStreamOutput()) {
            report.writeTo(out);
            assertEquals(report, new ReportSection(out.bytes().streamInput()));
        }
        try (XContentBuilder builder = JsonXContent.contentBuilder()) {
            builder.startObject();
            report.toXContent(builder, ToXContent.EMPTY_PARAMS);
            builder.endObject();
            assertTrue(builder.toString().startsWith("{\"neural_rank\":{"));
        }
    }

    @Test
    public void aSectionOfAnyPluginCanBeLookedInto() throws IOException {
        assertEquals(
            Map.of("client_id", "c"),
            ForeignSection.contentOf(ForeignSection.fromXContent("ubi", json("{\"client_id\": \"c\"}")))
        );
        // As another plugin's class would: it only knows how to write itself.
        RankSection other = new RankSection(Options.parse(Map.of("user_id", "u"), Options.REQUEST_KEYS, "x"));
        assertEquals(Map.of("user_id", "u"), ForeignSection.contentOf(other));
    }
}

package org.neuralrank.search;

import static org.junit.Assert.assertEquals;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.Test;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;

public class ReportTest {

    private final Report report = new Report();

    private void assertSaid(String... details) {
        List<?> degraded = (List<?>) report.toSection().content().get("degraded");
        assertEquals(List.of(details), degraded.stream().map(note -> ((Map<?, ?>) note).get("detail")).toList());
    }

    @Test
    public void allThatAReasonKeptFromBeingDoneIsSaid() {
        report.note(new Note(Reason.DEADLINE, "features: no time was left"));
        report.note(new Note(Reason.NO_USER, "no events"));
        report.note(new Note(Reason.DEADLINE, "2 of 3 candidates were not held to all filters"));
        assertSaid("features: no time was left", "2 of 3 candidates were not held to all filters", "no events");
        assertEquals("for the counters", Set.of(Reason.NO_USER, Reason.DEADLINE), report.reasons());
    }

    @Test
    public void whatTwoStepsMissIsSaidOnce() {
        report.note(new Note(Reason.NO_USER, "no vector leg: no events"));
        report.note(new Note(Reason.NO_USER, "no events"));
        report.note(new Note(Reason.NO_USER, "no events"));
        assertSaid("no vector leg: no events");
    }
}

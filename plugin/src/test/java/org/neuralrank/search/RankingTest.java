package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.List;
import org.junit.Test;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.sidecar.SidecarException;
import org.neuralrank.v1.DroppedCandidate;
import org.neuralrank.v1.RankResponse;
import org.neuralrank.v1.RankedCandidate;
import org.opensearch.search.SearchHit;

public class RankingTest {

    private final Candidates candidates = Candidates.of(
        new SearchHit[] { Hits.hit("a", 3), Hits.hit("b", 2), Hits.hit("c", 1) },
        List.of(),
        true,
        false,
        null
    );

    private static RankResponse.Builder reply(Object... idsAndScores) {
        RankResponse.Builder reply = RankResponse.newBuilder();
        for (int i = 0; i < idsAndScores.length; i += 2) {
            float score = ((Number) idsAndScores[i + 1]).floatValue();
            reply.addResults(RankedCandidate.newBuilder().setId((String) idsAndScores[i]).setScore(score));
        }
        return reply;
    }

    private static List<String> ids(Ranking ranking) {
        return ranking.places().stream().map(place -> place.entry().id()).toList();
    }

    private Ranking read(RankResponse.Builder reply) throws SidecarException {
        return Ranking.of(candidates, reply.build());
    }

    private void assertBad(Ranking ranking) {
        assertEquals(List.of(Reason.BAD_REPLY), ranking.notes().stream().map(note -> note.reason()).toList());
    }

    @Test
    public void aGoodReplyIsTaken() throws SidecarException {
        Ranking ranking = read(reply("c", 0.9, "a", 0.5, "b", 0));
        assertEquals(List.of("c", "a", "b"), ids(ranking));
        assertTrue(ranking.notes().isEmpty());
    }

    @Test
    public void badEntriesLoseTheirPlaceAndGoodOnesKeepTheirs() throws SidecarException {
        for (double bad : new double[] { Double.NaN, Double.POSITIVE_INFINITY, -0.1, 1.1 }) {
            Ranking ranking = read(reply("a", bad, "c", 0.9, "b", 0.1));
            assertEquals(List.of("c", "b", "a"), ids(ranking));
            assertEquals("no infinity sorts first", 0, ranking.places().get(2).score(), 0);
            assertBad(ranking);
        }
        Ranking strangers = read(reply("x", 1, "c", 0.9, "c", 0.8, "b", 0.1));
        assertEquals(List.of("c", "b", "a"), ids(strangers));
        assertBad(strangers);
    }

    @Test
    public void whoIsMissingFollowsInTheOriginalOrder() throws SidecarException {
        Ranking ranking = read(reply("c", 0.9));
        assertEquals(List.of("c", "a", "b"), ids(ranking));
        assertBad(ranking);
    }

    @Test
    public void whoWasDroppedStaysAway() throws SidecarException {
        RankResponse.Builder listed = reply("c", 0.9, "a", 0.1).setTotalDropped(1)
            .addDropped(DroppedCandidate.newBuilder().setId("b"));
        assertEquals(List.of("c", "a"), ids(read(listed)));
        RankResponse.Builder counted = reply("c", 0.9, "a", 0.1).setTotalDropped(1);
        assertEquals(List.of("c", "a"), ids(read(counted)));
        assertTrue(read(counted).notes().isEmpty());
        assertTrue("all dropped is an answer", ids(read(reply().setTotalDropped(3))).isEmpty());
    }

    @Test
    public void whoIsMissingWasDroppedOnlyWhereTheCountSaysSo() throws SidecarException {
        RankResponse.Builder lost = reply("c", 0.9).setTotalDropped(1).addDropped(DroppedCandidate.newBuilder().setId("b"));
        assertEquals(List.of("c", "a"), ids(read(lost)));
        assertBad(read(lost));
        RankResponse.Builder both = reply("c", 0.9, "a", 0.5, "b", 0.1).setTotalDropped(1)
            .addDropped(DroppedCandidate.newBuilder().setId("a"));
        assertEquals("who is ranked stays", List.of("c", "a", "b"), ids(read(both)));
        assertBad(read(both));
    }

    @Test
    public void aReplyWithoutAnyUsableScoreIsAFault() {
        assertThrows(SidecarException.class, () -> read(reply()));
        assertThrows(SidecarException.class, () -> read(reply("a", Double.NaN)));
    }
}

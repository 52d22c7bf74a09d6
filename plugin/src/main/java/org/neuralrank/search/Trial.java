package org.neuralrank.search;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.neuralrank.v1.ExperimentMode;
import org.neuralrank.v1.Participation;
import org.neuralrank.v1.RankResponse;

/**
 * What an experiment did with one page.
 *
 * @param name    of the experiment
 * @param mode    {@code ab} or {@code interleave}
 * @param arm     A or B, empty where the page is interleaved or took no part
 * @param teams   of an interleaved page, whose each hit is: A, B, or - for nobody's; else empty
 * @param leftOut why it took no part, empty if it did
 */
record Trial(String name, String mode, String arm, String teams, String leftOut) {

    /** Null where no experiment was asked for. */
    static Trial of(RankResponse reply, List<Ranking.Place> page) {
        if (!reply.hasExperiment()) {
            return null;
        }
        Participation said = reply.getExperiment();
        boolean interleaved = said.getMode() == ExperimentMode.EXPERIMENT_MODE_INTERLEAVE;
        String teams = interleaved && said.getLeftOut().isEmpty()
            ? page.stream().map(Trial::team).collect(Collectors.joining())
            : "";
        return new Trial(said.getName(), interleaved ? "interleave" : "ab", said.getArm(), teams, said.getLeftOut());
    }

    private static String team(Ranking.Place place) {
        String team = place.result() == null ? "" : place.result().getTeam();
        return team.equals("A") || team.equals("B") ? team : "-";
    }

    boolean tookPart() {
        return leftOut.isEmpty();
    }

    /** What UBI's {@code query_attributes} say of the page. */
    Map<String, String> attributes() {
        return arm.isEmpty()
            ? Map.of("experiment", name, "teams", teams)
            : Map.of("experiment", name, "arm", arm);
    }

    Map<String, Object> asMap() {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("name", name);
        map.put("mode", mode);
        if (!arm.isEmpty()) {
            map.put("arm", arm);
        } else if (tookPart()) {
            map.put("teams", teams);
        } else {
            map.put("left_out", leftOut);
        }
        return map;
    }
}

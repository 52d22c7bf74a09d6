package org.neuralrank.options;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.junit.Test;

public class OptionsTest {

    private static Options request(Map<String, ?> given) {
        return Options.parse(given, Options.REQUEST_KEYS, "ext.neural_rank");
    }

    private static void refused(Map<String, ?> given, String... said) {
        String message = assertThrows(IllegalArgumentException.class, () -> request(given)).getMessage();
        for (String part : said) {
            assertTrue(message + " should say " + part, message.contains(part));
        }
    }

    @Test
    public void everyKeyOfARequestIsRead() {
        Options options = request(
            Map.ofEntries(
                Map.entry("user_id", 17),
                Map.entry("query_text", "电脑"),
                Map.entry("window", 50),
                Map.entry("min_score", 0.2),
                Map.entry("explain", true),
                Map.entry("weights", Map.of("relevance", 1, "affinity", 0)),
                Map.entry(
                    "filters",
                    Map.of(
                        "exclude_purchased",
                        true,
                        "exclude_items",
                        List.of("a", 3),
                        "exclude_brands",
                        "X",
                        "attributes",
                        List.of(Map.of("name", "color", "values", List.of("black")))
                    )
                )
            )
        );
        assertEquals("17", options.text("user_id", ""));
        assertEquals(50, options.integer("window", 0));
        assertEquals(List.of("a", "3"), options.inner("filters").strings("exclude_items"));
        assertEquals(List.of("X"), options.inner("filters").strings("exclude_brands"));
        assertEquals("color", options.inner("filters").rules().get(0).text("name", ""));
    }

    @Test
    public void whatCannotBeUsedIsNamedWithWhatIsAllowed() {
        refused(Map.of("user", "A"), "unknown key [user]", "user_id");
        refused(Map.of("window", 0), "ext.neural_rank.window is [0]", "from 1 to 10000");
        refused(Map.of("window", 2.5), "window is [2.5]");
        refused(Map.of("k", "many"), "k is [many] (string)", "an integer");
        refused(Map.of("min_score", Double.NaN), "min_score is [NaN]");
        refused(Map.of("min_score", 1.5), "from 0.0 to 1.0");
        refused(Map.of("weights", Map.of("relevance", -1)), "weights.relevance is [-1]");
        refused(Map.of("weights", Map.of("relevance", 0, "affinity", 0, "retrieval", 0)), "all zero");
        refused(
            Map.of("weights", Map.of("relevance", 0, "affinity", 0, "retrieval", 0, "cross_encoder", 1)),
            "all zero"
        );
        refused(Map.of("weights", Map.of("cross_encoder", 1.5)), "weights.cross_encoder is [1.5]", "from 0.0 to 1.0");
        refused(Map.of("weights", Map.of("diversity", -0.1)), "weights.diversity is [-0.1]", "from 0.0 to 1.0");
        refused(Map.of("filters", Map.of("min_price", 5, "max_price", 1)), "min_price is [5.0], above", "max_price [1.0]");
        refused(Map.of("filters", Map.of("attributes", List.of(Map.of("name", "x")))), "attributes[0]", "values");
        refused(rules(List.of(Map.of("name", "", "values", "x"))), "attributes[0]", "a rule with name and values");
        refused(Map.of("filters", List.of()), "(list)", "exclude_purchased");
        refused(Map.of("explain", "yes"), "true or false");
        refused(Map.of("fusion", "sum"), "fusion is [sum]", "[weights, rrf]");
        String experiment = "ext.neural_rank.experiment";
        Map<String, Object> arms = Map.of("A", Map.of(), "B", Map.of("bundle", "b"));
        refused(Map.of("experiment", Map.of("arms", arms)), experiment + ".name is []", "1 to 64 letters");
        refused(Map.of("experiment", Map.of("name", "a b", "arms", arms)), "name is [a b]");
        refused(Map.of("experiment", Map.of("name", "x")), experiment + ".arms is [{}]", "the arms A", "and B");
        refused(
            Map.of("experiment", Map.of("name", "x", "arms", Map.of("A", Map.of("bundle", "b")))),
            ".arms is [{A={bundle=b}}]"
        );
        refused(
            Map.of("experiment", Map.of("name", "x", "arms", Map.of("A", Map.of(), "C", Map.of()))),
            ".arms has an unknown key [C]; allowed are [A, B]"
        );
        refused(
            Map.of("experiment", Map.of("name", "x", "arms", Map.of("A", Map.of(), "B", Map.of()))),
            "A and B are the same"
        );
        refused(
            Map.of("experiment", Map.of("name", "x", "arms", Map.of("A", Map.of("k", 1), "B", Map.of()))),
            ".arms.A has an unknown key [k]; allowed are [bundle, fusion, weights]"
        );
        refused(Map.of("experiment", Map.of("name", "x", "arms", arms, "mode", "b")), "[ab, interleave]");
        refused(Map.of("experiment", Map.of("name", "x", "arms", arms, "share", 0)), "share is [0]", "above 0");
        refused(Map.of("experiment", Map.of("name", "x", "arms", arms, "share", 2)), "share is [2]");
        refused(Map.of("ef_search", 0), "ef_search is [0]", "from 1 to 10000");
        refused(Map.of("interests", 9), "interests is [9]", "from 1 to 8");
        refused(Map.of("user_id", "x".repeat(513)), "513 characters", "512");
    }

    @Test
    public void whatTheSidecarWouldRefuseIsRefusedHere() {
        for (String part : List.of("relevance", "affinity", "retrieval")) {
            refused(Map.of("weights", Map.of(part, 1_000_001)), part + " is [1000001]", "from 0.0 to 1000000.0");
            request(Map.of("weights", Map.of(part, 1_000_000)));
        }
        for (String list : List.of("exclude_items", "exclude_brands")) {
            refused(
                Map.of("filters", Map.of(list, Collections.nCopies(10_001, "x"))),
                list + " has 10001 entries; allowed are at most 10000"
            );
            refused(Map.of("filters", Map.of(list, List.of("x", "x".repeat(1_025)))), list + "[1] has 1025 characters");
            request(Map.of("filters", Map.of(list, Collections.nCopies(10_000, "x"))));
        }
        Map<String, Object> rule = Map.of("name", "color", "values", "black");
        refused(rules(Collections.nCopies(101, rule)), "attributes has 101 rules; allowed are at most 100");
        refused(
            rules(List.of(Map.of("name", "color", "values", Collections.nCopies(1_001, "x")))),
            "attributes[0].values has 1001 entries; allowed are at most 1000"
        );
        refused(
            rules(List.of(Map.of("name", "color", "values", "x".repeat(32_767)))),
            "attributes[0].values[0] has 32767 characters"
        );
        request(rules(Collections.nCopies(100, rule)));
    }

    private static Map<String, Object> rules(List<?> rules) {
        return Map.of("filters", Map.of("attributes", rules));
    }

    @Test
    public void theRequestOverridesThePipelineKeyByKey() {
        Options pipeline = Options.parse(
            Map.of("filters", Map.of("exclude_purchased", true, "in_stock_only", true), "explain", true),
            Options.RANK_KEYS,
            "neural_rank"
        );
        Options both = pipeline.overriddenBy(request(Map.of("filters", Map.of("exclude_purchased", false))));
        assertEquals(false, both.inner("filters").flag("exclude_purchased", true));
        assertEquals(true, both.inner("filters").flag("in_stock_only", false));
        assertEquals(true, both.flag("explain", false));
    }

    @Test
    public void anExperimentOfTheRequestTakesThePlaceOfThePipelines() {
        Map<String, Object> arms = Map.of("A", Map.of(), "B", Map.of("bundle", "b"));
        Options pipeline = Options.parse(
            Map.of("experiment", Map.of("name", "x", "share", 0.5, "arms", arms)),
            Options.RANK_KEYS,
            "neural_rank"
        );
        Options both = pipeline.overriddenBy(request(Map.of("experiment", Map.of("name", "y", "arms", arms))));
        assertEquals(Map.of("name", "y", "arms", arms), both.asMap().get("experiment"));
    }

    private static String conflict(Map<String, ?> pipeline, Map<String, ?> asked) {
        Options request = request(asked);
        Options both = Options.parse(pipeline, Options.RANK_KEYS, "neural_rank").overriddenBy(request);
        return assertThrows(IllegalArgumentException.class, () -> both.mustAgree(request)).getMessage();
    }

    @Test
    public void whatRequestAndPipelineCanNotSayTogetherIsNamedWithWhereItIsFrom() {
        assertEquals(
            "the pipeline's neural_rank.filters.min_price is [10.0], above ext.neural_rank.filters.max_price [5.0];"
                + " change one of them",
            conflict(Map.of("filters", Map.of("min_price", 10)), Map.of("filters", Map.of("max_price", 5)))
        );
        String zero = conflict(
            Map.of("weights", Map.of("relevance", 0, "affinity", 0, "retrieval", 1)),
            Map.of("weights", Map.of("retrieval", -0.0))
        );
        assertEquals(
            "weights are all zero: the pipeline's neural_rank.weights.relevance, the pipeline's"
                + " neural_rank.weights.affinity, ext.neural_rank.weights.retrieval; at least one of them must be above"
                + " zero",
            zero
        );
        Options request = request(Map.of("filters", Map.of("min_price", 1, "max_price", 5), "weights", Map.of("affinity", 1)));
        Options.parse(
            Map.of("filters", Map.of("min_price", 10), "weights", Map.of("relevance", 0, "affinity", 0)),
            Options.RANK_KEYS,
            "neural_rank"
        ).overriddenBy(request).mustAgree(request);
    }

    private static Map<String, Object> experiment(Map<String, ?> a, Map<String, ?> b) {
        return Map.of("name", "x", "arms", Map.of("A", a, "B", b));
    }

    @Test
    public void armsAgreeWithWhatIsSaidBesideThem() {
        Map<String, Object> weightless = Map.of("weights", Map.of("affinity", 0, "retrieval", 0));
        Map<String, Object> pipeline = Map.of("experiment", experiment(Map.of(), weightless));
        String zero = conflict(pipeline, Map.of("weights", Map.of("relevance", 0)));
        assertTrue(zero, zero.startsWith("weights are all zero: ext.neural_rank.weights.relevance, the pipeline's"));
        assertTrue(zero, zero.contains("neural_rank.experiment.arms.B.weights.affinity"));
        refused(
            Map.of("experiment", experiment(Map.of(), weightless), "weights", Map.of("relevance", 0)),
            "all zero: ext.neural_rank.weights.relevance, ext.neural_rank.experiment.arms.B.weights.affinity"
        );
        assertEquals(
            "the pipeline's neural_rank.experiment.arms A and B are the same once what they leave out is filled in:"
                + " ext.neural_rank.fusion [rrf]; give one of them another bundle, other weights or another fusion",
            conflict(
                Map.of("experiment", experiment(Map.of("bundle", ""), Map.of("fusion", "rrf"))),
                Map.of("fusion", "rrf")
            )
        );
        Map<String, Object> byDefault = Map.of("experiment", experiment(Map.of(), Map.of("fusion", "weights")));
        String same = assertThrows(
            IllegalArgumentException.class,
            () -> Options.parse(byDefault, Options.RANK_KEYS, "neural_rank")
        ).getMessage();
        assertTrue(same, same.contains("fusion [weights], the default"));
        Options request = request(byDefault);
        Options.parse(Map.of("fusion", "rrf"), Options.RANK_KEYS, "neural_rank").overriddenBy(request).mustAgree(request);
    }

    @Test
    public void anAddressIsNoOptionAnywhere() {
        for (var keys : List.of(Options.REQUEST_KEYS, Options.RANK_KEYS, Options.RECALL_KEYS)) {
            assertThrows(
                IllegalArgumentException.class,
                () -> Options.parse(Map.of("endpoint", "evil:1"), keys, "here")
            );
        }
    }
}

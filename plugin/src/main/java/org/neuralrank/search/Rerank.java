package org.neuralrank.search;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.neuralrank.Stats;
import org.neuralrank.options.Options;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.sidecar.SidecarException;
import org.neuralrank.v1.RankRequest;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.core.action.ActionListener;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;

/**
 * The ranking of one search, from its response to the page that the caller gets: join the vector leg, ask the
 * sidecar, rebuild. Each step ends in exactly one next step; whatever goes wrong ends in the original order.
 */
final class Rerank {

    private final Node node;
    private final Warnings warnings;
    private final Inquiry inquiry;
    private final Options options;
    private final SearchResponse response;
    private final ActionListener<SearchResponse> listener;
    private final Page page;
    private final Further further;
    private final List<String> notFetched;
    private final Report report = new Report();
    private final long startedAt = System.nanoTime();
    private final int timeoutMs;
    private long rankMs;

    Rerank(
        Node node,
        Warnings warnings,
        Inquiry inquiry,
        Options options,
        SearchRequest request,
        SearchResponse response,
        ActionListener<SearchResponse> listener
    ) {
        this.node = node;
        this.warnings = warnings;
        this.inquiry = inquiry;
        this.options = options;
        this.response = response;
        this.listener = listener;
        this.page = new Page(response, inquiry);
        this.further = new Further(request, inquiry);
        this.notFetched = ItemFields.notFetched(options, Asked.fetchSource(request.source()));
        this.timeoutMs = options.integer("timeout_ms", node.timeoutMs().getAsInt());
    }

    void start() {
        node.stats().request();
        LeftAlone leftAlone = inquiry.leftAlone();
        if (leftAlone == null && !inquiry.asked().hasPurpose(options)) {
            leftAlone = LeftAlone.NOTHING_TO_RANK_BY;
        }
        if (leftAlone != null) {
            node.stats().leftAlone(leftAlone.key());
            finishOriginal(new Note(Reason.NOT_APPLICABLE, leftAlone.detail()));
        } else if (inquiry.recall() == null) {
            node.offNetwork(() -> rank(Neighbours.NONE));
        } else {
            inquiry.recall().join(node, neighbours -> node.offNetwork(() -> rank(neighbours)));
        }
    }

    private void rank(Neighbours neighbours) {
        Candidates candidates;
        long leftMs;
        try {
            report.vectors(neighbours);
            if (!inquiry.asked().similarTo().isEmpty() && inquiry.target().name().isEmpty()) {
                report.note(new Note(Reason.NOT_APPLICABLE, "similar_to needs a search of one index or alias"));
            }
            Indices.Target target = inquiry.target();
            if (target.isSeveral() && target.name().isEmpty() && target.hasVectors()) {
                String detail = "items are ranked without vectors: the names of the indices are too long together for"
                    + " the ranker to look items up there; search an alias of them";
                report.note(new Note(Reason.NOT_APPLICABLE, detail));
            }
            if (!notFetched.isEmpty()) {
                String detail = "not fetched, so that the ranker can't read them: " + String.join(", ", notFetched)
                    + "; name them at neural_recall, or in _source";
                report.note(new Note(Reason.FEATURES_UNAVAILABLE, detail));
            }
            SearchHits hits = response.getHits();
            boolean hasText = !inquiry.asked().queryText().isEmpty();
            boolean ofTaste = inquiry.asked().isOfUserAlone() && !neighbours.areOfNobody();
            candidates = Candidates.of(hits.getHits(), neighbours.hits(), hasText, ofTaste, hits.getCollapseField());
            report.candidates(candidates.size());
            if (inquiry.recall() != null) {
                record(Stats.Stage.ENCODE, neighbours.encodeNanos());
                record(Stats.Stage.RECALL, neighbours.searchNanos());
            }
            leftMs = timeoutMs - spentMs();
        } catch (RuntimeException e) {
            defect(e);
            return;
        }
        if (candidates.isEmpty()) {
            node.stats().emptyPage();
            finishOriginal(new Note(Reason.NOT_APPLICABLE, LeftAlone.NOTHING_FOUND.detail()));
            return;
        }
        long calledAt = System.nanoTime();
        // Not ActionListener.wrap: it would report an exception of whoever comes next as a failure of the call, and
        // the caller would be answered twice.
        ActionListener<Ranking> answer = node.inThisContext(new ActionListener<>() {
            @Override
            public void onResponse(Ranking ranking) {
                rankTook(calledAt);
                finishRanked(ranking, candidates);
            }

            @Override
            public void onFailure(Exception error) {
                rankTook(calledAt);
                failed(error);
            }
        });
        RankRequest message;
        try {
            ItemFields fields = ItemFields.of(options);
            boolean listBlocked = !inquiry.asked().userId().isEmpty()
                && further.goesOn(response.getHits().getHits());
            message = RankMessage.of(
                inquiry.asked(),
                options,
                candidates,
                fields,
                inquiry.target(),
                listBlocked,
                node.sidecar().textCharacters(),
                leftMs
            );
        } catch (RuntimeException e) {
            defect(e);
            return;
        }
        node.sidecar().rank(message, node.callerHeaders(), leftMs, reply -> Ranking.of(candidates, reply), answer);
    }

    /** How much of the time the vector leg has used; the caller's own query may have taken longer than both. */
    private long spentMs() {
        return inquiry.recall() == null ? 0 : Math.min(inquiry.recall().spentMs(), inquiry.recall().budgetMs());
    }

    private void failed(Exception error) {
        if (error instanceof SidecarException expected) {
            node.stats().failed(expected.note().reason().key());
            warnings.failed(expected.note());
            finishOriginal(expected.note());
        } else {
            defect(error);
        }
    }

    private void rankTook(long calledAt) {
        long nanos = System.nanoTime() - calledAt;
        rankMs = nanos / 1_000_000;
        report.took("rank", nanos);
        record(Stats.Stage.RANK, nanos);
    }

    private void record(Stats.Stage stage, long nanos) {
        if (nanos > 0) {
            node.stats().took(stage, nanos);
        }
    }

    private void finishRanked(Ranking ranking, Candidates candidates) {
        SearchRequest counting;
        Further.Tail rest;
        try {
            List<SearchHit> neighbours = candidates.neighbours();
            boolean both = options.text("totals", "query").equals("both") && !neighbours.isEmpty();
            counting = both ? further.counts(neighbours, timeoutMs - spentMs() - rankMs) : null;
            rest = further.after(response.getHits().getHits(), ranking, candidates, options);
            Note unseen = further.unseen(response.getHits(), ranking, options);
            if (unseen != null) {
                report.note(unseen);
            }
        } catch (RuntimeException e) {
            defect(e);
            return;
        }
        count(counting, counted -> fetch(rest, after -> finishRanked(ranking, candidates.size(), after, counted)));
    }

    private void finishRanked(Ranking ranking, int candidates, List<SearchHit> after, SearchResponse counted) {
        SearchResponse ranked;
        try {
            List<Ranking.Place> shown = new ArrayList<>(page.cut(ranking.places()));
            after.forEach(hit -> shown.add(Ranking.Place.unranked(hit)));
            if (!after.isEmpty()) {
                String detail = after.size() + " hits of this page come after the window, in the order of the query";
                report.note(new Note(Reason.PARTIAL_WINDOW, detail));
            }
            report.ranking(ranking, shown, candidates, options.flag("explain", false));
            Trial trial = Trial.of(ranking.reply(), shown);
            report.trial(trial);
            close();
            // While the hits still have what the caller did not ask for.
            List<String> ids = QueryLog.ids(inquiry.asked(), shown);
            ranked = page.ranked(ranking, shown, counted, report);
            node.queryLog().add(inquiry.asked(), trial, ids);
            node.stats().reranked();
        } catch (RuntimeException e) {
            defect(e);
            return;
        }
        listener.onResponse(ranked);
    }

    private void count(SearchRequest counting, Consumer<SearchResponse> then) {
        if (counting == null) {
            then.accept(response);
            return;
        }
        search(counting, then, error -> {
            Note why = FailedSearch.note("the search that counts both", error);
            report.note(new Note(why.reason(), "totals and aggregations are of the query alone: " + why.detail()));
            then.accept(response);
        });
    }

    private void fetch(Further.Tail rest, Consumer<List<SearchHit>> then) {
        if (rest == null) {
            then.accept(List.of());
            return;
        }
        // Where a part of the page can't be had, the search has failed as it would have without this plugin.
        search(rest.search(), found -> {
            noteIfPartial(found);
            then.accept(rest.of(found.getHits().getHits()));
        }, listener::onFailure);
    }

    private void noteIfPartial(SearchResponse found) {
        int failed = found.getFailedShards();
        if (failed == 0 && !found.isTimedOut()) {
            return;
        }
        String what = failed == 0
            ? "ran into the search's timeout"
            : "failed on " + failed + " of " + found.getTotalShards() + " shards";
        report.note(new Note(Reason.PARTIAL_WINDOW, "the search for what comes after the window " + what));
    }

    private void search(SearchRequest request, Consumer<SearchResponse> found, Consumer<Exception> failed) {
        node.search(request, new ActionListener<>() {
            @Override
            public void onResponse(SearchResponse response) {
                node.offNetwork(() -> found.accept(response));
            }

            @Override
            public void onFailure(Exception error) {
                node.offNetwork(() -> failed.accept(error));
            }
        });
    }

    private void finishOriginal(Note why) {
        report.note(why);
        Further.Tail rest = null;
        try {
            SearchHit[] window = response.getHits().getHits();
            rest = further.afterUnranked(window);
        } catch (RuntimeException e) {
            warnings.defect(e);
        }
        fetch(rest, this::finishOriginal);
    }

    private void finishOriginal(List<SearchHit> after) {
        SearchResponse original;
        try {
            close();
            original = page.original(after, report);
        } catch (RuntimeException e) {
            warnings.defect(e);
            original = response;
        }
        listener.onResponse(original);
    }

    private void defect(Exception error) {
        warnings.defect(error);
        node.stats().failed("defect");
        finishOriginal(new Note(Reason.UNKNOWN, "the plugin failed: " + error.getClass().getSimpleName()));
    }

    /** Sums up: how long the ranking step held the response back, and what it came to. */
    private void close() {
        long nanos = System.nanoTime() - startedAt;
        report.took("total", nanos);
        node.stats().took(Stats.Stage.TOTAL, nanos);
        report.reasons().forEach(reason -> node.stats().degraded(reason.key()));
    }
}

package org.neuralrank.search;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Predicate;
import org.apache.lucene.search.TotalHits;
import org.neuralrank.options.Options;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;
import org.opensearch.search.builder.SearchSourceBuilder;

/**
 * The searches that some pages need once their window is ranked: for the hits that come after it, and for totals that
 * count neighbours. Both are the caller's own search with a few things changed.
 */
final class Further {

    /**
     * The part of a page that comes after the window.
     *
     * @param search  finds it
     * @param skipped how many of what may come were on earlier pages
     * @param size    how many are on this one
     * @param mayCome which of what it finds
     */
    record Tail(SearchRequest search, int skipped, int size, Predicate<SearchHit> mayCome) {
        List<SearchHit> of(SearchHit[] found) {
            return Arrays.stream(found).filter(mayCome).skip(skipped).limit(size).toList();
        }
    }

    private final SearchRequest request;
    private final Inquiry inquiry;

    /** @param request as {@code neural_recall} left it */
    Further(SearchRequest request, Inquiry inquiry) {
        this.request = request;
        this.inquiry = inquiry;
    }

    /**
     * For the part of the page that comes after the window's hits, in the order of the caller's query: so pages go on
     * after the window without a hit that comes twice or never. Null where there is no such part, and for a hybrid
     * query: its scores are normalised by a pipeline, which this search goes without, and over the window alone. Null
     * too where what lies there could break a promise, since nobody has looked at it; what the user has blocked is
     * known and left out.
     *
     * @param window the caller's hits that are in the window
     */
    Tail after(SearchHit[] window, Ranking ranking, Candidates candidates, Options options) {
        Set<String> blocked = new HashSet<>(ranking.reply().getBlockedItemsList());
        boolean promises = options.filters()
            || (options.has("min_score") && options.number("min_score") > 0)
            || isDropped(ranking, candidates, blocked);
        return promises ? null : after(window, ranking.places().size(), candidates.neighbours(), blocked);
    }

    /** The same where the window stays in its order. */
    Tail afterUnranked(SearchHit[] window) {
        return after(window, window.length, List.of(), Set.of());
    }

    /**
     * Says that a page ends before its size because filters looked at the window alone, though the query finds more.
     * Null where it does not.
     *
     * @param window the caller's hits that are in the window, with how many there are of them in all
     */
    Note unseen(SearchHits window, Ranking ranking, Options options) {
        Asked asked = inquiry.asked();
        boolean isWidened = inquiry.widened();
        int looked = window.getHits().length;
        int last = asked.from() + asked.size();
        boolean isShort = ranking.places().size() < (isWidened ? last : asked.size());
        boolean goesOn = looked >= (isWidened ? request.source().size() : asked.size());
        if (!options.filters() || !isShort || !goesOn) {
            return null;
        }
        TotalHits total = window.getTotalHits();
        boolean isExact = total != null && total.relation() == TotalHits.Relation.EQUAL_TO;
        long seen = isWidened ? looked : last;
        if (isExact && total.value() <= seen) {
            return null;
        }
        long known = Math.max(seen, total == null ? 0 : total.value());
        String detail = String.format(
            Locale.ROOT,
            "filters looked at %,d of %s %,d hits of the query, and the list ends with them; what the query's own filter"
                + " asks for holds for all",
            looked,
            isExact ? "the" : "more than",
            known
        );
        return new Note(Reason.PARTIAL_WINDOW, detail);
    }

    /** Whether anything was dropped of which it is not known what else would be, or where that would be. */
    private boolean isDropped(Ranking ranking, Candidates candidates, Set<String> blocked) {
        Set<String> kept = new HashSet<>();
        ranking.places().forEach(place -> kept.add(place.entry().id()));
        // Another hit would stand for the group of one that is left out.
        boolean isCollapsed = request.source().collapse() != null;
        for (Candidates.Entry entry : candidates.all()) {
            String id = entry.hit().getId();
            boolean known = id.equals(inquiry.asked().similarTo()) || (blocked.contains(id) && !isCollapsed);
            if (!known && !kept.contains(entry.id())) {
                return true;
            }
        }
        return false;
    }

    /**
     * @param ranked     how many hits the window came to, with neighbours and without what was dropped
     * @param neighbours those of them that the caller's query did not bring into the window
     * @param blocked    ids that are not to come: none of them is left in the window
     */
    private Tail after(SearchHit[] window, int ranked, List<SearchHit> neighbours, Set<String> blocked) {
        int first = Math.max(inquiry.asked().from(), ranked);
        int wanted = inquiry.asked().from() + inquiry.asked().size() - first;
        if (wanted <= 0 || !goesOn(window)) {
            return null;
        }
        SearchSourceBuilder source = request.source();
        boolean isRescored = source.rescores() != null && !source.rescores().isEmpty();
        return isRescored
            ? leftOut(window, first - ranked, wanted, neighbours, blocked)
            : excluded(window, first - ranked, wanted, neighbours, blocked);
    }

    /** By a search that leaves out what is not to come. */
    private Tail excluded(
        SearchHit[] window,
        int skipped,
        int wanted,
        List<SearchHit> neighbours,
        Set<String> blocked
    ) {
        int shown = (int) Arrays.stream(window).filter(hit -> !blocked.contains(hit.getId())).count();
        int from = shown + skipped;
        int size = Math.min(wanted, inquiry.target().maxResultWindow() - from);
        if (size <= 0) {
            return null;
        }
        SearchRequest search = copy();
        search.source().from(from).size(size).trackTotalHits(false).suggest(null);
        BoolQueryBuilder unseen = unseen(window, neighbours);
        if (!blocked.isEmpty()) {
            unseen.mustNot(QueryBuilders.idsQuery().addIds(blocked.toArray(String[]::new)));
        }
        if (unseen.hasClauses()) {
            if (request.source().postFilter() != null) {
                unseen.filter(request.source().postFilter());
            }
            search.source().postFilter(unseen);
        }
        return new Tail(search, 0, size, hit -> true);
    }

    /**
     * By a search for all that comes after the window. For rescored hits: each shard rescores its best, and what was
     * left out of these would let others in, which are then elsewhere in the order.
     */
    private Tail leftOut(
        SearchHit[] window,
        int skipped,
        int wanted,
        List<SearchHit> neighbours,
        Set<String> blocked
    ) {
        String item = inquiry.asked().similarTo();
        int left = neighbours.size() + blocked.size() + (item.isEmpty() ? 0 : 1);
        int size = Math.min(skipped + wanted + left, inquiry.target().maxResultWindow() - window.length);
        if (size <= 0) {
            return null;
        }
        SearchRequest search = copy();
        search.source().from(window.length).size(size).trackTotalHits(false).suggest(null);
        Set<String> seen = new HashSet<>();
        neighbours.forEach(hit -> seen.add(Candidates.key(hit)));
        return new Tail(
            search,
            skipped,
            wanted,
            hit -> !seen.contains(Candidates.key(hit)) && !blocked.contains(hit.getId()) && !hit.getId().equals(item)
        );
    }

    /** Whether hits of the caller's query can come after the window. */
    boolean goesOn(SearchHit[] window) {
        return inquiry.widened() && window.length >= request.source().size() && !isHybrid();
    }

    private boolean isHybrid() {
        QueryBuilder query = request.source().query();
        return query != null && query.getName().equals(HardFilters.HYBRID);
    }

    /** What was not on an earlier page: neither a neighbour nor, of collapsed hits, one of a neighbour's group. */
    private BoolQueryBuilder unseen(SearchHit[] window, List<SearchHit> neighbours) {
        BoolQueryBuilder unseen = new BoolQueryBuilder();
        if (!neighbours.isEmpty() && request.source().collapse() != null) {
            String field = request.source().collapse().getField();
            List<Object> groups = new ArrayList<>();
            neighbours.forEach(hit -> groups.add(Candidates.collapseValue(hit, field)));
            unseen.mustNot(QueryBuilders.termsQuery(field, groups.stream().filter(Objects::nonNull).toList()));
            if (groups.contains(null)) {
                unseen.filter(QueryBuilders.existsQuery(field));
            }
        } else if (!neighbours.isEmpty()) {
            unseen.mustNot(these(neighbours));
        }
        String item = inquiry.asked().similarTo();
        if (!item.isEmpty() && Arrays.stream(window).noneMatch(hit -> hit.getId().equals(item))) {
            unseen.mustNot(QueryBuilders.idsQuery().addIds(item));
        }
        return unseen;
    }

    /**
     * For totals and aggregations of what the caller's query finds and the neighbours together. Null where there is
     * no query: all are counted already.
     *
     * @param leftMs time for it
     */
    SearchRequest counts(List<SearchHit> neighbours, long leftMs) {
        if (request.source().query() == null) {
            return null;
        }
        SearchRequest search = copy();
        SearchSourceBuilder source = search.source().from(0).size(0).suggest(null).highlighter(null).explain(false);
        source.clearRescorers();
        // Without a score: aggregations that look at scores see those of the query.
        QueryBuilder added = QueryBuilders.constantScoreQuery(these(neighbours)).boost(0);
        source.query(new BoolQueryBuilder().should(source.query()).should(added).minimumShouldMatch(1));
        search.setCancelAfterTimeInterval(TimeValue.timeValueMillis(Math.max(1, leftMs)));
        return search;
    }

    private static QueryBuilder these(List<SearchHit> hits) {
        Map<String, List<String>> byIndex = new TreeMap<>();
        hits.forEach(hit -> byIndex.computeIfAbsent(hit.getIndex(), index -> new ArrayList<>()).add(hit.getId()));
        BoolQueryBuilder these = new BoolQueryBuilder();
        byIndex.forEach(
            (index, ids) -> these.should(
                new BoolQueryBuilder().filter(QueryBuilders.termQuery("_index", index))
                    .filter(QueryBuilders.idsQuery().addIds(ids.toArray(String[]::new)))
            )
        );
        return these;
    }

    private SearchRequest copy() {
        SearchSourceBuilder source = request.source()
            .shallowCopy()
            // The UBI plugin would log it as one more query of the user's.
            .ext(request.source().ext().stream().filter(section -> !section.getWriteableName().equals("ubi")).toList())
            .profile(false)
            .searchPipelineSource(null)
            .verbosePipeline(false); // Refused without a pipeline.
        // An index's default pipeline would call this search again, and again.
        return new SearchRequest(request).source(source).pipeline("_none");
    }
}

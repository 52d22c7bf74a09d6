package org.neuralrank.search;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.neuralrank.options.Options;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.sidecar.SidecarException;
import org.neuralrank.v1.EncodeInput;
import org.neuralrank.v1.EncodeRequest;
import org.neuralrank.v1.User;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.ConstantScoreQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.search.SearchHit;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.fetch.subphase.highlight.HighlightBuilder;

/**
 * Finds the neighbours of the query, the user or the item, or those of the item's photo: Encode, then a k-NN search of
 * its own.
 */
final class VectorLeg {

    static final String DEFAULT_FIELD = "text_vector";
    private static final int DEFAULT_K = 100;
    /**
     * How many neighbours the graph is searched for, for each that is wanted. HNSW finds few of the last ones: of 100
     * true neighbours 0.88 with k = 100, and 0.98 with k = 400 in the same time (10,000 and 19,000 vectors of E5).
     */
    private static final int OVERSAMPLING = 4;
    private static final int MOST_NEIGHBOURS = 10_000;
    private static final int MOST_NAMED = 5;
    /** How many interests of a user are told apart. Measured: docs/decisions/025-several-interests.md. */
    private static final int DEFAULT_INTERESTS = 5;
    /** The part of {@code k} that comes by what other users did: docs/decisions/026-collaborative-recall.md. */
    private static final int COLLABORATIVE_PART = 2;
    private static final int MOST_COLLABORATIVE = 1_000;

    /**
     * One of the searches of this leg.
     *
     * @param places of ids, where hits are to be in that order; empty: as they are found
     */
    private record Step(SearchRequest search, Map<String, Integer> places) {
        String name() {
            return places.isEmpty() ? "k-NN search" : "search by ids";
        }
    }

    private final Node node;
    private final Options options;
    private final Asked asked;
    private final Indices.Target target;
    private final Pipelines.Rest rest;
    private final boolean ofPhotos;

    private VectorLeg(
        Node node,
        Options options,
        Asked asked,
        Indices.Target target,
        Pipelines.Rest rest,
        boolean ofPhotos
    ) {
        this.node = node;
        this.options = options;
        this.asked = asked;
        this.target = target;
        this.rest = rest;
        this.ofPhotos = ofPhotos;
    }

    /** @param rest of the pipeline: what comes after */
    static VectorLeg ofTexts(Node node, Options options, Asked asked, Indices.Target target, Pipelines.Rest rest) {
        return new VectorLeg(node, options, asked, target, rest, false);
    }

    /** @param target what is known of the indices' field of photos */
    static VectorLeg ofPhotos(Node node, Options options, Asked asked, Indices.Target target, Pipelines.Rest rest) {
        return new VectorLeg(node, options, asked, target, rest, true);
    }

    private String field() {
        return ofPhotos ? Indices.PHOTOS : options.text("vector_field", DEFAULT_FIELD);
    }

    private boolean isWanted() {
        return !asked.queryText().isEmpty() || !asked.similarTo().isEmpty() || !asked.userId().isEmpty();
    }

    private boolean ignoresUnmapped() {
        return options.flag("ignore_unmapped", false);
    }

    private boolean needsIndex() {
        return asked.queryText().isEmpty() || !asked.similarTo().isEmpty();
    }

    /** Starts it; returns at once. The request must still be as the caller sent it. */
    Recall start(SearchRequest request, long budgetMs) {
        Recall recall = new Recall(budgetMs);
        if (!isWanted()) {
            recall.complete(Neighbours.NONE);
        } else if (!target.hasVectors()) {
            String lacks = target == Indices.Target.UNKNOWN
                ? "neighbours are searched for in this cluster's indices alone"
                : "no index of this search has a knn_vector field [" + field() + "]";
            recall.complete(ignoresUnmapped() ? Neighbours.NONE : without(Reason.NOT_APPLICABLE, lacks));
        } else if (!rest.later().isEmpty()) {
            String detail = "neighbours can't be held to what comes after neural_recall and may ask for more: "
                + rest.later() + "; let neural_recall be the last request processor";
            recall.complete(without(Reason.NOT_APPLICABLE, detail));
        } else if (request.source().minScore() != null) {
            recall.complete(
                without(Reason.NOT_APPLICABLE, "min_score is of the query's own scores, which neighbours have none of")
            );
        } else if (target.encoders().size() > 1) {
            recall.complete(
                without(Reason.ENCODER_MISMATCH, "the indices hold vectors of different encoders: " + target.encoders())
            );
        } else if (needsIndex() && target.name().isEmpty()) {
            recall.complete(
                without(Reason.NOT_APPLICABLE, "the vector of a user or an item needs a search of one index or alias")
            );
        } else {
            encode(request, recall);
        }
        return recall;
    }

    private Neighbours without(Reason reason, String detail) {
        return Neighbours.none(new Note(reason, "no vector leg" + (ofPhotos ? " of photos" : "") + ": " + detail));
    }

    private void encode(SearchRequest request, Recall recall) {
        HardFilters conditions = HardFilters.of(
            request.source().query(),
            request.source().postFilter(),
            node.registry(),
            target::isExact
        );
        if (!conditions.opaque().isEmpty()) {
            String opaque = "neighbours can't be held to the conditions of " + conditions.opaque();
            recall.complete(without(Reason.NOT_APPLICABLE, opaque));
            return;
        }
        QueryBuilder filter = conditions.query();
        List<QueryBuilder> shown = Stream.of(request.source().query(), request.source().postFilter())
            .filter(VectorLeg::isShown)
            .toList();
        // Copied now: the processor changes the request as soon as this returns.
        SearchRequest search = likeThe(request);
        long startedAt = System.nanoTime();
        node.sidecar()
            .encode(
                encodeRequest(),
                node.callerHeaders(),
                recall.leftMs(),
                reply -> Encoded.of(reply, target.dimensions()),
                node.inThisContext(ActionListener.wrap(encoded -> {
                    long encodeNanos = System.nanoTime() - startedAt;
                    search(search, filter, shown, encoded, recall, encodeNanos);
                }, error -> recall.complete(failure(error, "encode").after(System.nanoTime() - startedAt, 0))))
            );
    }

    private EncodeRequest encodeRequest() {
        EncodeInput.Builder input = EncodeInput.newBuilder();
        if (ofPhotos) {
            input.setPhotoOf(asked.similarTo());
            return EncodeRequest.newBuilder().addInputs(input).setIndex(target.name()).build();
        }
        if (!asked.similarTo().isEmpty()) {
            input.setItemId(asked.similarTo());
        } else if (!asked.queryText().isEmpty()) {
            input.setQuery(asked.queryText());
        } else {
            int interests = options.integer("interests", DEFAULT_INTERESTS);
            // One is the mean, which is there anyway.
            input.setUser(User.newBuilder().setId(asked.userId())).setInterests(interests > 1 ? interests : 0);
            if (options.flag("collaborative", true)) {
                input.setCollaborative(mostCollaborative());
            }
            // What neural_rank will drop would take the places of what it would not.
            Options filters = options.inner("filters");
            input.setListBlocked(true)
                .setListPurchased(filters.flag("exclude_purchased", rest.excludesPurchased()));
        }
        String encoder = options.text("encoder", "");
        if (encoder.isEmpty() && target.name().isEmpty() && target.encoders().size() == 1) {
            encoder = target.encoders().iterator().next();
        }
        EncodeRequest.Builder request = EncodeRequest.newBuilder()
            .addInputs(input)
            .setEncoder(encoder)
            .setIndex(target.name());
        if (options.has("exclusions")) {
            request.setExclusions(options.flag("exclusions", true));
        }
        return request.build();
    }

    /** Whether hits say what in the query they match: its named clauses, or what is joined to them. */
    private static boolean isShown(QueryBuilder query) {
        if (query == null || query.getName().equals(HardFilters.HYBRID)) {
            return false; // The latter can be no part of another query.
        }
        String json = query.toString();
        return json.contains("\"_name\"") || json.contains("\"inner_hits\"");
    }

    /** @param shown the caller's query and post filter where hits say what in them they match */
    private void search(
        SearchRequest search,
        QueryBuilder filter,
        List<QueryBuilder> shown,
        Encoded encoded,
        Recall recall,
        long encodeNanos
    ) {
        List<String> ids = encoded.likely().stream().limit(mostCollaborative()).toList();
        Neighbours lacking = Neighbours.NONE;
        if (encoded.isMissing() && !ofPhotos) {
            boolean user = asked.queryText().isEmpty() && asked.similarTo().isEmpty();
            Reason reason = user ? Reason.NO_USER : Reason.FEATURES_UNAVAILABLE;
            lacking = without(reason, encoded.missing()).after(encodeNanos, 0);
        }
        if (encoded.isMissing() && ids.isEmpty()) {
            // Not every item has a photo, and nothing is lacking for it.
            recall.complete(lacking);
            return;
        }
        String held = target.encoders().stream().findFirst().orElse("");
        if (!held.isEmpty() && !encoded.encoder().isEmpty() && !held.equals(encoded.encoder())) {
            String detail = "the index holds vectors of " + held + ", the query's is of " + encoded.encoder();
            recall.complete(without(Reason.ENCODER_MISMATCH, detail).after(encodeNanos, 0));
            return;
        }
        List<Step> steps = new ArrayList<>();
        try {
            if (!ids.isEmpty()) {
                steps.add(likely(search, filter, shown, ids));
            }
            // Conditions may leave few of the ids, or none; a page has enough candidates all the same.
            int wanted = filter == null ? k() - ids.size() : k();
            steps.addAll(nearest(search, filter, shown, encoded, wanted));
        } catch (Exception e) {
            // What the k-NN plugin says about a clause it can't parse, or that there is no such plugin.
            String detail = "this node can't read a knn clause: " + e.getMessage();
            recall.complete(without(Reason.NOT_APPLICABLE, detail).after(encodeNanos, 0));
            return;
        }
        long leftMs = recall.leftMs();
        if (leftMs <= 0) {
            recall.complete(without(Reason.DEADLINE, "encoding took all of its time").after(encodeNanos, 0));
            return;
        }
        List<Recall> found = new ArrayList<>();
        steps.forEach(step -> found.add(run(step, encoded.encoder(), leftMs, encodeNanos)));
        found.add(Recall.of(lacking));
        recall.follow(found);
    }

    /** A search for items by their ids. What has left the index, or does not meet the conditions, is not found. */
    private Step likely(SearchRequest search, QueryBuilder filter, List<QueryBuilder> shown, List<String> ids) {
        BoolQueryBuilder these = new BoolQueryBuilder().filter(
            QueryBuilders.idsQuery().addIds(ids.toArray(String[]::new))
        );
        if (filter != null) {
            these.filter(filter);
        }
        Map<String, Integer> places = new HashMap<>();
        ids.forEach(id -> places.putIfAbsent(id, places.size()));
        // Several indices may each have an item of an id; which of them come first is said by their places alone.
        int most = Math.min(ids.size() * Math.max(target.fields().size(), 1), target.maxResultWindow());
        return new Step(copy(search, these, shown, most), places);
    }

    /**
     * A search for the neighbours of each vector, which together want so many: of each as many as its share. One that
     * comes to none is left out. Nothing that is excluded is among them.
     */
    private List<Step> nearest(
        SearchRequest search,
        QueryBuilder filter,
        List<QueryBuilder> shown,
        Encoded encoded,
        int together
    ) throws IOException {
        List<Step> steps = new ArrayList<>();
        double share = 0;
        int before = 0;
        for (Encoded.Vector vector : encoded.vectors()) {
            share += vector.share();
            int until = (int) Math.min(together, Math.round(together * share));
            int wanted = until - before;
            before = until;
            if (wanted > 0) {
                QueryBuilder near = clause(vector.values(), wanted, filter, encoded.excluded());
                int most = Math.min(wanted, target.maxResultWindow());
                steps.add(new Step(copy(search, near, shown, most), Map.of()));
            }
        }
        return steps;
    }

    private static SearchRequest copy(SearchRequest search, QueryBuilder query, List<QueryBuilder> shown, int size) {
        QueryBuilder whole = query;
        if (!shown.isEmpty()) {
            BoolQueryBuilder both = new BoolQueryBuilder().must(query);
            // Without a score: the order is that of the query.
            shown.forEach(each -> both.should(new ConstantScoreQueryBuilder(each).boost(0)));
            whole = both;
        }
        SearchSourceBuilder source = search.source().shallowCopy().size(size).query(whole);
        // An index's default pipeline would call this leg again, and again.
        return new SearchRequest(search).source(source).pipeline("_none");
    }

    private Recall run(Step step, String encoder, long leftMs, long encodeNanos) {
        Recall recall = new Recall(leftMs);
        SearchRequest search = step.search();
        search.setCancelAfterTimeInterval(TimeValue.timeValueMillis(leftMs));
        long startedAt = System.nanoTime();
        node.search(
            search,
            ActionListener.wrap(
                response -> recall.complete(
                    found(response, step, encoder).after(encodeNanos, System.nanoTime() - startedAt)
                ),
                error -> recall.complete(failure(error, step.name()).after(encodeNanos, System.nanoTime() - startedAt))
            )
        );
        return recall;
    }

    private Neighbours found(SearchResponse response, Step step, String encoder) {
        List<Note> notes = new ArrayList<>();
        int failed = response.getFailedShards();
        if (failed > 0) {
            String detail = "the " + step.name() + " failed on " + failed + " of " + response.getTotalShards() + " shards";
            notes.add(new Note(Reason.FEATURES_UNAVAILABLE, detail));
        }
        if (!ofPhotos && !target.withoutVectors().isEmpty() && !ignoresUnmapped()) {
            String lack = target.withoutVectors().stream().limit(MOST_NAMED).collect(Collectors.joining(", "));
            int more = target.withoutVectors().size() - MOST_NAMED;
            String detail = "no vector leg in [" + lack + "]" + (more > 0 ? " and " + more + " more" : "")
                + ": no knn_vector field [" + field() + "]";
            notes.add(new Note(Reason.NOT_APPLICABLE, detail));
        }
        List<SearchHit> hits = new ArrayList<>(Arrays.asList(response.getHits().getHits()));
        if (!step.places().isEmpty()) {
            hits.sort(Comparator.comparingInt(hit -> step.places().get(hit.getId())));
            hits = hits.subList(0, Math.min(hits.size(), step.places().size()));
        }
        return new Neighbours(hits, notes, encoder, 0, 0);
    }

    private Neighbours failure(Exception error, String step) {
        if (error instanceof SidecarException expected) {
            return without(expected.note().reason(), step + ": " + expected.note().detail());
        }
        Note why = FailedSearch.note(step, error);
        return without(why.reason(), why.detail());
    }

    /**
     * @param excluded ids that are looked past: as many more are looked for in the graph. In the clause's filter they
     *                 would cost a pass over the whole index, however few they are.
     */
    private QueryBuilder clause(float[] vector, int wanted, QueryBuilder filter, List<String> excluded)
        throws IOException {
        try (XContentBuilder json = XContentBuilder.builder(XContentType.JSON.xContent())) {
            json.startObject().startObject("knn").startObject(field());
            json.array("vector", vector);
            json.field("k", Math.min(MOST_NEIGHBOURS, explored(wanted) + excluded.size()));
            // Indices without the field have no neighbours; they must not fail those that have.
            json.field("ignore_unmapped", true);
            if (filter != null) {
                json.field("filter");
                filter.toXContent(json, ToXContent.EMPTY_PARAMS);
            }
            json.endObject().endObject().endObject();
            QueryBuilder near = Clauses.parse(json, node.registry());
            return excluded.isEmpty()
                ? near
                : new BoolQueryBuilder().must(near)
                    .mustNot(QueryBuilders.idsQuery().addIds(excluded.toArray(String[]::new)));
        }
    }

    /** How many neighbours the graph is searched for; lucene and faiss explore as many as are asked for. */
    private int explored(int wanted) {
        int usual = Math.min(MOST_NEIGHBOURS, OVERSAMPLING * wanted);
        return Math.max(wanted, options.integer("ef_search", usual));
    }

    private int mostCollaborative() {
        return Math.min(MOST_COLLABORATIVE, k() / COLLABORATIVE_PART);
    }

    private int k() {
        return options.integer("k", DEFAULT_K);
    }

    /**
     * A search over the same documents whose hits show the same things as the caller's; its query and size come later.
     */
    private SearchRequest likeThe(SearchRequest request) {
        SearchSourceBuilder theirs = request.source();
        SearchSourceBuilder source = withDerivedFields(theirs).from(0)
            .trackTotalHits(false)
            .seqNoAndPrimaryTerm(true)
            .fetchSource(ItemFields.toFetch(options, asked, target))
            .version(theirs.version())
            .explain(theirs.explain())
            .includeNamedQueriesScores(theirs.includeNamedQueriesScore());
        if (theirs.storedFields() != null) {
            source.storedFields(theirs.storedFields());
        }
        if (theirs.docValueFields() != null) {
            theirs.docValueFields().forEach(field -> source.docValueField(field.field, field.format));
        }
        if (theirs.fetchFields() != null) {
            theirs.fetchFields().forEach(field -> source.fetchField(field.field, field.format));
        }
        if (theirs.scriptFields() != null) {
            theirs.scriptFields()
                .forEach(field -> source.scriptField(field.fieldName(), field.script(), field.ignoreFailure()));
        }
        if (theirs.highlighter() != null) {
            HighlightBuilder highlighter = theirs.highlighter();
            // A neighbour's words are marked by the caller's query, if at all: a vector marks none.
            QueryBuilder marked = highlighter.highlightQuery() == null ? theirs.query() : highlighter.highlightQuery();
            source.highlighter(new HighlightBuilder(highlighter, marked, highlighter.fields()));
        }
        if (theirs.collapse() != null) {
            source.collapse(theirs.collapse());
        }
        if (theirs.slice() != null) {
            source.slice(theirs.slice());
        }
        if (theirs.timeout() != null) {
            source.timeout(theirs.timeout());
        }
        SearchRequest search = new SearchRequest(request.indices()).source(source)
            .indicesOptions(request.indicesOptions())
            .searchType(request.searchType())
            .routing(request.routing())
            .preference(request.preference());
        if (theirs.pointInTimeBuilder() != null) {
            source.pointInTimeBuilder(theirs.pointInTimeBuilder());
        }
        if (request.allowPartialSearchResults() != null) {
            search.allowPartialSearchResults(request.allowPartialSearchResults());
        }
        return search;
    }

    /** The conditions may be on fields that only this search has. Those of its body can be had by parsing alone. */
    private SearchSourceBuilder withDerivedFields(SearchSourceBuilder theirs) {
        SearchSourceBuilder source = new SearchSourceBuilder();
        if (theirs.getDerivedFieldsObject() != null) {
            try (XContentBuilder json = XContentBuilder.builder(XContentType.JSON.xContent())) {
                json.map(Map.of("derived", theirs.getDerivedFieldsObject()));
                try (XContentParser parser = Clauses.parser(BytesReference.bytes(json), node.registry())) {
                    source.parseXContent(parser);
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
        if (theirs.getDerivedFields() != null) {
            theirs.getDerivedFields()
                .forEach(
                    field -> source.derivedField(
                        field.getName(),
                        field.getType(),
                        field.getScript(),
                        field.getProperties(),
                        field.getPrefilterField(),
                        field.getFormat(),
                        field.getIgnoreMalformed()
                    )
                );
        }
        return source;
    }
}

package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import io.grpc.Metadata;
import io.grpc.Status;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.apache.lucene.search.TotalHits;
import org.apache.lucene.search.join.ScoreMode;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;
import org.neuralrank.Stats;
import org.neuralrank.options.Options;
import org.neuralrank.options.RankSection;
import org.neuralrank.options.ReportSection;
import org.neuralrank.sidecar.Access;
import org.neuralrank.sidecar.Sidecar;
import org.neuralrank.v1.Candidate;
import org.neuralrank.v1.EncodeResponse;
import org.neuralrank.v1.Encoding;
import org.neuralrank.v1.ExperimentMode;
import org.neuralrank.v1.Explanation;
import org.neuralrank.v1.Fusion;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.RankResponse;
import org.opensearch.ExceptionsHelper;
import org.opensearch.action.index.IndexRequest;
import org.opensearch.action.index.IndexResponse;
import org.neuralrank.v1.Weights;
import org.opensearch.action.search.MultiSearchAction;
import org.opensearch.action.search.MultiSearchRequest;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.search.SearchPhaseExecutionException;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.search.ShardSearchFailure;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.ParseField;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.transport.TransportAddress;
import org.opensearch.core.rest.RestStatus;
import org.opensearch.core.tasks.TaskCancelledException;
import org.opensearch.core.tasks.TaskId;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.index.mapper.DerivedField;
import org.opensearch.index.query.BoolQueryBuilder;
import org.opensearch.index.query.IdsQueryBuilder;
import org.opensearch.index.query.InnerHitBuilder;
import org.opensearch.index.query.InnerHitContextBuilder;
import org.opensearch.index.query.MatchAllQueryBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.index.query.WrapperQueryBuilder;
import org.opensearch.script.Script;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;
import org.opensearch.search.SearchModule;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.collapse.CollapseBuilder;
import org.opensearch.search.internal.InternalSearchResponse;
import org.opensearch.search.pipeline.PipelineProcessingContext;
import org.opensearch.search.rescore.QueryRescorerBuilder;
import org.opensearch.threadpool.ScalingExecutorBuilder;
import org.opensearch.threadpool.ThreadPool;

/** Whole searches through both processors, with a real thread pool and a sidecar over real gRPC. */
public class ProcessorsTest {

    private static final Indices.Target PRODUCTS = products(true);
    private static final TotalHits THREE = new TotalHits(3, TotalHits.Relation.EQUAL_TO);

    private ThreadPool threadPool;
    private FakeSidecar server;
    private Sidecar sidecar;
    private final Stats stats = new Stats();
    private Indices.Target target = PRODUCTS;
    private Indices.Target photos = Indices.Target.UNKNOWN;
    private Pipelines.Rest pipeline = Pipelines.Rest.UNKNOWN;
    private NamedXContentRegistry registry;
    private int timeoutMs = 5_000;
    private final List<Map<String, Object>> clauses = new CopyOnWriteArrayList<>();
    private final List<SearchRequest> vectorSearches = new CopyOnWriteArrayList<>();
    private final List<SearchRequest> furtherSearches = new CopyOnWriteArrayList<>();
    private Supplier<SearchResponse> further = () -> {
        throw new AssertionError("nothing further is to be searched");
    };
    /** Whether what further searches fail with comes at once, and not to the listener. */
    private boolean refuses;
    private Supplier<SearchHit[]> neighbours = () -> new SearchHit[] { Hits.hit("n", 0.9f) };
    private final List<IndexRequest> written = new CopyOnWriteArrayList<>();
    private Executor answering = Runnable::run;
    private boolean hasLog = true;
    private Exception refusal;
    private PipelineProcessingContext context = new PipelineProcessingContext();

    private static Indices.Target products(boolean hasSource) {
        Set<String> vectors = Set.of("text_vector", "text_vector_packed");
        return new Indices.Target(
            "products",
            false,
            true,
            Set.of(),
            3,
            Set.of("toy@1"),
            10_000,
            hasSource,
            List.of(),
            vectors
        );
    }

    @Before
    public void start() throws IOException {
        threadPool = new ThreadPool(
            Settings.builder().put("node.name", "test").build(),
            new ScalingExecutorBuilder(Node.POOL, 1, 2, TimeValue.timeValueMinutes(1))
        );
        server = new FakeSidecar();
        sidecar = sidecar(Access.open(), server.endpoint());
        registry = new NamedXContentRegistry(
            Stream.concat(
                new SearchModule(Settings.EMPTY, List.of()).getNamedXContents().stream(),
                Stream.of(new NamedXContentRegistry.Entry(QueryBuilder.class, new ParseField("knn"), parser -> {
                    clauses.add(parser.map());
                    return new MatchAllQueryBuilder();
                }))
            ).toList()
        );
    }

    @After
    public void stop() {
        sidecar.close();
        server.close();
        ThreadPool.terminate(threadPool, 10, TimeUnit.SECONDS);
    }

    private Sidecar sidecar(Access access, String... endpoints) {
        return new Sidecar(List.of(endpoints), access, threadPool.executor(Node.POOL), System::nanoTime, 3, 60_000);
    }

    private Node node() {
        return new Node(sidecar, this::targetOf, (request, named) -> pipeline, (request, listener) -> {
            // What the registry of these tests makes of a knn clause.
            if (isNear(request.source().query())) {
                vectorSearches.add(request);
                SearchHit[] found = neighbours.get();
                if (found != null) {
                    answering.execute(() -> listener.onResponse(Hits.response(found)));
                }
            } else {
                furtherSearches.add(request);
                if (refuses) {
                    further.get();
                }
                answering.execute(() -> ActionListener.completeWith(listener, further::get));
            }
        }, registry, threadPool, stats, new QueryLog(this::write, name -> hasLog, stats), () -> timeoutMs);
    }

    private static boolean isNear(QueryBuilder query) {
        return query instanceof MatchAllQueryBuilder
            || (query instanceof BoolQueryBuilder bool && bool.must().stream().anyMatch(ProcessorsTest::isNear))
            || isLikely(query);
    }

    /** Whether it is for what the users who did the same have. */
    private static boolean isLikely(QueryBuilder query) {
        return query instanceof BoolQueryBuilder bool
            && bool.filter().stream().anyMatch(each -> each instanceof IdsQueryBuilder);
    }

    private Indices.Target targetOf(SearchRequest request, String field) {
        return field.equals(Indices.PHOTOS) ? photos : target;
    }

    private void write(IndexRequest page, ActionListener<IndexResponse> listener) {
        written.add(page);
        if (refusal == null) {
            listener.onResponse(null);
        } else {
            listener.onFailure(refusal);
        }
    }

    private static SearchRequest request(SearchSourceBuilder source, Map<String, ?> ext) {
        if (ext != null) {
            source.ext(List.of(new RankSection(Options.parse(ext, Options.REQUEST_KEYS, "ext.neural_rank"))));
        }
        return new SearchRequest("products").source(source);
    }

    private static SearchSourceBuilder match(String text) {
        return new SearchSourceBuilder().query(QueryBuilders.matchQuery("title", text));
    }

    private SearchRequest recall(SearchRequest request, Map<String, Object> config) throws Exception {
        CompletableFuture<SearchRequest> done = new CompletableFuture<>();
        RecallProcessor.factory(node())
            .create(Map.of(), null, null, false, new HashMap<>(config), null)
            .processRequestAsync(request, context, ActionListener.wrap(done::complete, done::completeExceptionally));
        return done.getNow(null); // At once: the request processor waits for nothing.
    }

    private SearchResponse rank(SearchRequest request, SearchResponse response) throws Exception {
        return rank(request, response, Map.of());
    }

    private SearchResponse rank(SearchRequest request, SearchResponse response, Map<String, Object> config)
        throws Exception {
        CompletableFuture<SearchResponse> done = new CompletableFuture<>();
        RankProcessor.factory(node())
            .create(Map.of(), null, null, false, new HashMap<>(config), null)
            .processResponseAsync(request, response, context, ActionListener.wrap(answer -> {
                assertEquals("kept", threadPool.getThreadContext().getHeader("caller"));
                done.complete(answer);
            }, done::completeExceptionally));
        return done.get(30, TimeUnit.SECONDS);
    }

    private static String header(Metadata headers, String name) {
        return headers.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
    }

    @Test
    public void bothCallsCarryTheTraceAndTheIdOfTheSearch() throws Exception {
        String trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            var thread = threadPool.getThreadContext();
            thread.putHeader(Map.of("caller", "kept", "traceparent", trace, "tracestate", "shop=1"));
            thread.putHeader("X-Opaque-Id", "checkout-42");
            SearchRequest sent = recall(request(match("shoe"), null), Map.of("window", 20, "k", 5));
            rank(sent, Hits.response(Hits.hit("a", 3), Hits.hit("b", 2)));
        }
        assertEquals(1, server.encoded.size());
        assertEquals(1, server.ranked.size());
        assertEquals(2, server.headers.size());
        for (Metadata headers : server.headers) {
            assertEquals(trace, header(headers, "traceparent"));
            assertEquals("shop=1", header(headers, "tracestate"));
            assertEquals("checkout-42", header(headers, "x-opaque-id"));
            assertNull(header(headers, "caller"));
        }
    }

    @Test
    public void anIdThatGrpcCanNotCarryCostsNothing() throws Exception {
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader(Map.of("caller", "kept", "X-Opaque-Id", "电脑"));
            rank(recall(request(match("shoe"), null), Map.of()), Hits.response(Hits.hit("a", 3), Hits.hit("b", 2)));
        }
        assertEquals(1, server.ranked.size());
        server.headers.forEach(headers -> assertNull(header(headers, "x-opaque-id")));
    }

    private SearchResponse search(SearchRequest request) throws Exception {
        return search(request, Map.of());
    }

    private List<String> candidates() {
        return server.ranked.get(server.ranked.size() - 1).getCandidatesList().stream().map(Candidate::getId).toList();
    }

    /** A whole search whose lexical hits are a, b, c. */
    private SearchResponse search(SearchRequest request, Map<String, Object> more) throws Exception {
        return search(request, more, THREE);
    }

    /** One that found so many; null: nobody counted. */
    private SearchResponse search(SearchRequest request, Map<String, Object> more, TotalHits total) throws Exception {
        context = new PipelineProcessingContext();
        Map<String, Object> config = new HashMap<>(more);
        config.putIfAbsent("window", 20);
        config.putIfAbsent("k", 5);
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            return searchHere(request, config, total);
        }
    }

    /** The same in the thread context of now. */
    private SearchResponse searchHere(SearchRequest request, Map<String, Object> config, TotalHits total)
        throws Exception {
        threadPool.getThreadContext().putHeader("caller", "kept");
        SearchRequest sent = recall(request, config);
        assertNotNull(sent);
        return rank(sent, Hits.response(total, Hits.hit("a", 3), Hits.hit("b", 2), Hits.hit("c", 1)));
    }

    private static List<String> ids(SearchResponse response) {
        return Arrays.stream(response.getHits().getHits()).map(SearchHit::getId).toList();
    }

    private static Map<String, Object> report(SearchResponse response) {
        assertEquals(1, response.getInternalResponse().getSearchExtBuilders().size());
        return ((ReportSection) response.getInternalResponse().getSearchExtBuilders().get(0)).content();
    }

    @SuppressWarnings("unchecked")
    private static List<Object> reasons(SearchResponse response) {
        List<Object> reasons = new ArrayList<>();
        ((List<Map<String, Object>>) report(response).get("degraded")).forEach(note -> reasons.add(note.get("reason")));
        return reasons;
    }

    private void assertOriginal(SearchResponse response, String reason) {
        assertEquals(List.of("a", "b", "c"), ids(response));
        assertEquals(3f, response.getHits().getMaxScore(), 0);
        assertEquals(3f, response.getHits().getAt(0).getScore(), 0);
        assertEquals(false, report(response).get("reranked"));
        assertTrue(reasons(response) + " has " + reason, reasons(response).contains(reason));
    }

    // ------------------------------------------------------------------------------------ the good

    @Test
    public void bothLegsAreRankedTogether() throws Exception {
        SearchResponse response = search(request(match("电脑"), Map.of("user_id", "A")));
        assertEquals(List.of("n", "c", "b", "a"), ids(response));
        assertEquals(true, report(response).get("reranked"));
        assertEquals(List.of(), reasons(response));
        assertEquals(1f, response.getHits().getMaxScore(), 0);
        assertEquals("raised to what can be paged through", 4, response.getHits().getTotalHits().value());
        assertEquals("电脑", server.encoded.get(0).getInputs(0).getQuery());
        assertEquals("products", server.encoded.get(0).getIndex());
        assertEquals("A", server.ranked.get(0).getUser().getId());
        assertEquals(4, server.ranked.get(0).getCandidatesCount());
        assertFalse(server.ranked.get(0).getCandidates(3).hasRetrievalScore());
        assertEquals(1L, stats.asMap().get("reranked"));
    }

    @Test
    public void thePageIsCutFromTheWindow() throws Exception {
        SearchRequest request = request(match("x").from(1).size(2), null);
        SearchResponse response = search(request);
        assertEquals(20, request.source().size());
        assertEquals(0, request.source().from());
        assertEquals(List.of("c", "b"), ids(response));
        assertEquals("the best of all, not of the page", 1f, response.getHits().getMaxScore(), 0);
    }

    @Test
    public void whatWasOnlyFetchedForTheRankerIsTakenAway() throws Exception {
        SearchRequest request = request(match("x").fetchSource(false), null);
        SearchResponse response = search(request);
        assertTrue(request.source().fetchSource().fetchSource());
        assertEquals("item a\nB", server.ranked.get(0).getCandidates(0).getText());
        for (SearchHit hit : response.getHits()) {
            assertNull(hit.getSourceRef());
            assertEquals(-2, hit.getSeqNo());
        }
        SearchResponse some = search(request(match("x").fetchSource("price", null).seqNoAndPrimaryTerm(true), null));
        assertEquals(Map.of("price", 5), some.getHits().getAt(0).getSourceAsMap());
        assertEquals(7, some.getHits().getAt(0).getSeqNo());
    }

    @Test
    public void ofASourceThatIsNotKeptNoFieldsAreFetched() throws Exception {
        target = products(false);
        SearchRequest request = request(match("x").fetchSource(false), null);
        assertEquals(true, report(search(request)).get("reranked"));
        assertFalse(request.source().fetchSource().fetchSource());
        assertFalse(vectorSearches.get(0).source().fetchSource().fetchSource());
    }

    @Test
    public void vectorsAreLeftOutOfTheSourceWhereThePipelineSaysSoAndTheSearchNothing() throws Exception {
        String vectors = "\"text_vector\":[1,0,0],\"text_vector_packed\":\"AACAPw==\"";
        neighbours = () -> new SearchHit[] { Hits.hit("products", "n", 0.9f, "{\"title\":\"t\"," + vectors + "}") };
        Map<String, Object> without = Map.of("source_vectors", false);
        Set<String> left = Set.of("text_vector", "text_vector_packed");
        SearchRequest silent = request(match("x").size(4), null);
        SearchResponse page = search(silent, without);
        assertEquals(left, Set.of(silent.source().fetchSource().excludes()));
        assertEquals(left, Set.of(vectorSearches.get(0).source().fetchSource().excludes()));
        assertEquals("n", page.getHits().getAt(0).getId());
        assertEquals(Map.of("title", "t"), page.getHits().getAt(0).getSourceAsMap());

        SearchRequest usual = request(match("x"), null);
        search(usual);
        assertNull("where nothing is said, all is fetched", usual.source().fetchSource());
        for (SearchSourceBuilder named : List.of(match("x").fetchSource(true), match("x").fetchSource("*", null))) {
            SearchResponse asked = search(request(named.size(4), null), without);
            assertTrue(asked.getHits().getAt(0).getSourceAsMap().containsKey("text_vector"));
        }
        SearchRequest alone = request(match("x").sort("price"), null);
        search(alone, without);
        assertNull("a search that is left alone is whole", alone.source().fetchSource());
        target = products(false);
        SearchRequest kept = request(match("x"), null);
        search(kept, without);
        assertNull("fields of a source that is not kept can't be named", kept.source().fetchSource());
    }

    @Test
    public void whatIsLeftForTheRankerIsNothingToATemplateQuery() throws Exception {
        recall(request(match("x"), null), Map.of());
        // As a template query does with each attribute of the pipeline.
        assertEquals("{}", JsonXContent.contentBuilder().value((Object) Inquiry.in(context)).toString());
    }

    @Test
    public void fieldsThatOnlyTheRankerNamesAreSaidToBeMissing() throws Exception {
        Map<String, Object> names = Map.of("text_fields", List.of("title", "brand"), "fields", Map.of("price", "cost"));
        for (Map<String, Object> recall : List.of(Map.<String, Object>of(), names)) {
            for (SearchSourceBuilder source : List.of(
                match("x"),
                match("x").fetchSource("title", null),
                match("x").fetchSource(false)
            )) {
                context = new PipelineProcessingContext();
                try (var ignored = threadPool.getThreadContext().stashContext()) {
                    threadPool.getThreadContext().putHeader("caller", "kept");
                    SearchRequest sent = recall(request(source, null), recall);
                    SearchResponse response = rank(sent, Hits.response(Hits.hit("a", 3)), names);
                    boolean missing = recall.isEmpty() && source.fetchSource() != null;
                    assertEquals(missing ? List.of("features_unavailable") : List.of(), reasons(response));
                    String said = report(response).get("degraded").toString();
                    // What neural_recall fetches anyway is not named.
                    assertEquals(said, missing, said.contains("not fetched, so that the ranker can't read them: cost;"));
                }
            }
        }
    }

    @Test
    public void withoutRecallTheRankerHasWhatTheCallerAskedFor() throws Exception {
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchRequest request = request(match("x").fetchSource("maker", "maker.id"), null);
            Map<String, Object> fields = Map.of("brand", "maker.name", "category", "maker.id", "price", "cost");
            SearchResponse response = rank(request, Hits.response(Hits.hit("a", 3)), Map.of("fields", fields));
            String said = report(response).get("degraded").toString();
            assertTrue(said, said.contains("maker.id") && said.contains("cost") && !said.contains("maker.name"));
        }
    }

    @Test
    public void theCallersSourceObjectIsNotChanged() throws Exception {
        SearchSourceBuilder source = match("x").size(3);
        search(request(source, Map.of("user_id", "A")));
        assertEquals(3, source.size());
        assertEquals(1, source.ext().size());
    }

    @Test
    public void neighboursMeetTheCallersConditions() throws Exception {
        search(
            request(
                new SearchSourceBuilder().query(
                    QueryBuilders.boolQuery()
                        .must(QueryBuilders.matchQuery("title", "x"))
                        .filter(QueryBuilders.termQuery("brand", "Apple"))
                ),
                null
            )
        );
        Map<?, ?> clause = (Map<?, ?>) clauses.get(0).get("text_vector");
        assertEquals(List.of(1.0, 0.0, 0.0), clause.get("vector"));
        assertEquals(20, clause.get("k"));
        assertTrue(clause.get("filter").toString().contains("Apple"));
        assertEquals("_none", vectorSearches.get(0).pipeline());
        assertEquals(5, vectorSearches.get(0).source().size());
    }

    @Test
    public void neighboursAreNotSearchedWhereNobodyCanTellTheConditions() throws Exception {
        SearchSourceBuilder source = new SearchSourceBuilder().query(new WrapperQueryBuilder("{\"nonsense\":{}}"));
        SearchResponse response = search(request(source, Map.of("query_text", "x")));
        assertEquals(List.of("c", "b", "a"), ids(response));
        assertEquals(List.of("not_applicable"), reasons(response));
        assertTrue(report(response).toString(), report(response).toString().contains("the conditions of [wrapper]"));
        assertTrue(server.encoded.isEmpty());
    }

    @Test
    public void conditionsMayBeOnFieldsOfThisSearchOnly() throws Exception {
        Script script = new Script("emit('a')");
        search(request(match("x").derivedField("maker", "keyword", script), null));
        DerivedField copied = vectorSearches.get(0).source().getDerivedFields().get(0);
        assertEquals("maker", copied.getName());
        assertEquals("keyword", copied.getType());
        assertEquals(script, copied.getScript());
    }

    @Test
    public void neighboursSayWhichNamedClausesTheyMatch() throws Exception {
        QueryBuilder named = QueryBuilders.matchQuery("title", "x").queryName("in the title");
        search(request(new SearchSourceBuilder().query(named).includeNamedQueriesScores(true), null));
        SearchSourceBuilder leg = vectorSearches.get(0).source();
        assertEquals(
            List.of(QueryBuilders.constantScoreQuery(named).boost(0)),
            ((BoolQueryBuilder) leg.query()).should()
        );
        assertTrue(leg.includeNamedQueriesScore());
        search(request(match("\"_name\""), null));
        assertTrue("nothing is named", vectorSearches.get(1).source().query() instanceof MatchAllQueryBuilder);
    }

    @Test
    public void theGraphIsSearchedAsFarAsAsked() throws Exception {
        search(request(match("x"), Map.of("ef_search", 7)));
        assertEquals(7, ((Map<?, ?>) clauses.get(0).get("text_vector")).get("k"));
        search(request(match("x"), Map.of("ef_search", 2)));
        assertEquals(5, ((Map<?, ?>) clauses.get(1).get("text_vector")).get("k"));
    }

    private void withPhotos() {
        photos = PRODUCTS;
    }

    @Test
    public void whatLooksLikeAnItemIsFoundBesideWhatReadsLikeIt() throws Exception {
        withPhotos();
        Queue<SearchHit[]> found = new ConcurrentLinkedQueue<>();
        found.add(new SearchHit[] { Hits.hit("t1", 0.9f), Hits.hit("both", 0.8f), Hits.hit("t2", 0.7f) });
        found.add(new SearchHit[] { Hits.hit("both", 0.9f), Hits.hit("p1", 0.8f) });
        neighbours = found::poll;
        search(request(new SearchSourceBuilder(), Map.of("similar_to", "i")));
        assertEquals(2, server.encoded.size());
        Set<String> asked = new HashSet<>();
        server.encoded.forEach(each -> asked.add(each.getInputs(0).getInputCase() + " " + each.getIndex()));
        assertEquals(Set.of("ITEM_ID products", "PHOTO_OF products"), asked);
        Set<String> fields = new HashSet<>();
        clauses.forEach(clause -> clause.keySet().forEach(fields::add));
        assertEquals(Set.of("text_vector", "image_vector"), fields);
        List<String> ids = candidates();
        // Behind what the query found: taking turns, whichever of the two was first; each once.
        assertEquals(List.of("a", "b", "c"), ids.subList(0, 3));
        assertEquals(Set.of("t1", "both"), Set.copyOf(ids.subList(3, 5)));
        assertEquals(Set.of("t2", "p1"), Set.copyOf(ids.subList(5, ids.size())));
    }

    @Test
    public void photosAreNotAskedForWithoutAnItemOrWithoutPhotos() throws Exception {
        search(request(new SearchSourceBuilder(), Map.of("similar_to", "i")));
        assertEquals(1, server.encoded.size());
        withPhotos();
        search(request(match("x"), Map.of("user_id", "A")));
        assertEquals(2, server.encoded.size());
    }

    @Test
    public void anItemWithoutAPhotoLacksNothing() throws Exception {
        withPhotos();
        server.encode = request -> request.getInputs(0).getPhotoOf().isEmpty()
            ? FakeSidecar.vector(1, 0, 0)
            : EncodeResponse.newBuilder().addEncodings(Encoding.newBuilder().setMissing("no photo")).build();
        SearchResponse response = search(request(new SearchSourceBuilder(), Map.of("similar_to", "i")));
        assertEquals(List.of(), reasons(response));
        assertTrue(ids(response).contains("n"));
    }

    @Test
    public void photosThatAreLateCostNothingElse() throws Exception {
        withPhotos();
        timeoutMs = 400;
        server.encode = request -> request.getInputs(0).getPhotoOf().isEmpty() ? FakeSidecar.vector(1, 0, 0) : null;
        SearchResponse response = search(request(new SearchSourceBuilder(), Map.of("similar_to", "i")));
        assertEquals(List.of("deadline"), reasons(response));
        assertTrue(ids(response).contains("n"));
    }

    @Test
    public void aUserOrAnItemIsSearchedWithWithoutText() throws Exception {
        search(request(new SearchSourceBuilder().query(QueryBuilders.matchAllQuery()), Map.of("user_id", "A")));
        assertEquals("A", server.encoded.get(0).getInputs(0).getUser().getId());
        search(request(new SearchSourceBuilder(), Map.of("similar_to", "i")));
        assertEquals("i", server.encoded.get(1).getInputs(0).getItemId());
        assertEquals("i", server.ranked.get(1).getSimilarTo());
    }

    @Test
    public void eachInterestOfAUserBringsAsManyNeighboursAsItsShare() throws Exception {
        server.encode = request -> FakeSidecar.interests(0.6, 0.3, 0.1);
        Queue<SearchHit[]> found = new ConcurrentLinkedQueue<>();
        found.add(new SearchHit[] { Hits.hit("x1", 0.9f), Hits.hit("both", 0.8f), Hits.hit("x2", 0.7f) });
        found.add(new SearchHit[] { Hits.hit("y1", 0.9f), Hits.hit("both", 0.8f) });
        found.add(new SearchHit[] { Hits.hit("z1", 0.9f) });
        neighbours = found::poll;
        SearchResponse response = search(
            request(new SearchSourceBuilder(), Map.of("user_id", "A")),
            Map.of("k", 10, "interests", 4)
        );
        assertEquals(List.of(), reasons(response));
        assertEquals(4, server.encoded.get(0).getInputs(0).getInterests());
        assertEquals(List.of(6, 3, 1), vectorSearches.stream().map(each -> each.source().size()).toList());
        List<Object> explored = new ArrayList<>();
        List<Object> vectors = new ArrayList<>();
        clauses.forEach(clause -> {
            explored.add(((Map<?, ?>) clause.get("text_vector")).get("k"));
            vectors.add(((Map<?, ?>) clause.get("text_vector")).get("vector"));
        });
        assertEquals(List.of(24, 12, 4), explored);
        assertEquals(List.of(List.of(1.0, 0.0, 0.0), List.of(0.0, 1.0, 0.0), List.of(0.0, 0.0, 1.0)), vectors);
        for (SearchRequest each : vectorSearches) {
            assertEquals("_none", each.pipeline());
            assertNotNull(each.getCancelAfterTimeInterval());
        }
        assertEquals(List.of("a", "b", "c", "x1", "y1", "z1", "both", "x2"), candidates());
    }

    @Test
    public void noMoreNeighboursAreAskedForAtOnceThanTheIndexAllows() throws Exception {
        target = new Indices.Target("products", false, true, Set.of(), 3, Set.of("toy@1"), 4, true, List.of(), Set.of());
        server.encode = request -> FakeSidecar.interests(0.8, 0.2);
        search(request(new SearchSourceBuilder().size(2), Map.of("user_id", "A")), Map.of("k", 10));
        assertEquals(List.of(4, 2), vectorSearches.stream().map(each -> each.source().size()).toList());
    }

    @Test
    public void aShareThatComesToNoNeighbourIsNotSearched() throws Exception {
        server.encode = request -> FakeSidecar.interests(0.8, 0.1, 0.1);
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A")), Map.of("k", 2));
        assertEquals(List.of(2), vectorSearches.stream().map(each -> each.source().size()).toList());
        assertEquals("five are told apart", 5, server.encoded.get(0).getInputs(0).getInterests());
    }

    @Test
    public void oneInterestIsTheMeanWhoeverIsAsked() throws Exception {
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A", "interests", 1)));
        assertEquals(0, server.encoded.get(0).getInputs(0).getInterests());
        // A sidecar of before, which knows of no interests.
        server.encode = request -> FakeSidecar.vector(1, 0, 0);
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A")));
        assertEquals(List.of(5, 5), vectorSearches.stream().map(each -> each.source().size()).toList());
    }

    @Test
    public void anInterestThatIsLateCostsOnlyItsOwnNeighbours() throws Exception {
        timeoutMs = 400;
        server.encode = request -> FakeSidecar.interests(0.6, 0.4);
        List<SearchHit[]> found = new ArrayList<>(Arrays.asList(null, new SearchHit[] { Hits.hit("y1", 0.9f) }));
        neighbours = () -> found.remove(0);
        SearchResponse response = search(request(new SearchSourceBuilder(), Map.of("user_id", "A")));
        assertEquals(List.of("deadline"), reasons(response));
        assertEquals(List.of("a", "b", "c", "y1"), candidates());
    }

    @Test
    public void whatThoseWhoDidTheSameHaveIsAPartOfTheNeighbours() throws Exception {
        server.encode = request -> FakeSidecar.interestsAnd(List.of("l1", "l2", "gone"), 0.5, 0.5);
        Queue<SearchHit[]> found = new ConcurrentLinkedQueue<>();
        // In the order of the index, which is none; one has left it.
        found.add(new SearchHit[] { Hits.hit("l2", 0f), Hits.hit("l1", 0f) });
        found.add(new SearchHit[] { Hits.hit("x1", 0.9f), Hits.hit("l1", 0.8f) });
        found.add(new SearchHit[] { Hits.hit("y1", 0.9f) });
        neighbours = found::poll;
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A")), Map.of("k", 7));
        assertEquals(3, server.encoded.get(0).getInputs(0).getCollaborative());
        assertEquals(List.of(3, 2, 2), vectorSearches.stream().map(each -> each.source().size()).toList());
        BoolQueryBuilder these = (BoolQueryBuilder) vectorSearches.get(0).source().query();
        assertEquals(Set.of("l1", "l2", "gone"), ((IdsQueryBuilder) these.filter().get(0)).ids());
        assertEquals("_none", vectorSearches.get(0).pipeline());
        assertEquals(List.of("a", "b", "c", "l1", "x1", "y1", "l2"), candidates());
    }

    @Test
    public void whatAUserIsNotToBeShownTakesNoNeighboursPlace() throws Exception {
        server.encode = request -> FakeSidecar.interests(1)
            .toBuilder()
            .setEncodings(
                0,
                FakeSidecar.interests(1).getEncodings(0).toBuilder().addAllExcluded(List.of("bought", "blocked"))
            )
            .build();
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A")));
        BoolQueryBuilder near = (BoolQueryBuilder) vectorSearches.get(0).source().query();
        assertEquals(Set.of("bought", "blocked"), ((IdsQueryBuilder) near.mustNot().get(0)).ids());
        assertEquals(5, vectorSearches.get(0).source().size());
        assertEquals("as many more are found", 22, ((Map<?, ?>) clauses.get(0).get("text_vector")).get("k"));
    }

    @Test
    public void whatIsBoughtIsAskedForWhereThePageWillNotHaveIt() throws Exception {
        Map<String, Object> without = Map.of("user_id", "A", "filters", Map.of("exclude_purchased", true));
        Map<String, Object> with = Map.of("user_id", "A", "filters", Map.of("exclude_purchased", false));
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A")));
        search(request(new SearchSourceBuilder(), without));
        pipeline = new Pipelines.Rest(true, true, Set.of());
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A", "filters", Map.of("max_price", 9))));
        search(request(new SearchSourceBuilder(), with));
        assertEquals(
            List.of(false, true, true, false),
            server.encoded.stream().map(each -> each.getInputs(0).getListPurchased()).toList()
        );
        server.encoded.forEach(each -> assertTrue(each.getInputs(0).getListBlocked()));
        search(request(match("x"), without));
        assertFalse("of a user only", server.encoded.get(4).getInputs(0).getListPurchased());
    }

    @Test
    public void ofIndicesThatShareIdsNoneLosesWhatIsLikeliest() throws Exception {
        List<Map<String, String>> two = List.of(Map.of(), Map.of());
        target = new Indices.Target("all", true, true, Set.of(), 3, Set.of("toy@1"), 10_000, true, two, Set.of());
        server.encode = request -> FakeSidecar.interestsAnd(List.of("l1", "l2"), 1);
        Queue<SearchHit[]> found = new ConcurrentLinkedQueue<>();
        found.add(new SearchHit[] { Hits.hit("l2", 0f), Hits.hit("l2", 0f), Hits.hit("l1", 0f) });
        neighbours = () -> found.isEmpty() ? new SearchHit[0] : found.poll();
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A")));
        assertEquals("each index may have both", 4, vectorSearches.get(0).source().size());
        assertEquals(List.of("a", "b", "c", "l1", "l2"), candidates());
    }

    private List<Boolean> scored(SearchHit[] hits, Map<String, ?> asked) throws Exception {
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchRequest sent = recall(request(new SearchSourceBuilder(), asked), Map.of("window", 20, "k", 5));
            rank(sent, Hits.response(hits));
        }
        List<Candidate> ranked = server.ranked.get(server.ranked.size() - 1).getCandidatesList();
        return ranked.stream().map(Candidate::hasRetrievalScore).toList();
    }

    @Test
    public void withoutNeighboursTheOrderOfAUsersOwnPageSaysNothing() throws Exception {
        neighbours = () -> new SearchHit[0];
        SearchHit[] any = { Hits.hit("a", 1f), Hits.hit("b", 1f) };
        assertEquals("equal ones, which say nothing", List.of(true, true), scored(any, Map.of("user_id", "A")));
    }

    @Test
    public void asMuchTextIsSentAsTheSidecarHasSaidItReads() throws Exception {
        server.rank = request -> FakeSidecar.reversed(request).toBuilder().setTextCharacters(4).build();
        search(request(match("x").fetchSource(false), null));
        search(request(match("x").fetchSource(false), null));
        assertEquals("item a\nB", server.ranked.get(0).getCandidates(0).getText());
        assertEquals("item", server.ranked.get(1).getCandidates(0).getText());
    }

    @Test
    public void whatAQueryExcludesIsReadWhereItIsAskedFor() throws Exception {
        search(request(match("kettle without whistle"), Map.of()));
        assertFalse("the sidecar's setting", server.encoded.get(0).hasExclusions());
        assertFalse(server.ranked.get(0).getOptions().hasExclusions());
        search(request(match("kettle without whistle"), Map.of("exclusions", false)));
        assertTrue(server.encoded.get(1).hasExclusions() && server.ranked.get(1).getOptions().hasExclusions());
        assertFalse(server.encoded.get(1).getExclusions() || server.ranked.get(1).getOptions().getExclusions());
        search(request(match("kettle without whistle"), Map.of()), Map.of("exclusions", true));
        assertTrue("the pipeline's", server.encoded.get(2).getExclusions());
    }

    @Test
    public void whoHasDoneNothingGetsWhatMostHave() throws Exception {
        server.encode = request -> EncodeResponse.newBuilder()
            .addEncodings(Encoding.newBuilder().setMissing("no events").addAllCollaborative(List.of("p1", "p2")))
            .build();
        neighbours = () -> new SearchHit[] { Hits.hit("p2", 0f), Hits.hit("p1", 0f) };
        SearchHit[] any = { Hits.hit("a", 1f), Hits.hit("p2", 1f) };
        SearchRequest request = request(new SearchSourceBuilder(), Map.of("user_id", "new"));
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchRequest sent = recall(request, Map.of("window", 20, "k", 5));
            SearchResponse response = rank(sent, Hits.response(any));
            assertEquals(List.of("no_user"), reasons(response));
        }
        assertEquals(1, vectorSearches.size());
        assertEquals(List.of("p1", "p2", "a"), candidates());
        assertEquals("their order counts", List.of(false, false), scored(any, Map.of("user_id", "new")).subList(0, 2));
    }

    @Test
    public void conditionsHoldForWhatOthersDidAndCostNoNeighbours() throws Exception {
        server.encode = request -> FakeSidecar.interestsAnd(List.of("l1", "l2", "l3", "l4"), 1);
        SearchSourceBuilder source = new SearchSourceBuilder().query(
            QueryBuilders.boolQuery().filter(QueryBuilders.termQuery("brand", "Apple"))
        );
        search(request(source, Map.of("user_id", "A")), Map.of("k", 7));
        assertEquals(List.of(3, 7), vectorSearches.stream().map(each -> each.source().size()).toList());
        BoolQueryBuilder these = (BoolQueryBuilder) vectorSearches.get(0).source().query();
        assertTrue(these.toString(), these.toString().contains("Apple"));
        assertEquals("no more than were asked for", 3, ((IdsQueryBuilder) these.filter().get(0)).ids().size());
    }

    @Test
    public void whatOthersDidShowsWhatIsJoinedAsTheQuerysHitsDo() throws Exception {
        server.encode = request -> FakeSidecar.interestsAnd(List.of("l1"), 1);
        SearchSourceBuilder source = new SearchSourceBuilder().query(
            QueryBuilders.boolQuery().filter(QueryBuilders.boolQuery().must(joined("offers")))
        ).postFilter(joined("shops"));
        search(request(source, Map.of("user_id", "A")));
        assertEquals(2, vectorSearches.size());
        for (SearchRequest each : vectorSearches) {
            // A shard refuses two of one name so.
            Map<String, InnerHitContextBuilder> shown = new HashMap<>();
            InnerHitContextBuilder.extractInnerHits(each.source().query(), shown);
            assertEquals(Set.of("offers", "shops"), shown.keySet());
        }
        String conditions = ((BoolQueryBuilder) vectorSearches.get(0).source().query()).must().toString();
        assertTrue(conditions, conditions.contains("offers.size") && conditions.contains("shops.size"));
    }

    private static QueryBuilder joined(String path) {
        return QueryBuilders.nestedQuery(path, QueryBuilders.termQuery(path + ".size", "42"), ScoreMode.None)
            .innerHit(new InnerHitBuilder());
    }

    @Test
    public void whatOthersDidIsNotAskedForWhereItIsNotWantedOrNoUserIsMeant() throws Exception {
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A", "collaborative", false)));
        search(request(match("x"), Map.of("user_id", "A")));
        search(request(new SearchSourceBuilder(), Map.of("user_id", "A", "similar_to", "i")));
        server.encoded.forEach(each -> assertEquals(0, each.getInputs(0).getCollaborative()));
        assertEquals(3, server.encoded.size());
    }

    @Test
    public void interestsThatMakeNoSenseAreNotSearchedWith() throws Exception {
        for (double share : new double[] { 0, Double.NaN }) {
            server.encode = request -> FakeSidecar.interests(0.5, share);
            SearchResponse response = search(request(new SearchSourceBuilder(), Map.of("user_id", "A")));
            assertEquals(List.of("bad_reply"), reasons(response));
        }
        assertTrue(vectorSearches.isEmpty());
    }

    @Test
    public void pagesGoOnAfterTheWindow() throws Exception {
        further = () -> Hits.response(Hits.hit("d", 0.5f), Hits.hit("e", 0.4f));
        SearchSourceBuilder source = match("x").from(2)
            .size(4)
            .postFilter(QueryBuilders.termQuery("brand", "B"))
            .verbosePipeline(true);
        SearchResponse response = search(request(source, null), Map.of("window", 3));
        assertEquals(List.of("b", "a", "d", "e"), ids(response));
        assertEquals("no less than is seen", 6, response.getHits().getTotalHits().value());
        assertEquals(0f, response.getHits().getAt(3).getScore(), 0);
        assertEquals(List.of("partial_window"), reasons(response));
        SearchSourceBuilder rest = furtherSearches.get(0).source();
        assertEquals("_none", furtherSearches.get(0).pipeline());
        assertFalse("is refused without a pipeline", rest.verbosePipeline());
        assertEquals("after the window's three", 3, rest.from());
        assertEquals(2, rest.size());
        String kept = rest.postFilter().toString();
        assertTrue("the neighbour was shown: " + kept, kept.contains("must_not") && kept.contains("\"n\""));
        assertTrue("the caller's own holds: " + kept, kept.contains("brand"));
    }

    @Test
    public void aPageThatFiltersEndBeforeItsSizeSaysHowManyHitsTheyLookedAt() throws Exception {
        server.rank = request -> {
            RankResponse all = FakeSidecar.reversed(request);
            return all.toBuilder().removeResults(0).setTotalDropped(1).build();
        };
        Map<String, Object> filtered = Map.of("filters", Map.of("in_stock_only", true));
        TotalHits many = new TotalHits(1613, TotalHits.Relation.EQUAL_TO);
        SearchResponse page = search(request(match("x"), filtered), Map.of("window", 3), many);
        assertEquals(List.of("partial_window"), reasons(page));
        String said = report(page).get("degraded").toString();
        assertTrue(said, said.contains("filters looked at 3 of the 1,613 hits of the query"));
        TotalHits most = new TotalHits(10_000, TotalHits.Relation.GREATER_THAN_OR_EQUAL_TO);
        said = report(search(request(match("x"), filtered), Map.of("window", 3), most)).get("degraded").toString();
        assertTrue(said, said.contains("3 of more than 10,000 hits"));
        said = report(search(request(match("x"), filtered), Map.of("window", 3), null)).get("degraded").toString();
        assertTrue(said, said.contains("3 of more than 3 hits"));

        SearchResponse full = search(request(match("x").size(2), filtered), Map.of("window", 3), many);
        assertEquals("the page is full", List.of(), reasons(full));
        assertEquals("all were looked at", List.of(), reasons(search(request(match("x"), filtered))));
        SearchResponse whole = search(request(match("x"), filtered), Map.of("window", 3), THREE);
        assertEquals("there are no more", List.of(), reasons(whole));
    }

    @Test
    public void hitsAreNotReadOnThreadsOfTheNetwork() throws Exception {
        Set<String> readers = ConcurrentHashMap.newKeySet();
        answering = work -> new Thread(work, "opensearch[node][transport_worker][T#1]").start();
        further = () -> watched(readers, Hits.hit("d", 0.5f));
        for (boolean vector : new boolean[] { true, false }) {
            for (Indices.Target each : List.of(PRODUCTS, Indices.Target.UNKNOWN)) {
                target = each;
                context = new PipelineProcessingContext();
                CompletableFuture<SearchResponse> done = new CompletableFuture<>();
                answering.execute(() -> {
                    try (var ignored = threadPool.getThreadContext().stashContext()) {
                        threadPool.getThreadContext().putHeader("caller", "kept");
                        SearchRequest request = request(match("x").size(9), Map.of());
                        SearchRequest sent = recall(request, Map.of("window", 2, "k", 5, "vector", vector));
                        SearchResponse found = watched(readers, Hits.hit("a", 3), Hits.hit("b", 2));
                        done.complete(rank(sent, found));
                    } catch (Exception | AssertionError e) {
                        done.completeExceptionally(e);
                    }
                });
                List<String> ids = ids(done.get(30, TimeUnit.SECONDS));
                assertEquals(List.of("b", "a", "d"), ids.subList(ids.size() - 3, ids.size()));
            }
        }
        assertFalse(readers.isEmpty());
        readers.forEach(name -> assertTrue(name, name.contains(Node.POOL)));
    }

    /** A response that notes the names of the threads that read its hits. */
    private static SearchResponse watched(Set<String> readers, SearchHit... hits) {
        SearchResponse response = Hits.response(hits);
        return new SearchResponse(
            response.getInternalResponse(),
            null,
            1,
            1,
            0,
            3,
            ShardSearchFailure.EMPTY_ARRAY,
            SearchResponse.Clusters.EMPTY
        ) {
            @Override
            public SearchHits getHits() {
                readers.add(Thread.currentThread().getName());
                return super.getHits();
            }
        };
    }

    @Test
    public void aPageFarBehindTheWindowIsThatOfTheQueryWithoutWhatWasShown() throws Exception {
        further = () -> Hits.response(Hits.hit("z", 0.1f));
        assertEquals(List.of("z"), ids(search(request(match("x").from(10).size(1), null), Map.of("window", 3))));
        assertEquals("one neighbour was shown before", 9, furtherSearches.get(0).source().from());
        assertEquals(1, furtherSearches.get(0).source().size());
    }

    @Test
    public void aPageBehindTheWindowIsTheQuerysWhereNothingCanBeRanked() throws Exception {
        server.close();
        further = () -> Hits.response(Hits.hit("d", 0.5f));
        SearchResponse response = search(request(match("x").from(2).size(2), null), Map.of("window", 3));
        assertEquals(List.of("c", "d"), ids(response));
        assertEquals(0.5f, response.getHits().getAt(1).getScore(), 0);
        assertEquals(3, furtherSearches.get(0).source().from());
        assertNull(furtherSearches.get(0).source().postFilter());
    }

    @Test
    public void whereHitsAreDroppedTheListEndsWithTheWindow() throws Exception {
        for (Map<String, ?> ext : List.of(Map.of("filters", Map.of("max_price", 9)), Map.of("min_score", 0.1))) {
            SearchResponse response = search(request(match("x").from(2).size(4), ext), Map.of("window", 3));
            assertEquals(List.of("b", "a"), ids(response));
        }
    }

    /** As where a request undoes those of a pipeline. */
    @Test
    public void filtersThatDropNothingEndNoList() throws Exception {
        further = () -> Hits.response(Hits.hit("d", 0.5f), Hits.hit("e", 0.4f));
        Map<String, ?> undone = Map.of("in_stock_only", false, "exclude_brands", List.of(), "attributes", List.of());
        for (Map<String, ?> filters : List.of(Map.<String, Object>of(), undone)) {
            SearchRequest request = request(match("x").from(2).size(4), Map.of("filters", filters));
            SearchResponse response = search(request, Map.of("window", 3));
            assertEquals(List.of("b", "a", "d", "e"), ids(response));
            String said = report(response).get("degraded").toString();
            assertFalse(said, said.contains("filters"));
            assertOriginal(search(request(new SearchSourceBuilder(), Map.of("filters", filters))), "not_applicable");
        }
    }

    /** The reply that ranks all but the first candidate. */
    private static RankResponse withoutTheFirst(RankRequest request) {
        RankResponse all = FakeSidecar.reversed(request);
        return all.toBuilder().removeResults(all.getResultsCount() - 1).setTotalDropped(1).build();
    }

    @Test
    public void whereTheUserHasBlockedAHitTheListEndsWithTheWindow() throws Exception {
        server.rank = ProcessorsTest::withoutTheFirst;
        SearchRequest request = request(match("x").size(9), Map.of("user_id", "A"));
        assertEquals(List.of("n", "c", "b"), ids(search(request, Map.of("window", 3))));
    }

    @Test
    public void whatTheUserHasBlockedDoesNotComeAfterTheWindow() throws Exception {
        List<String> blocked = List.of("a", "far");
        server.rank = request -> withoutTheFirst(request).toBuilder().addAllBlockedItems(blocked).build();
        further = () -> Hits.response(Hits.hit("d", 0.5f));
        SearchRequest request = request(match("x").from(1).size(3), Map.of("user_id", "A"));
        assertEquals(List.of("c", "b", "d"), ids(search(request, Map.of("window", 3))));
        assertTrue(server.ranked.get(0).getOptions().getListBlocked());
        SearchSourceBuilder rest = furtherSearches.get(0).source();
        assertEquals("after the two of the window that are left", 2, rest.from());
        String kept = rest.postFilter().toString();
        assertTrue(kept, kept.contains("must_not") && kept.contains("\"a\"") && kept.contains("\"far\""));
        // Another hit would stand for the group of the one that is left out.
        SearchSourceBuilder grouped = match("x").size(9).collapse(new CollapseBuilder("brand"));
        search(request(grouped, Map.of("user_id", "A")), Map.of("window", 3));
        assertEquals(1, furtherSearches.size());
    }

    @Test
    public void whatIsBlockedIsAskedForWhereSomethingCanComeAfterTheWindow() throws Exception {
        search(request(match("x"), Map.of("user_id", "A")), Map.of("window", 4));
        search(request(match("x").size(2), null), Map.of("window", 3));
        server.ranked.forEach(request -> assertFalse(request.getOptions().getListBlocked()));
    }

    @Test
    public void itemsThatShareAnIdAreNamedByIt() throws Exception {
        target = new Indices.Target("a,b", true, false, Set.of(), 0, Set.of(), 10_000, true, List.of(), Set.of());
        context = new PipelineProcessingContext();
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchRequest sent = recall(request(match("x"), null), Map.of());
            rank(sent, Hits.response(Hits.hit("a", "1", 3, "{}"), Hits.hit("b", "1", 2, "{}")));
        }
        Candidate first = server.ranked.get(0).getCandidates(0);
        Candidate second = server.ranked.get(0).getCandidates(1);
        assertEquals(List.of("1", "", "a"), List.of(first.getId(), first.getItemId(), first.getIndex()));
        assertEquals(List.of("b/1", "1", "b"), List.of(second.getId(), second.getItemId(), second.getIndex()));
    }

    @Test
    public void ofRescoredHitsTheOnesThatWereSeenAreTakenFromWhatComesAfterTheWindow() throws Exception {
        further = () -> Hits.response(
            Hits.hit("n", 0.9f),
            Hits.hit("d", 0.5f),
            Hits.hit("e", 0.4f),
            Hits.hit("far", 0.3f),
            Hits.hit("f", 0.2f)
        );
        server.rank = request -> FakeSidecar.reversed(request).toBuilder().addBlockedItems("far").build();
        SearchSourceBuilder source = match("x").from(5).size(2);
        source.addRescorer(new QueryRescorerBuilder(QueryBuilders.matchQuery("title", "y")).windowSize(2));
        SearchResponse response = search(request(source, Map.of("user_id", "A")), Map.of("window", 3));
        assertEquals(List.of("e", "f"), ids(response));
        SearchSourceBuilder rest = furtherSearches.get(0).source();
        assertNull("its best would be others", rest.postFilter());
        assertEquals(3, rest.from());
        assertEquals("one before, two of the page, a neighbour and what is blocked", 5, rest.size());
        assertEquals(7, response.getHits().getTotalHits().value());
    }

    @Test
    public void whereItemsCanNotBeLookedUpThatIsSaid() throws Exception {
        target = new Indices.Target("", true, true, Set.of(), 3, Set.of("toy@1"), 10_000, true, List.of(), Set.of());
        SearchResponse response = search(request(match("x"), null));
        assertEquals(List.of("n", "c", "b", "a"), ids(response));
        assertEquals(List.of("not_applicable"), reasons(response));
        assertTrue(report(response).toString(), report(response).toString().contains("search an alias of them"));
    }

    @Test
    public void theItemThatSimilarOnesAreAskedForEndsNoList() throws Exception {
        server.rank = ProcessorsTest::withoutTheFirst;
        further = () -> Hits.response(Hits.hit("d", 0.5f));
        SearchRequest request = request(match("x").size(4), Map.of("similar_to", "a"));
        assertEquals(List.of("n", "c", "b", "d"), ids(search(request, Map.of("window", 3))));
    }

    @Test
    public void nothingIsSearchedForBeyondTheLimitOfTheIndex() throws Exception {
        target = new Indices.Target("shop", false, false, Set.of(), 0, Set.of(), 4, true, List.of(), Set.of());
        server.rank = ProcessorsTest::withoutTheFirst;
        further = () -> Hits.response(Hits.hit("d", 0.5f));
        SearchRequest request = request(match("x").size(4), Map.of("similar_to", "a"));
        assertEquals(List.of("c", "b", "d"), ids(search(request, Map.of("window", 3))));
        SearchSourceBuilder rest = furtherSearches.get(0).source();
        assertEquals("as many as OpenSearch allows", 4, rest.from() + rest.size());
        assertNull("it is among those that are passed over", rest.postFilter());
    }

    @Test
    public void whatIsNotToComeDoesNotComeAfterTheWindow() throws Exception {
        further = () -> Hits.response(Hits.hit("d", 0.5f));
        search(request(match("x").size(9), Map.of("similar_to", "far")), Map.of("window", 3));
        String kept = furtherSearches.get(0).source().postFilter().toString();
        assertTrue("the item itself: " + kept, kept.contains("\"far\""));
        search(request(match("x").size(9).collapse(new CollapseBuilder("brand")), null), Map.of("window", 3));
        kept = furtherSearches.get(1).source().postFilter().toString();
        assertTrue("the group of what has no brand, as the neighbour: " + kept, kept.contains("\"exists\""));
    }

    @Test
    public void ofAHybridQueryTheListEndsWithTheWindow() throws Exception {
        QueryBuilder hybrid = new QueriesTest.Hybrid(List.of(QueryBuilders.matchQuery("title", "x")));
        SearchRequest request = request(new SearchSourceBuilder().query(hybrid).size(9), null);
        assertEquals(List.of("n", "c", "b", "a"), ids(search(request, Map.of("window", 3))));
        server.close();
        request = request(new SearchSourceBuilder().query(hybrid).from(2).size(9), null);
        assertEquals(List.of("c"), ids(search(request, Map.of("window", 3))));
    }

    @Test
    public void filtersOfThePipelineSeeTheWholeWindowWhoeverSearches() throws Exception {
        SearchSourceBuilder source = new SearchSourceBuilder().query(QueryBuilders.termQuery("brand", "B")).size(1);
        SearchRequest request = request(source, null);
        context = new PipelineProcessingContext();
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchRequest sent = recall(request, Map.of("window", 3));
            assertEquals(3, sent.source().size());
            Map<String, Object> filters = Map.of("filters", new HashMap<>(Map.of("max_price", 9)));
            SearchResponse found = Hits.response(Hits.hit("a", 3), Hits.hit("b", 2), Hits.hit("c", 1));
            assertEquals(List.of("c"), ids(rank(sent, found, filters)));
        }
        assertEquals(3, server.ranked.get(0).getCandidatesCount());
        assertTrue("there is no vector to search with", server.encoded.isEmpty());
    }

    @Test
    public void whereNothingCanBeRankedByThePageIsAllThatIsFetched() throws Exception {
        pipeline = new Pipelines.Rest(false, false, Set.of());
        SearchSourceBuilder source = new SearchSourceBuilder().query(QueryBuilders.termQuery("brand", "B"));
        SearchRequest request = request(source.fetchSource("price", null).from(1).size(2), null);
        // The node cuts the page.
        assertEquals(List.of("a", "b", "c"), ids(search(request)));
        assertEquals(2, request.source().size());
        assertEquals(1, request.source().from());
        assertEquals(List.of("price"), List.of(request.source().fetchSource().includes()));
        for (Map<String, ?> ext : List.of(Map.of("user_id", "A"), Map.of("filters", Map.of("max_price", 9)))) {
            SearchRequest wanted = request(new SearchSourceBuilder().size(2), ext);
            search(wanted);
            assertEquals(20, wanted.source().size());
        }
    }

    @Test
    public void neighboursAreNotSearchedWhereALaterProcessorMayAskForMore() throws Exception {
        pipeline = new Pipelines.Rest(false, false, Set.of("filter_query"));
        SearchResponse response = search(request(match("x"), null));
        assertEquals(List.of("c", "b", "a"), ids(response));
        assertEquals(List.of("not_applicable"), reasons(response));
        String said = report(response).toString();
        assertTrue(said, said.contains("ask for more: [filter_query]"));
        assertTrue(server.encoded.isEmpty());
    }

    @Test
    public void aPageThatCanNotBeHadIsAFailureOfTheSearch() {
        further = () -> {
            throw new IllegalStateException("all shards failed");
        };
        SearchRequest request = request(match("x").from(2).size(4), null);
        Exception failed = assertThrows(ExecutionException.class, () -> search(request, Map.of("window", 3)));
        assertEquals("all shards failed", failed.getCause().getMessage());
    }

    @Test
    public void aPartOfAPageThatIsNotWholeIsSaid() throws Exception {
        SearchResponse whole = Hits.response(Hits.hit("d", 0.5f));
        var late = new InternalSearchResponse(whole.getHits(), null, null, null, true, null, 1);
        ShardSearchFailure[] one = { new ShardSearchFailure(new IllegalStateException("no such shard")) };
        ShardSearchFailure[] none = ShardSearchFailure.EMPTY_ARRAY;
        Map<String, SearchResponse> answers = Map.of(
            "failed on 1 of 3 shards",
            new SearchResponse(whole.getInternalResponse(), null, 3, 2, 0, 3, one, SearchResponse.Clusters.EMPTY),
            "ran into the search's timeout",
            new SearchResponse(late, null, 3, 3, 0, 3, none, SearchResponse.Clusters.EMPTY)
        );
        for (Map.Entry<String, SearchResponse> answer : answers.entrySet()) {
            further = answer::getValue;
            SearchResponse page = search(request(match("x").from(2).size(4), null), Map.of("window", 3));
            String said = report(page).get("degraded").toString();
            assertTrue(said, said.contains("the search for what comes after the window " + answer.getKey()));
        }
        further = () -> whole;
        SearchResponse page = search(request(match("x").from(2).size(4), null), Map.of("window", 3));
        assertFalse(report(page).get("degraded").toString().contains("the search for what comes after"));
    }

    @Test
    public void whatCancelsASearchCancelsThoseThatAreMadeForIt() throws Exception {
        further = () -> Hits.response(new TotalHits(9, TotalHits.Relation.EQUAL_TO), Hits.hit("d", 0.5f));
        SearchRequest request = request(match("x").size(9), Map.of("totals", "both"));
        List<SearchResponse> answers = new ArrayList<>();
        new Origin(threadPool.getThreadContext(), "node").apply(
            request.createTask(7, "transport", SearchAction.NAME, TaskId.EMPTY_TASK_ID, Map.of()),
            SearchAction.NAME,
            request,
            null,
            (task, action, sent, listener) -> {
                try {
                    answers.add(searchHere(request, Map.of("window", 3, "k", 5), THREE));
                } catch (Exception e) {
                    throw new AssertionError(e);
                }
            }
        );
        assertEquals(List.of("n", "c", "b", "a", "d"), ids(answers.get(0)));
        assertEquals(1, vectorSearches.size());
        assertEquals(2, furtherSearches.size());
        for (SearchRequest each : Stream.concat(vectorSearches.stream(), furtherSearches.stream()).toList()) {
            assertEquals(new TaskId("node", 7), each.getParentTask());
        }
    }

    @Test
    public void aSearchThatIsCancelledBeforeItsNextPartFails() {
        further = () -> {
            throw new TaskCancelledException("The parent task was cancelled");
        };
        refuses = true;
        SearchRequest request = request(match("x").from(2).size(4), null);
        Exception failed = assertThrows(ExecutionException.class, () -> search(request, Map.of("window", 3)));
        assertTrue(failed.getCause() instanceof TaskCancelledException);
    }

    @Test
    public void totalsCanCountNeighbours() throws Exception {
        further = () -> Hits.response(new TotalHits(77, TotalHits.Relation.EQUAL_TO));
        SearchResponse response = search(request(match("x"), Map.of("totals", "both")));
        assertEquals(77, response.getHits().getTotalHits().value());
        assertEquals(List.of("n", "c", "b", "a"), ids(response));
        SearchSourceBuilder counting = furtherSearches.get(0).source();
        assertEquals(0, counting.size());
        assertTrue(counting.query().toString(), counting.query().toString().contains("\"n\""));

        further = () -> {
            throw new IllegalStateException("too late");
        };
        response = search(request(match("x"), Map.of("totals", "both")));
        assertEquals(4, response.getHits().getTotalHits().value());
        assertEquals(List.of("features_unavailable"), reasons(response));

        further = () -> {
            TaskCancelledException late = new TaskCancelledException("Cancellation timeout of [9ms] is expired");
            // As a shard's failure comes: it says nothing itself.
            throw new SearchPhaseExecutionException("query", "", late, ShardSearchFailure.EMPTY_ARRAY);
        };
        response = search(request(match("x"), Map.of("totals", "both")));
        assertEquals(List.of("deadline"), reasons(response));
        String said = report(response).get("degraded").toString();
        assertTrue(said, said.contains("alone: the search that counts both was not finished: Cancellation timeout"));
    }

    /** The UBI plugin logs each search that has the section as a query of the user's. */
    @Test
    public void furtherSearchesAreNoQueriesOfTheUsers() throws Exception {
        further = () -> Hits.response(Hits.hit("d", 0.5f));
        SearchSourceBuilder source = match("x").size(9).ext(List.of(new Theirs("ubi"), new Theirs("ltr_log")));
        search(new SearchRequest("products").source(source), Map.of("window", 3));
        List<SearchExtBuilder> sections = furtherSearches.get(0).source().ext();
        assertEquals(List.of("ltr_log"), sections.stream().map(SearchExtBuilder::getWriteableName).toList());
    }

    /** A section of another plugin's class. */
    private static final class Theirs extends SearchExtBuilder {
        private final String name;

        Theirs(String name) {
            this.name = name;
        }

        @Override
        public String getWriteableName() {
            return name;
        }

        @Override
        public void writeTo(StreamOutput out) {}

        @Override
        public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
            return builder.field(name, Map.of());
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Theirs theirs && name.equals(theirs.name);
        }

        @Override
        public int hashCode() {
            return name.hashCode();
        }
    }

    @Test
    public void withoutAQueryAllAreCountedAlready() throws Exception {
        SearchResponse response = search(request(new SearchSourceBuilder(), Map.of("user_id", "A", "totals", "both")));
        assertEquals(true, report(response).get("reranked"));
        assertEquals(List.of(), reasons(response));
        assertEquals(4, response.getHits().getTotalHits().value());
        assertTrue(furtherSearches.isEmpty());
    }

    @Test
    public void explanationsAreOfTheNewScoreByItsParts() throws Exception {
        server.rank = request -> {
            assertTrue(request.getOptions().getExplain());
            RankResponse.Builder reply = FakeSidecar.reversed(request).toBuilder();
            reply.getResultsBuilderList()
                .forEach(
                    result -> result.setExplanation(
                        Explanation.newBuilder()
                            .setRelevance(0.5f)
                            .setRetrieval(0.25f)
                            .setQuerySimilarity(0.9f)
                            .setWeights(Weights.newBuilder().setRelevance(0.75f).setRetrieval(0.25f))
                    )
                );
            return reply.build();
        };
        for (SearchHit hit : search(request(match("x").explain(true), null)).getHits()) {
            assertEquals(hit.getScore(), hit.getExplanation().getValue());
            assertEquals(2, hit.getExplanation().getDetails().length);
            assertTrue(hit.getExplanation().toString(), hit.getExplanation().toString().contains("weight 0.75"));
        }
    }

    @Test
    public void optionsReachTheSidecar() throws Exception {
        search(
            request(
                match("x"),
                Map.of(
                    "deadline_ms",
                    50,
                    "min_score",
                    0.5,
                    "weights",
                    Map.of("affinity", 2, "cross_encoder", 0.75),
                    "bundle",
                    "none",
                    "fusion",
                    "rrf",
                    "filters",
                    Map.of("exclude_purchased", true, "max_price", 9)
                )
            )
        );
        var options = server.ranked.get(0).getOptions();
        assertEquals(50, options.getDeadlineMs());
        assertEquals(0.5f, options.getMinScore(), 0);
        assertEquals(2f, options.getWeights().getAffinity(), 0);
        assertEquals(0.75f, options.getWeights().getCrossEncoder(), 0);
        assertFalse(options.getWeights().hasRelevance());
        assertEquals("none", options.getBundle());
        assertEquals(Fusion.FUSION_RRF, options.getFusion());
        assertTrue(options.getFilters().getExcludePurchased());
        assertEquals(9, options.getFilters().getMaxPrice(), 0);
        assertFalse(options.getFilters().hasMinPrice());
    }

    @Test
    public void whatRequestAndPipelineCanNotSayTogetherFailsTheSearch() throws Exception {
        Map<String, Object> pipeline = Map.of("filters", Map.of("min_price", 10, "in_stock_only", true));
        Map<String, Object> cheap = Map.of("filters", Map.of("max_price", 5));
        SearchResponse found = Hits.response(Hits.hit("a", 3));
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            for (boolean recalls : new boolean[] { true, false }) {
                context = new PipelineProcessingContext();
                SearchRequest request = request(match("x"), cheap);
                SearchRequest sent = recalls ? recall(request, Map.of()) : request;
                Throwable failed = assertThrows(ExecutionException.class, () -> rank(sent, found, pipeline)).getCause();
                assertEquals(RestStatus.BAD_REQUEST, ExceptionsHelper.status(failed));
                String said = failed.getMessage();
                assertTrue(said, said.contains("min_price is [10.0], above ext.neural_rank.filters.max_price [5.0]"));
            }
            context = new PipelineProcessingContext();
            Map<String, Object> off = Map.of("filters", Map.of("max_price", 5), "enabled", false);
            assertEquals("nothing is in force", List.of("a"), ids(rank(request(match("x"), off), found, pipeline)));
        }
        assertTrue(server.ranked.isEmpty());
    }

    // ------------------------------------------------------------------------------- experiments

    private static final Map<String, Object> EXPERIMENT = Map.of(
        "name",
        "fresh",
        "mode",
        "interleave",
        "share",
        0.5,
        "arms",
        Map.of("A", Map.of(), "B", Map.of("bundle", "new", "weights", Map.of("affinity", 2), "fusion", "weights"))
    );

    /** Both arms took turns; nobody scored the last one. */
    private static RankResponse interleaved(RankRequest request) {
        RankResponse reversed = FakeSidecar.reversed(request);
        RankResponse.Builder reply = reversed.toBuilder().clearResults();
        for (int i = 0; i < reversed.getResultsCount() - 1; i++) {
            reply.addResults(reversed.getResults(i).toBuilder().setTeam(i % 2 == 0 ? "B" : "A"));
        }
        reply.getExperimentBuilder().setName("fresh").setMode(ExperimentMode.EXPERIMENT_MODE_INTERLEAVE);
        return reply.build();
    }

    private SearchResponse logged(String ubi) throws Exception {
        return logged(match("x"), ubi);
    }

    /** A search with {@code ext.ubi}. */
    private SearchResponse logged(SearchSourceBuilder source, String ubi) throws Exception {
        SearchRequest request = request(source.size(3), Map.of("user_id", "u", "experiment", EXPERIMENT));
        List<SearchExtBuilder> sections = new ArrayList<>(request.source().ext());
        sections.add(Hits.section("ubi", ubi));
        request.source().ext(sections);
        return search(request);
    }

    @Test
    public void anExperimentReachesTheSidecarAndThePageSaysWhatItDid() throws Exception {
        server.rank = ProcessorsTest::interleaved;
        SearchResponse response = search(request(match("x"), Map.of("user_id", "u", "experiment", EXPERIMENT)));
        var sent = server.ranked.get(0).getOptions().getExperiment();
        assertEquals("fresh", sent.getName());
        assertEquals(ExperimentMode.EXPERIMENT_MODE_INTERLEAVE, sent.getMode());
        assertEquals(0.5, sent.getShare(), 0);
        assertFalse(sent.getArmsOrThrow("A").hasWeights());
        assertEquals(Fusion.FUSION_UNSPECIFIED, sent.getArmsOrThrow("A").getFusion());
        assertEquals("new", sent.getArmsOrThrow("B").getBundle());
        assertEquals(2f, sent.getArmsOrThrow("B").getWeights().getAffinity(), 0);
        assertEquals(Fusion.FUSION_WEIGHTS, sent.getArmsOrThrow("B").getFusion());
        assertEquals(
            Map.of("name", "fresh", "mode", "interleave", "teams", "BAB-"),
            report(response).get("experiment")
        );
        assertTrue("without ext.ubi it is the application that logs", written.isEmpty());
    }

    @Test
    public void aPageOfAnExperimentIsLogged() throws Exception {
        server.rank = ProcessorsTest::interleaved;
        logged(
            "{\"query_id\":\"q\",\"client_id\":\"phone\",\"application\":\"shop\","
                + "\"query_attributes\":{\"page\":\"home\"}}"
        );
        assertEquals(1, written.size());
        assertEquals("ubi_queries", written.get(0).index());
        Map<String, Object> page = written.get(0).sourceAsMap();
        assertNotNull(page.remove("timestamp"));
        assertNotNull(page.remove("query_response_id"));
        assertEquals(
            Map.of(
                "query_id",
                "q",
                "user_id",
                "u",
                "client_id",
                "phone",
                "application",
                "shop",
                "user_query",
                "x",
                "query_response_hit_ids",
                List.of("n", "c", "b"),
                "query_attributes",
                Map.of("page", "home", "experiment", "fresh", "teams", "BAB")
            ),
            page
        );
        assertEquals(Map.of("logged", 1L), stats.asMap().get("experiment_pages"));
    }

    @Test
    public void whoIsKnownByTheirDeviceOnlyIsLoggedSo() throws Exception {
        server.rank = ProcessorsTest::interleaved;
        SearchRequest request = request(match("x"), Map.of("experiment", EXPERIMENT));
        List<SearchExtBuilder> sections = new ArrayList<>(request.source().ext());
        sections.add(Hits.section("ubi", "{\"query_id\":\"q\",\"client_id\":\"phone\"}"));
        request.source().ext(sections);
        search(request);
        assertEquals("phone", server.ranked.get(0).getUser().getId());
        assertEquals("phone", written.get(0).sourceAsMap().get("client_id"));
        assertFalse(written.get(0).sourceAsMap().containsKey("user_id"));
    }

    @Test
    public void hitsAreLoggedUnderTheIdThatEventsHave() throws Exception {
        server.rank = ProcessorsTest::interleaved;
        logged("{\"query_id\":\"q\",\"object_id_field\":\"title\",\"user_query\":\"typed\"}");
        Map<String, Object> page = written.get(0).sourceAsMap();
        assertEquals(List.of("item n", "item c", "item b"), page.get("query_response_hit_ids"));
        assertEquals("typed", page.get("user_query"));
    }

    @Test
    public void theIdsOfEventsAreFetchedAndLoggedThoughTheyAreNotShown() throws Exception {
        server.rank = ProcessorsTest::interleaved;
        neighbours = () -> new SearchHit[] { Hits.hit("products", "n", 1, "{\"sku\":\"sku-n\"}") };
        for (SearchSourceBuilder source : List.of(
            match("x").fetchSource(false),
            match("x").fetchSource("title", "sku")
        )) {
            written.clear();
            SearchResponse response = logged(source, "{\"query_id\":\"q\",\"object_id_field\":\"sku\"}");
            assertEquals(List.of("sku-n", "c", "b"), written.get(0).sourceAsMap().get("query_response_hit_ids"));
            SearchHit shown = response.getHits().getAt(0);
            assertFalse(shown.hasSource() && shown.getSourceAsMap().containsKey("sku"));
            var fetched = vectorSearches.get(vectorSearches.size() - 1).source().fetchSource();
            assertTrue(Arrays.asList(fetched.includes()).contains("sku"));
            assertFalse(Arrays.asList(fetched.excludes()).contains("sku"));
        }
    }

    @Test
    public void aPageThatTookNoPartIsNotLogged() throws Exception {
        server.rank = request -> {
            RankResponse.Builder reply = FakeSidecar.reversed(request).toBuilder();
            reply.getExperimentBuilder().setName("fresh").setLeftOut("no id");
            return reply.build();
        };
        SearchResponse response = logged("{\"query_id\":\"q\"}");
        assertEquals(
            Map.of("name", "fresh", "mode", "ab", "left_out", "no id"),
            report(response).get("experiment")
        );
        server.close();
        logged("{\"query_id\":\"q\"}");
        assertTrue(written.isEmpty());
    }

    @Test
    public void aLogThatCanNotBeWrittenCostsNoResult() throws Exception {
        server.rank = ProcessorsTest::interleaved;
        refusal = new IllegalStateException("read only");
        assertEquals(true, report(logged("{\"query_id\":\"q\"}")).get("reranked"));
        hasLog = false;
        assertEquals(true, report(logged("{\"query_id\":\"q\"}")).get("reranked"));
        assertEquals(1, written.size());
        assertEquals(Map.of("not_logged", 2L), stats.asMap().get("experiment_pages"));
    }

    @Test
    public void itWorksWithoutRecall() throws Exception {
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchRequest request = request(match("x").from(5).size(2), Map.of("user_id", "A"));
            SearchResponse response = rank(request, Hits.response(Hits.hit("a", 3), Hits.hit("b", 2)));
            assertEquals(List.of("b", "a"), ids(response));
            assertTrue(server.encoded.isEmpty());
        }
    }

    @Test
    public void aPageOfMoreThanTheSidecarRanksLosesNothing() throws Exception {
        SearchHit[] hits = new SearchHit[10_001];
        Arrays.setAll(hits, place -> Hits.hit("" + place, 1));
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchResponse response = rank(request(match("x").size(10_001), null), Hits.response(hits));
            assertEquals(List.of("not_applicable"), reasons(response));
            assertEquals(10_001, response.getHits().getHits().length);
        }
    }

    @Test
    public void aSecondStepOfTheSameKindChangesNothing() throws Exception {
        SearchRequest request = request(match("x").size(2), null);
        SearchResponse once = search(request);
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            assertSame(once, rank(request, once));
        }
    }

    @Test
    public void everythingElseOfTheResponseStays() throws Exception {
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            TotalHits many = new TotalHits(10_000, TotalHits.Relation.GREATER_THAN_OR_EQUAL_TO);
            SearchRequest sent = recall(request(match("x").size(1), null), Map.of());
            SearchResponse response = rank(sent, Hits.response(many, Hits.hit("a", 3)));
            assertEquals(many, response.getHits().getTotalHits());
            assertEquals(3, response.getTook().millis());
            context = new PipelineProcessingContext();
            sent = recall(request(match("x"), null), Map.of());
            assertNull(rank(sent, Hits.response((TotalHits) null, Hits.hit("a", 3))).getHits().getTotalHits());
        }
    }

    // -------------------------------------------------------------------------------- left alone

    @Test
    public void shapesThatAreLeftAloneSaySo() throws Exception {
        List<SearchRequest> shapes = List.of(
            request(match("x").sort("price"), null),
            request(match("x").searchAfter(new Object[] { 1 }), null),
            request(match("x").from(9_995), null),
            request(match("x").from(Integer.MAX_VALUE), null),
            request(match("x").storedField("_none_"), null),
            request(match("x"), Map.of("enabled", false)),
            request(match("x"), null).scroll(TimeValue.timeValueMinutes(1)),
            request(new SearchSourceBuilder(), null)
        );
        for (SearchRequest shape : shapes) {
            assertOriginal(search(shape), "not_applicable");
        }
        assertTrue(server.ranked.isEmpty());
        assertTrue(server.encoded.isEmpty());
    }

    /** It may lack the plugin, and then could not read a report. */
    @Test
    public void theSearchOfAnotherClusterComesBackAsItWas() throws Exception {
        SearchResponse found = Hits.response(Hits.hit("a", 3), Hits.hit("b", 2));
        for (boolean local : new boolean[] { true, false }) {
            for (Map<String, ?> ext : List.of(Map.of("user_id", "A"), Map.of("enabled", false))) {
                context = new PipelineProcessingContext();
                try (var ignored = threadPool.getThreadContext().stashContext()) {
                    threadPool.getThreadContext().putHeader("caller", "kept");
                    SearchRequest request = request(match("x").size(2), ext);
                    if (!local) {
                        request.remoteAddress(new TransportAddress(TransportAddress.META_ADDRESS, 9300));
                    }
                    new CrossCluster(threadPool.getThreadContext()).apply(
                        SearchAction.NAME,
                        request,
                        ActionListener.wrap(answer -> {}, error -> {})
                    );
                    if (local) {
                        assertFalse(CrossCluster.asks(threadPool.getThreadContext()));
                        continue;
                    }
                    assertSame("without neural_recall", found, rank(request, found));
                    context = new PipelineProcessingContext();
                    recall(request, Map.of());
                    assertEquals(2, request.source().size());
                    assertEquals("shards don't need it", List.of(), request.source().ext());
                    assertSame(found, rank(request, found));
                }
            }
        }
        assertTrue(server.ranked.isEmpty() && server.encoded.isEmpty());
        assertEquals(Map.of("cross_cluster", 4L), stats.asMap().get("left_alone"));
    }

    @Test
    public void aSearchForAGroupOfCollapsedHitsComesBackAsItWas() throws Exception {
        SearchResponse found = Hits.response(Hits.hit("a", 3), Hits.hit("b", 2));
        SearchRequest request = request(match("x").size(2), Map.of("user_id", "A"));
        MultiSearchRequest groups = new MultiSearchRequest();
        groups.setParentTask(new TaskId("node", 1));
        List<SearchResponse> answers = new ArrayList<>();
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            new Origin(threadPool.getThreadContext(), "node").apply(
                null,
                MultiSearchAction.NAME,
                groups,
                null,
                (task, action, sent, listener) -> {
                    try {
                        answers.add(rank(request, found));
                        context = new PipelineProcessingContext();
                        recall(request, Map.of());
                        answers.add(rank(request, found));
                    } catch (Exception e) {
                        throw new AssertionError(e);
                    }
                }
            );
        }
        assertEquals(2, answers.size());
        answers.forEach(answer -> assertSame(found, answer));
        assertEquals(2, request.source().size());
        assertTrue(server.ranked.isEmpty() && server.encoded.isEmpty());
        assertEquals(0L, stats.asMap().get("requests"));
        assertEquals(Map.of(), stats.asMap().get("left_alone"));
    }

    @Test
    public void anEmptyPageSaysThatNothingWasFound() throws Exception {
        neighbours = () -> new SearchHit[0];
        try (var ignored = threadPool.getThreadContext().stashContext()) {
            threadPool.getThreadContext().putHeader("caller", "kept");
            SearchRequest sent = recall(request(match("x"), null), Map.of());
            SearchResponse empty = rank(sent, Hits.response());
            assertEquals(List.of(), ids(empty));
            assertEquals(List.of("not_applicable"), reasons(empty));
            assertTrue(server.ranked.isEmpty());
        }
    }

    // ---------------------------------------------------------------------- no vectors, no matter

    private void assertLexicalOnly(String reason) throws Exception {
        SearchResponse response = search(request(match("x"), null));
        assertEquals(List.of("c", "b", "a"), ids(response));
        assertEquals(List.of(reason), reasons(response));
    }

    @Test
    public void anIndexWithoutVectorsIsRankedWithoutThem() throws Exception {
        target = new Indices.Target("products", false, false, Set.of(), 0, Set.of(), 10_000, true, List.of(), Set.of());
        assertLexicalOnly("not_applicable");
        assertTrue(server.encoded.isEmpty());
    }

    @Test
    public void indicesWithoutVectorsArePassedOverInSilenceWhereThatIsAsked() throws Exception {
        for (Indices.Target lacking : List.of(
            new Indices.Target("a,notes", true, true, Set.of("notes"), 3, Set.of("toy@1"), 10_000, true, List.of(), Set.of()),
            new Indices.Target("notes", false, false, Set.of("notes"), 0, Set.of(), 10_000, true, List.of(), Set.of())
        )) {
            target = lacking;
            assertEquals(List.of("not_applicable"), reasons(search(request(match("x"), null))));
            assertEquals(List.of(), reasons(search(request(match("x"), null), Map.of("ignore_unmapped", true))));
        }
        assertEquals(true, clauses.get(0).get("text_vector") instanceof Map<?, ?> c && (boolean) c.get("ignore_unmapped"));
    }

    @Test
    public void aLeastScoreOfTheQueryKeepsNeighboursOut() throws Exception {
        SearchResponse response = search(request(match("x").minScore(1), null));
        assertEquals(List.of("c", "b", "a"), ids(response));
        assertEquals(List.of("not_applicable"), reasons(response));
        assertTrue(vectorSearches.isEmpty());
    }

    @Test
    public void aNodeWithoutTheKnnPluginIsRankedWithoutVectors() throws Exception {
        registry = NamedXContentRegistry.EMPTY;
        assertLexicalOnly("not_applicable");
    }

    @Test
    public void vectorsOfAnotherEncoderAreNotSearched() throws Exception {
        target = new Indices.Target("products", false, true, Set.of(), 3, Set.of("other@2"), 10_000, true, List.of(), Set.of());
        assertLexicalOnly("encoder_mismatch");
        target = new Indices.Target("products", false, true, Set.of(), 4, Set.of("toy@1"), 10_000, true, List.of(), Set.of());
        for (int i = 0; i < 4; i++) {
            assertLexicalOnly("encoder_mismatch");
        }
        assertEquals("one index's mismatch does not stop the others", 5, server.encoded.size());
        Set<String> encoders = Set.of("toy@1", "other@2");
        target = new Indices.Target("a,b", true, true, Set.of(), 3, encoders, 10_000, true, List.of(), Set.of());
        assertLexicalOnly("encoder_mismatch");
        assertTrue("nothing was searched with them", vectorSearches.isEmpty());
    }

    @Test
    public void badVectorsAreNotSearchedWith() throws Exception {
        server.encode = request -> FakeSidecar.vector(1, Float.NaN, 0);
        assertLexicalOnly("bad_reply");
        server.encode = request -> FakeSidecar.vector(0, 0, 0);
        assertLexicalOnly("bad_reply");
        assertTrue(vectorSearches.isEmpty());
    }

    @Test
    public void aUserWithoutEventsIsNoError() throws Exception {
        server.encode = request -> EncodeResponse.newBuilder()
            .addEncodings(Encoding.newBuilder().setMissing("no events"))
            .build();
        SearchResponse response = search(request(new SearchSourceBuilder(), Map.of("user_id", "new")));
        assertEquals(true, report(response).get("reranked"));
        assertEquals(List.of("no_user"), reasons(response));
    }

    // ----------------------------------------------------------------------------- bad sidecars

    @Test
    public void aSidecarThatIsDownCostsNoResult() throws Exception {
        server.close();
        assertOriginal(search(request(match("x"), null)), "sidecar_unavailable");
    }

    @Test
    public void aSidecarThatNeverAnswersCostsTheTimeoutOnce() throws Exception {
        timeoutMs = 300;
        server.encode = request -> null;
        server.rank = request -> null;
        long startedAt = System.nanoTime();
        assertOriginal(search(request(match("x"), null)), "deadline");
        long ms = (System.nanoTime() - startedAt) / 1_000_000;
        assertTrue("took " + ms + " ms, both calls together may take 300", ms < 550);
    }

    @Test
    public void aSidecarThatRefusesSaysWhy() throws Exception {
        Map<Status, String> refusals = Map.of(
            Status.RESOURCE_EXHAUSTED,
            "overload",
            Status.RESOURCE_EXHAUSTED.withDescription("SERVER: Received message larger than max (9 vs. 8)"),
            "not_applicable",
            Status.INTERNAL,
            "bad_reply",
            Status.UNAVAILABLE,
            "sidecar_unavailable",
            Status.NOT_FOUND,
            "model_unavailable",
            Status.FAILED_PRECONDITION,
            "encoder_mismatch",
            Status.INVALID_ARGUMENT,
            "not_applicable"
        );
        for (Map.Entry<Status, String> refusal : refusals.entrySet()) {
            server.rank = request -> {
                throw refusal.getKey().asRuntimeException();
            };
            assertOriginal(search(request(match("x"), null)), refusal.getValue());
            server.rank = FakeSidecar::reversed;
            search(request(match("x"), null));
        }
    }

    @Test
    public void anItemThatIsNotThereIsNoLackOfAModel() throws Exception {
        server.encode = request -> {
            throw Status.NOT_FOUND.withDescription("no item i").asRuntimeException();
        };
        server.rank = request -> {
            throw Status.NOT_FOUND.withDescription("no item i").asRuntimeException();
        };
        SearchResponse response = search(request(match("x"), Map.of("similar_to", "i")));
        assertOriginal(response, "not_applicable");
        assertEquals(List.of("not_applicable"), reasons(response));
    }

    @Test
    public void garbageIsNotARanking() throws Exception {
        server.rank = request -> RankResponse.getDefaultInstance();
        assertOriginal(search(request(match("x"), null)), "bad_reply");
    }

    @Test
    public void theBreakerOfRankOpensThoughEncodeWorks() throws Exception {
        server.rank = request -> RankResponse.getDefaultInstance();
        for (int i = 0; i < 4; i++) {
            search(request(match("x"), null));
        }
        assertEquals("the fourth was not tried", 3, server.ranked.size());
        assertEquals(4, server.encoded.size());
        assertOriginal(search(request(match("x"), null)), "sidecar_unavailable");
    }

    @Test
    public void overloadDoesNotOpenTheBreaker() throws Exception {
        server.rank = request -> {
            throw Status.RESOURCE_EXHAUSTED.asRuntimeException();
        };
        for (int i = 0; i < 5; i++) {
            search(request(match("x"), null));
        }
        assertEquals(5, server.ranked.size());
    }

    @Test
    public void theReplyOnALargeWindowIsRead() throws Exception {
        String explained = "x".repeat(5_000_000);
        server.rank = request -> FakeSidecar.reversed(request).toBuilder().addBundles(explained).build();
        assertEquals(true, report(search(request(match("x"), null))).get("reranked"));
    }

    /** gRPC has the same code for it as for a sidecar that has no room. */
    @Test
    public void aReplyThatIsTooLongIsABadOne() throws Exception {
        server.rank = request -> {
            throw Status.RESOURCE_EXHAUSTED.withDescription("gRPC message exceeds maximum size 33554432: 33554433")
                .asRuntimeException();
        };
        assertOriginal(search(request(match("x"), null)), "bad_reply");
    }

    @Test
    public void validatingAPipelineCallsNobody() throws Exception {
        RecallProcessor.factory(node()).create(Map.of(), null, null, false, new HashMap<>(), null);
        RankProcessor.factory(node()).create(Map.of(), null, null, false, new HashMap<>(), null);
        assertTrue(sidecar.states().get("endpoints").toString().contains("IDLE"));
    }
}

package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.TlsServerCredentials;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import org.junit.After;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.neuralrank.Certificates;
import org.neuralrank.sidecar.Access;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.sidecar.Sidecar;
import org.neuralrank.sidecar.SidecarException;
import org.neuralrank.sidecar.TlsFiles;
import org.neuralrank.v1.BundleState;
import org.neuralrank.v1.BundleStatus;
import org.neuralrank.v1.ModelStatusResponse;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.RankResponse;
import org.opensearch.core.action.ActionListener;

/** Several sidecars, their health, TLS and tokens, over real gRPC. */
public class ConnectionsTest {

    @Rule
    public final TemporaryFolder folder = new TemporaryFolder();

    private final ExecutorService executor = Executors.newFixedThreadPool(2);
    private FakeSidecar one;
    private FakeSidecar two;

    @Before
    public void start() throws Exception {
        one = new FakeSidecar();
        two = new FakeSidecar();
    }

    @After
    public void stop() {
        one.close();
        two.close();
        executor.shutdownNow();
    }

    private Sidecar sidecar(Access access, String... endpoints) {
        return new Sidecar(List.of(endpoints), access, executor, System::nanoTime, 3, 60_000);
    }

    private static RankResponse rank(Sidecar sidecar) throws Exception {
        return rank(sidecar, 10_000);
    }

    private static RankResponse rank(Sidecar sidecar, long timeoutMs) throws Exception {
        CompletableFuture<RankResponse> answer = new CompletableFuture<>();
        sidecar.rank(
            RankRequest.getDefaultInstance(),
            new Metadata(),
            timeoutMs,
            reply -> reply,
            ActionListener.wrap(answer::complete, answer::completeExceptionally)
        );
        return answer.get(30, TimeUnit.SECONDS);
    }

    private static SidecarException failure(Sidecar sidecar) {
        ExecutionException error = assertThrows(ExecutionException.class, () -> rank(sidecar));
        return (SidecarException) error.getCause();
    }

    private static void await(BooleanSupplier check) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (!check.getAsBoolean()) {
            assertTrue("it never came to be", System.nanoTime() < end);
            Thread.onSpinWait();
        }
    }

    private static void awaitState(Sidecar sidecar, String endpoint, String state) throws InterruptedException {
        await(() -> sidecar.states().get("endpoints").toString().contains(endpoint + "=" + state));
    }

    @Test
    public void callsTakeTurns() throws Exception {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint(), two.endpoint())) {
            for (int i = 0; i < 6; i++) {
                rank(sidecar);
            }
        }
        assertEquals(3, one.ranked.size());
        assertEquals(3, two.ranked.size());
    }

    private static void reads(FakeSidecar fake, int characters) {
        fake.rank = request -> RankResponse.newBuilder().setTextCharacters(characters).build();
    }

    @Test
    public void ofSeveralSidecarsTheOneThatReadsMostDecidesHowMuchTextIsSent() throws Exception {
        reads(one, 300);
        reads(two, 500);
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint(), two.endpoint())) {
            assertEquals("none has answered", Integer.MAX_VALUE, sidecar.textCharacters());
            rank(sidecar);
            rank(sidecar);
            assertEquals(500, sidecar.textCharacters());
            // Those of another address have not said anything yet, until they are warmed.
            sidecar.reconnect(List.of(one.endpoint()));
            await(() -> sidecar.textCharacters() == 300);
            // An older one doesn't say.
            reads(one, 0);
            rank(sidecar);
            assertEquals(Integer.MAX_VALUE, sidecar.textCharacters());
        }
    }

    @Test
    public void whoReadMoreAndIsGoneIsForgotten() throws Exception {
        AtomicLong now = new AtomicLong(7);
        try (
            Sidecar sidecar = new Sidecar(List.of(one.endpoint()), Access.open(), executor, now::get, 3, 60_000)
        ) {
            reads(one, 0);
            rank(sidecar);
            reads(one, 300);
            now.addAndGet(TimeUnit.MINUTES.toNanos(5) - 1);
            rank(sidecar);
            assertEquals(Integer.MAX_VALUE, sidecar.textCharacters());
            now.incrementAndGet();
            rank(sidecar);
            assertEquals(300, sidecar.textCharacters());
        }
    }

    @Test
    public void aSidecarThatSaysItDoesNotServeGetsNoCalls() throws Exception {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint(), two.endpoint())) {
            one.serving(false);
            sidecar.warm();
            awaitState(sidecar, one.endpoint(), "TRANSIENT_FAILURE");
            awaitState(sidecar, two.endpoint(), "READY");
            int before = one.ranked.size();
            for (int i = 0; i < 6; i++) {
                rank(sidecar);
            }
            assertEquals(before, one.ranked.size());
            one.serving(true);
            awaitState(sidecar, one.endpoint(), "READY");
            rank(sidecar);
            rank(sidecar);
            assertEquals(before + 1, one.ranked.size());
        }
    }

    @Test
    public void whatOneDidNotDoTheOtherDoes() throws Exception {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint(), two.endpoint())) {
            sidecar.warm();
            awaitState(sidecar, one.endpoint(), "READY");
            awaitState(sidecar, two.endpoint(), "READY");
            one.rank = request -> { throw Status.UNAVAILABLE.withDescription("is stopping").asRuntimeException(); };
            for (int i = 0; i < 4; i++) {
                rank(sidecar);
            }
            two.rank = one.rank;
            // Each is asked once for a search, and no more.
            int before = one.ranked.size() + two.ranked.size();
            SidecarException both = failure(sidecar);
            assertEquals(Reason.SIDECAR_UNAVAILABLE, both.note().reason());
            assertEquals("is stopping", both.note().detail());
            assertEquals(before + 2, one.ranked.size() + two.ranked.size());
        }
    }

    /** Behind one name there may be several, of which the channel takes another for the second try. */
    @Test
    public void oneNameIsAskedOnceMore() throws Exception {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint())) {
            for (Status nothingDone : List.of(Status.UNAVAILABLE, Status.CANCELLED)) {
                int before = one.ranked.size();
                one.rank = request -> {
                    one.rank = FakeSidecar::reversed;
                    throw nothingDone.asRuntimeException();
                };
                rank(sidecar);
                assertEquals(before + 2, one.ranked.size());
            }
        }
    }

    @Test
    public void twoTriesOfOneNameAreOneFailure() throws Exception {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint())) {
            one.rank = request -> { throw Status.UNAVAILABLE.withDescription("is stopping").asRuntimeException(); };
            for (int i = 0; i < 5; i++) {
                assertEquals(Reason.SIDECAR_UNAVAILABLE, failure(sidecar).note().reason());
            }
            assertEquals("the breaker opens after the third", 6, one.ranked.size());
        }
    }

    @Test
    public void whoHasTooLittleTimeShutsOutNobody() throws Exception {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint())) {
            rank(sidecar);
            one.rank = request -> null;
            for (int i = 0; i < 5; i++) {
                assertThrows(ExecutionException.class, () -> rank(sidecar, 5));
            }
            one.rank = FakeSidecar::reversed;
            rank(sidecar);
        }
    }

    @Test
    public void otherRefusalsAreNotAskedOfAnother() throws Exception {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint(), two.endpoint())) {
            one.rank = request -> { throw Status.RESOURCE_EXHAUSTED.asRuntimeException(); };
            two.rank = one.rank;
            assertEquals(Reason.OVERLOAD, failure(sidecar).note().reason());
            assertEquals(1, one.ranked.size() + two.ranked.size());
        }
    }

    @Test
    public void aSidecarThatHangsIsPassedOverAndTheOtherIsNot() throws Exception {
        AtomicLong now = new AtomicLong();
        try (
            Sidecar sidecar = new Sidecar(
                List.of(one.endpoint(), two.endpoint()),
                Access.open(),
                executor,
                now::get,
                3,
                60_000
            )
        ) {
            sidecar.warm();
            awaitState(sidecar, one.endpoint(), "READY");
            awaitState(sidecar, two.endpoint(), "READY");
            one.rank = request -> null;
            int failed = 0;
            for (int i = 0; i < 20; i++) {
                try {
                    rank(sidecar, 200);
                } catch (ExecutionException e) {
                    assertEquals(Reason.DEADLINE, ((SidecarException) e.getCause()).note().reason());
                    failed++;
                }
            }
            assertEquals("after that it is not tried again", 3, failed);
            Map<?, ?> breakers = (Map<?, ?>) sidecar.states().get("breakers");
            assertEquals(Map.of("state", "open", "opened", 1L), ((Map<?, ?>) breakers.get(one.endpoint())).get("rank"));
            assertEquals(Map.of("state", "closed", "opened", 0L), ((Map<?, ?>) breakers.get(two.endpoint())).get("rank"));
            // Later one call goes there to see.
            one.rank = FakeSidecar::reversed;
            now.addAndGet(TimeUnit.MINUTES.toNanos(1));
            int before = one.ranked.size();
            for (int i = 0; i < 6; i++) {
                rank(sidecar);
            }
            assertEquals(before + 3, one.ranked.size());
        }
    }

    @Test
    public void aRefusedTokenIsNamedAsTheCause() {
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint())) {
            one.rank = request -> { throw Status.UNAUTHENTICATED.withDescription("no").asRuntimeException(); };
            SidecarException refused = failure(sidecar);
            assertEquals(Reason.SIDECAR_UNAVAILABLE, refused.note().reason());
            assertTrue(refused.note().detail(), refused.note().detail().contains("neural_rank.token"));
        }
    }

    @Test
    public void whereNobodyListensIsSaidWithWhereToLook() throws Exception {
        String nobody;
        try (FakeSidecar gone = new FakeSidecar()) {
            nobody = gone.endpoint();
        }
        try (Sidecar sidecar = sidecar(Access.open(), nobody)) {
            Note note = failure(sidecar).note();
            assertEquals(Reason.SIDECAR_UNAVAILABLE, note.reason());
            assertTrue(note.detail(), note.detail().startsWith("the sidecar can't be reached"));
            assertTrue(note.detail(), note.detail().contains("GET _plugins/_neural_rank/health"));
        }
    }

    private static Map<?, ?> health(Sidecar sidecar, String endpoint) {
        return (Map<?, ?>) sidecar.health(10_000).get(endpoint);
    }

    @Test
    public void healthIsAskedOfEachSidecar() throws Exception {
        one.models = request -> ModelStatusResponse.newBuilder()
            .addBundles(BundleStatus.newBuilder().setName("e5").setHash("ab12").setState(BundleState.BUNDLE_STATE_SERVING))
            .addBundles(BundleStatus.newBuilder().setName("old").setState(BundleState.BUNDLE_STATE_REFUSED))
            .build();
        two.models = request -> { throw Status.UNAUTHENTICATED.withDescription("no such token").asRuntimeException(); };
        try (Sidecar sidecar = sidecar(Access.open(), one.endpoint(), two.endpoint(), "127.0.0.1:1")) {
            Map<?, ?> good = health(sidecar, one.endpoint());
            assertEquals(true, good.get("serving"));
            assertEquals(List.of("e5@ab12"), good.get("models"));
            assertEquals("READY", good.get("connection"));
            Map<?, ?> refused = health(sidecar, two.endpoint());
            assertEquals(false, refused.get("serving"));
            assertEquals("UNAUTHENTICATED: no such token", refused.get("reason"));
            Map<?, ?> absent = health(sidecar, "127.0.0.1:1");
            assertEquals(false, absent.get("serving"));
            assertTrue(absent.toString(), absent.get("reason").toString().contains("Connection refused"));
            one.serving(false);
            awaitState(sidecar, one.endpoint(), "TRANSIENT_FAILURE");
            assertTrue(health(sidecar, one.endpoint()).get("reason").toString().contains("NOT_SERVING"));
        }
    }

    @Test
    public void overMutualTlsWithATokenAndNotWithout() throws Exception {
        Path config = folder.getRoot().toPath();
        Certificates.issue(config, "sidecar", "EC");
        Certificates.issue(config, "node", "EC");
        TlsServerCredentials.Builder server = TlsServerCredentials.newBuilder()
            .keyManager(config.resolve("sidecar.crt").toFile(), config.resolve("sidecar.key").toFile())
            .trustManager(config.resolve("node.crt").toFile())
            .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE);
        try (FakeSidecar secured = new FakeSidecar(server.build())) {
            TlsFiles files = new TlsFiles(config, "sidecar.crt", "node.crt", "node.key");
            try (Sidecar sidecar = sidecar(Access.of(files.read(), "the-token"), secured.endpoint())) {
                rank(sidecar);
                Metadata received = secured.headers.get(0);
                assertEquals(
                    "Bearer the-token",
                    received.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER))
                );
                // Another token, from the next call on.
                sidecar.reconnect(Access.of(files.read(), "the-next-token"));
                rank(sidecar);
                Metadata last = secured.headers.get(secured.headers.size() - 1);
                assertEquals(
                    "Bearer the-next-token",
                    last.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER))
                );
            }
            for (TlsFiles wrong : List.of(
                new TlsFiles(config, "", "", ""),
                new TlsFiles(config, "sidecar.crt", "", ""),
                new TlsFiles(config, "node.crt", "node.crt", "node.key")
            )) {
                try (Sidecar sidecar = sidecar(Access.of(wrong.read(), ""), secured.endpoint())) {
                    assertEquals(Reason.SIDECAR_UNAVAILABLE, failure(sidecar).note().reason());
                    assertEquals(false, health(sidecar, secured.endpoint()).get("serving"));
                }
            }
        }
    }
}

package org.neuralrank.sidecar;

import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.Closeable;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BiConsumer;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.LongSupplier;
import org.neuralrank.v1.EncodeInput;
import org.neuralrank.v1.EncodeRequest;
import org.neuralrank.v1.EncodeResponse;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.RankResponse;
import org.neuralrank.v1.RankingGrpc;
import org.opensearch.core.action.ActionListener;

/**
 * The ranking service as the plugin sees it: two asynchronous calls, each with a deadline, and a breaker for each sidecar. A call
 * answers its listener exactly once, on the given executor or, if it is refused, on the caller's thread; failures are
 * always {@link SidecarException}s. Thread contexts are the caller's business.
 */
public final class Sidecar implements Closeable {

    // Of the sidecar, on what it is sent; and of gRPC here, on what comes back.
    private static final String TOO_LONG = "larger than max";
    private static final String REPLY_TOO_LONG = "message exceeds maximum size";
    // Who has less is late without the sidecar's doing: what k-NN left of a budget, or a search's own pipeline.
    private static final long LEAST_MS = 20;
    private static final String SEE_HEALTH = " (GET _plugins/_neural_rank/health says more)";

    private final Executor executor;
    private final LongSupplier nanoClock;
    private int failures;
    private long openMs;
    private List<String> endpoints;
    private Access access;
    private volatile Channels channels;
    // The most that any sidecar has said of late.
    private final AtomicReference<Heard> textCharacters = new AtomicReference<>(Heard.NOTHING);

    /**
     * @param endpoints where sidecars listen
     * @param access    what is shown to them
     * @param executor  where answers are handled
     * @param nanoClock for the breakers
     */
    public Sidecar(
        List<String> endpoints,
        Access access,
        Executor executor,
        LongSupplier nanoClock,
        int failures,
        long openMs
    ) {
        this.executor = executor;
        this.nanoClock = nanoClock;
        this.failures = failures;
        this.openMs = openMs;
        this.endpoints = endpoints;
        this.access = access;
        this.channels = channels();
    }

    /** Reads a reply, or says why it can't be used; a bad one counts as a failed call. */
    @FunctionalInterface
    public interface Reading<R, T> {
        T read(R reply) throws SidecarException;
    }

    /** Turns a query, user or item into a vector. The headers are those of {@link CallerHeaders}. */
    public <T> void encode(
        EncodeRequest request,
        Metadata headers,
        long timeoutMs,
        Reading<EncodeResponse, T> reading,
        ActionListener<T> listener
    ) {
        boolean item = request.getInputsList().stream().anyMatch(EncodeInput::hasItemId);
        call(
            Channels.Kind.ENCODE,
            headers,
            timeoutMs,
            notFound(item),
            reading,
            listener,
            (stub, observer) -> stub.encode(request, observer)
        );
    }

    /**
     * How many characters of a candidate's text are read at most, as sidecars have said: of several the one that reads
     * most, and everything as long as none has answered or where one doesn't say.
     */
    public int textCharacters() {
        return textCharacters.get().characters();
    }

    private void heard(RankResponse reply) {
        int said = reply.getTextCharacters();
        Heard now = new Heard(said <= 0 ? Integer.MAX_VALUE : said, nanoClock.getAsLong());
        textCharacters.accumulateAndGet(now, (old, last) -> old.outweighs(last) ? old : last);
    }

    /** What a sidecar said that it reads of a text. */
    private record Heard(int characters, long at) {

        static final Heard NOTHING = new Heard(Integer.MAX_VALUE, 0);
        // Who said more and has not answered for so long may be gone, or another version by now.
        private static final long LASTS_NANOS = TimeUnit.MINUTES.toNanos(5);

        boolean outweighs(Heard later) {
            return this != NOTHING && characters > later.characters && later.at - at < LASTS_NANOS;
        }
    }

    /** Ranks candidates. The headers are those of {@link CallerHeaders}. */
    public <T> void rank(
        RankRequest request,
        Metadata headers,
        long timeoutMs,
        Reading<RankResponse, T> reading,
        ActionListener<T> listener
    ) {
        boolean item = !request.getSimilarTo().isEmpty();
        Reading<RankResponse, T> listening = reply -> {
            heard(reply);
            return reading.read(reply);
        };
        call(
            Channels.Kind.RANK,
            headers,
            timeoutMs,
            notFound(item),
            listening,
            listener,
            (stub, observer) -> stub.rank(request, observer)
        );
    }

    /**
     * Connects and makes a first call in the background; the first one on a cold channel takes some 400 ms. By
     * contract, to rank nothing gives an empty answer.
     */
    public void warm() {
        for (Channels.Line line : channels.all()) {
            RankingGrpc.newStub(line.channel())
                .withDeadlineAfter(5, TimeUnit.SECONDS)
                .rank(RankRequest.getDefaultInstance(), new Warmed());
        }
    }

    /** Other addresses, from the next call on. */
    public synchronized void reconnect(List<String> otherEndpoints) {
        endpoints = otherEndpoints;
        open();
    }

    /** Other certificates or another token, from the next call on. */
    public synchronized void reconnect(Access otherAccess) {
        access = otherAccess;
        open();
    }

    private Channels channels() {
        return new Channels(endpoints, access, executor, () -> new Breaker(nanoClock, failures, openMs));
    }

    private void open() {
        Channels old = channels;
        channels = channels();
        old.close();
        textCharacters.set(Heard.NOTHING);
        warm();
    }

    /** Other breaker settings, from the next call on. */
    public synchronized void configureBreakers(int otherFailures, long otherOpenMs) {
        failures = otherFailures;
        openMs = otherOpenMs;
        channels.all().forEach(line -> line.breakers().values().forEach(each -> each.configure(failures, openMs)));
    }

    /** For the stats: breaker and connection states. */
    public Map<String, Object> states() {
        Map<String, Object> states = new LinkedHashMap<>();
        Channels current = channels;
        Map<String, Object> breakers = new LinkedHashMap<>();
        current.all().forEach(line -> {
            Map<String, Object> ofLine = new LinkedHashMap<>();
            line.breakers().forEach((kind, each) -> ofLine.put(kind.name().toLowerCase(Locale.ROOT), describe(each)));
            breakers.put(line.endpoint(), ofLine);
        });
        states.put("breakers", breakers);
        states.put("endpoints", current.states());
        return states;
    }

    /**
     * Asks each sidecar, with certificates and token, and waits for the answers.
     *
     * @param patienceMs how long, in ms
     * @return by address: {@code serving}, the state of the {@code connection}, {@code ms}, and the {@code models} that
     *     serve or the {@code reason} why it does not
     */
    public Map<String, Object> health(long patienceMs) {
        Map<String, Checkup> checkups = new LinkedHashMap<>();
        channels.all().forEach(line -> checkups.put(line.endpoint(), new Checkup(line.channel(), patienceMs)));
        Map<String, Object> health = new LinkedHashMap<>();
        checkups.forEach((endpoint, checkup) -> health.put(endpoint, checkup.result()));
        return health;
    }

    private static Map<String, Object> describe(Breaker breaker) {
        return Map.of("state", breaker.state().name().toLowerCase(Locale.ROOT), "opened", breaker.opened());
    }

    @Override
    public void close() {
        channels.close();
    }

    /** What it means that something is not there: of what a request names, items go out of a catalogue, models seldom. */
    private static Reason notFound(boolean namesItem) {
        return namesItem ? Reason.NOT_APPLICABLE : Reason.MODEL_UNAVAILABLE;
    }

    private <R, T> void call(
        Channels.Kind kind,
        Metadata headers,
        long timeoutMs,
        Reason notFound,
        Reading<R, T> reading,
        ActionListener<T> listener,
        BiConsumer<RankingGrpc.RankingStub, StreamObserver<R>> start
    ) {
        if (timeoutMs <= 0) {
            listener.onFailure(new SidecarException(Reason.DEADLINE, "no time was left to call the sidecar"));
            return;
        }
        Channels current = channels;
        Channels.Line first = current.next(kind);
        if (first == null) {
            listener.onFailure(
                new SidecarException(Reason.SIDECAR_UNAVAILABLE, "recent calls failed; not tried again yet" + SEE_HEALTH)
            );
            return;
        }
        Deadline deadline = Deadline.after(timeoutMs, TimeUnit.MILLISECONDS);
        Consumer<Attempt> attempt = next -> start.accept(
            RankingGrpc.newStub(next.line().channel())
                .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
                .withDeadline(deadline),
            new Answer<>(next.line().breaker(kind), timeoutMs, notFound, reading, listener, next.otherwise())
        );
        attempt.accept(new Attempt(first, () -> {
            Channels.Line second = current.secondAfter(first, kind);
            if (second == null) {
                return false;
            }
            if (second != first) {
                first.breaker(kind).failed();
            }
            // The same one's breaker hears of the second try only: a search counts once.
            attempt.accept(new Attempt(second, () -> false));
            return true;
        }));
    }

    private static String described(Status status) {
        return status.getDescription() == null ? status.getCode().name() : status.getDescription();
    }

    /**
     * One try of a call.
     *
     * @param otherwise asks once more, where nothing was done by this one; false if there is nobody to ask
     */
    private record Attempt(Channels.Line line, BooleanSupplier otherwise) {}

    /** Keeps the message until the call has ended well: a message may be followed by an error. */
    private static final class Answer<R, T> implements StreamObserver<R> {
        private final Breaker breaker;
        private final long timeoutMs;
        private final Reason notFound;
        private final Reading<R, T> reading;
        private final ActionListener<T> listener;
        private final BooleanSupplier otherwise;
        private R message;

        Answer(
            Breaker breaker,
            long timeoutMs,
            Reason notFound,
            Reading<R, T> reading,
            ActionListener<T> listener,
            BooleanSupplier otherwise
        ) {
            this.breaker = breaker;
            this.timeoutMs = timeoutMs;
            this.notFound = notFound;
            this.reading = reading;
            this.listener = listener;
            this.otherwise = otherwise;
        }

        @Override
        public void onNext(R value) {
            message = value;
        }

        @Override
        public void onError(Throwable error) {
            Status status = Status.fromThrowable(error);
            // UNAVAILABLE means that nothing was done; CANCELLED, which is never this side's doing, that the sidecar
            // stopped before it began. Ranking and encoding change nothing, so asking twice is safe.
            boolean untouched = switch (status.getCode()) {
                case UNAVAILABLE, CANCELLED -> true;
                default -> false;
            };
            if (untouched && otherwise.getAsBoolean()) {
                return;
            }
            String said = switch (status.getCode()) {
                case UNAUTHENTICATED, PERMISSION_DENIED -> "the sidecar does not accept this node's token"
                    + " (neural_rank.token in the node's keystore)";
                // gRPC's own words are "io exception" for whatever kept a call from being sent.
                case UNAVAILABLE -> status.getCause() instanceof IOException
                    ? "the sidecar can't be reached" + SEE_HEALTH
                    : described(status);
                default -> described(status);
            };
            Reason reason = switch (status.getCode()) {
                case DEADLINE_EXCEEDED -> Reason.DEADLINE;
                // gRPC's word for a message that is too long too, which is never taken, however idle the sidecar is.
                case RESOURCE_EXHAUSTED -> said.contains(TOO_LONG) ? Reason.NOT_APPLICABLE
                    : said.contains(REPLY_TOO_LONG) ? Reason.BAD_REPLY
                    : Reason.OVERLOAD;
                case INVALID_ARGUMENT, OUT_OF_RANGE -> Reason.NOT_APPLICABLE;
                case NOT_FOUND -> notFound;
                case FAILED_PRECONDITION -> Reason.ENCODER_MISMATCH;
                case INTERNAL, UNKNOWN, DATA_LOSS, UNIMPLEMENTED -> Reason.BAD_REPLY;
                default -> Reason.SIDECAR_UNAVAILABLE;
            };
            // A refusal of this one request says that the service works. One for lack of room must not count
            // either: shutting out everybody would make an outage of a peak.
            switch (reason) {
                case OVERLOAD, NOT_APPLICABLE, MODEL_UNAVAILABLE, ENCODER_MISMATCH -> breaker.succeeded();
                case DEADLINE -> {
                    if (timeoutMs < LEAST_MS) {
                        breaker.unknown();
                    } else {
                        breaker.failed();
                    }
                }
                default -> breaker.failed();
            }
            String detail = reason == Reason.DEADLINE ? "no answer within " + timeoutMs + " ms" : said;
            listener.onFailure(new SidecarException(reason, detail));
        }

        @Override
        public void onCompleted() {
            T read;
            try {
                if (message == null) {
                    throw new SidecarException(Reason.BAD_REPLY, "the sidecar ended the call without a reply");
                }
                read = reading.read(message);
            } catch (SidecarException e) {
                // A sound reply that does not fit this one index says nothing about the others.
                if (e.note().reason() == Reason.BAD_REPLY) {
                    breaker.failed();
                } else {
                    breaker.succeeded();
                }
                listener.onFailure(e);
                return;
            } catch (RuntimeException e) {
                breaker.failed();
                listener.onFailure(new SidecarException(Reason.BAD_REPLY, "the reply can't be read: " + e));
                return;
            }
            breaker.succeeded();
            listener.onResponse(read);
        }
    }

    private final class Warmed implements StreamObserver<RankResponse> {
        @Override
        public void onNext(RankResponse reply) {
            heard(reply);
        }

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {}
    }
}

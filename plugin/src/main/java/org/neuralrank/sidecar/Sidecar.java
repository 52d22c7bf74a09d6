package org.neuralrank.sidecar;

import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.Closeable;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.LongSupplier;
import org.neuralrank.v1.EncodeRequest;
import org.neuralrank.v1.EncodeResponse;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.RankResponse;
import org.neuralrank.v1.RankingGrpc;
import org.opensearch.core.action.ActionListener;

/**
 * The ranking service as the plugin sees it: two asynchronous calls, each with a deadline and a breaker. A call
 * answers its listener exactly once, on the given executor or, if it is refused, on the caller's thread; failures are
 * always {@link SidecarException}s. Thread contexts are the caller's business.
 */
public final class Sidecar implements Closeable {

    private final Executor executor;
    private final Breaker encode;
    private final Breaker rank;
    private List<String> endpoints;
    private Access access;
    private volatile Channels channels;

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
        this.encode = new Breaker(nanoClock, failures, openMs);
        this.rank = new Breaker(nanoClock, failures, openMs);
        this.endpoints = endpoints;
        this.access = access;
        this.channels = new Channels(endpoints, access, executor);
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
        call(encode, headers, timeoutMs, reading, listener, (stub, observer) -> stub.encode(request, observer));
    }

    /** Ranks candidates. The headers are those of {@link CallerHeaders}. */
    public <T> void rank(
        RankRequest request,
        Metadata headers,
        long timeoutMs,
        Reading<RankResponse, T> reading,
        ActionListener<T> listener
    ) {
        call(rank, headers, timeoutMs, reading, listener, (stub, observer) -> stub.rank(request, observer));
    }

    /**
     * Connects and makes a first call in the background; the first one on a cold channel takes some 400 ms. By
     * contract, to rank nothing gives an empty answer.
     */
    public void warm() {
        for (ManagedChannel channel : channels.all().values()) {
            RankingGrpc.newStub(channel)
                .withDeadlineAfter(5, TimeUnit.SECONDS)
                .rank(RankRequest.getDefaultInstance(), new Ignored());
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

    private void open() {
        Channels old = channels;
        channels = new Channels(endpoints, access, executor);
        old.close();
        warm();
    }

    /** Other breaker settings, from the next call on. */
    public void configureBreakers(int failures, long openMs) {
        encode.configure(failures, openMs);
        rank.configure(failures, openMs);
    }

    /** For the stats: breaker and connection states. */
    public Map<String, Object> states() {
        Map<String, Object> states = new LinkedHashMap<>();
        states.put("breakers", Map.of("encode", describe(encode), "rank", describe(rank)));
        states.put("endpoints", channels.states());
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
        channels.all().forEach((endpoint, channel) -> checkups.put(endpoint, new Checkup(channel, patienceMs)));
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

    private <R, T> void call(
        Breaker breaker,
        Metadata headers,
        long timeoutMs,
        Reading<R, T> reading,
        ActionListener<T> listener,
        BiConsumer<RankingGrpc.RankingStub, StreamObserver<R>> start
    ) {
        if (timeoutMs <= 0) {
            listener.onFailure(new SidecarException(Reason.DEADLINE, "no time was left to call the sidecar"));
            return;
        }
        Breaker.Permit permit = breaker.acquire();
        if (permit == Breaker.Permit.NO) {
            listener.onFailure(
                new SidecarException(Reason.SIDECAR_UNAVAILABLE, "recent calls failed; not tried again yet")
            );
            return;
        }
        Channels current = channels;
        if (permit == Breaker.Permit.PROBE) {
            current.resetConnectBackoff();
        }
        Deadline deadline = Deadline.after(timeoutMs, TimeUnit.MILLISECONDS);
        ManagedChannel first = current.next();
        Consumer<Attempt> attempt = next -> start.accept(
            RankingGrpc.newStub(next.channel())
                .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
                .withDeadline(deadline),
            new Answer<>(breaker, timeoutMs, reading, listener, next.otherwise())
        );
        attempt.accept(new Attempt(first, () -> {
            ManagedChannel other = current.otherThan(first);
            if (other != null) {
                attempt.accept(new Attempt(other, () -> false));
            }
            return other != null;
        }));
    }

    /**
     * One try of a call.
     *
     * @param otherwise tries another sidecar, where nothing was done by this one; false if there is none
     */
    private record Attempt(ManagedChannel channel, BooleanSupplier otherwise) {}

    /** Keeps the message until the call has ended well: a message may be followed by an error. */
    private static final class Answer<R, T> implements StreamObserver<R> {
        private final Breaker breaker;
        private final long timeoutMs;
        private final Reading<R, T> reading;
        private final ActionListener<T> listener;
        private final BooleanSupplier otherwise;
        private R message;

        Answer(
            Breaker breaker,
            long timeoutMs,
            Reading<R, T> reading,
            ActionListener<T> listener,
            BooleanSupplier otherwise
        ) {
            this.breaker = breaker;
            this.timeoutMs = timeoutMs;
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
            // Ranking and encoding change nothing, so asking twice is safe.
            if (status.getCode() == Status.Code.UNAVAILABLE && otherwise.getAsBoolean()) {
                return;
            }
            String said = switch (status.getCode()) {
                case UNAUTHENTICATED, PERMISSION_DENIED -> "the sidecar does not accept this node's token"
                    + " (neural_rank.token in the node's keystore)";
                default -> status.getDescription() == null ? status.getCode().name() : status.getDescription();
            };
            Reason reason = switch (status.getCode()) {
                case DEADLINE_EXCEEDED -> Reason.DEADLINE;
                case RESOURCE_EXHAUSTED -> Reason.OVERLOAD;
                case INVALID_ARGUMENT, OUT_OF_RANGE -> Reason.NOT_APPLICABLE;
                case NOT_FOUND -> Reason.MODEL_UNAVAILABLE;
                case FAILED_PRECONDITION -> Reason.ENCODER_MISMATCH;
                case INTERNAL, UNKNOWN, DATA_LOSS, UNIMPLEMENTED -> Reason.BAD_REPLY;
                default -> Reason.SIDECAR_UNAVAILABLE;
            };
            // A refusal of this one request says that the service works. One for lack of room must not count
            // either: shutting out everybody would make an outage of a peak.
            switch (reason) {
                case OVERLOAD, NOT_APPLICABLE, MODEL_UNAVAILABLE, ENCODER_MISMATCH -> breaker.succeeded();
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

    private static final class Ignored implements StreamObserver<RankResponse> {
        @Override
        public void onNext(RankResponse value) {}

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {}
    }
}

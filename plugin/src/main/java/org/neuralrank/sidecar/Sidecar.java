package org.neuralrank.sidecar;

import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.Closeable;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.LongSupplier;
import org.neuralrank.v1.EncodeRequest;
import org.neuralrank.v1.EncodeResponse;
import org.neuralrank.v1.ModelStatusRequest;
import org.neuralrank.v1.ModelStatusResponse;
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
    private volatile Channels channels;

    /**
     * @param endpoints where sidecars listen
     * @param executor  where answers are handled
     * @param nanoClock for the breakers
     */
    public Sidecar(List<String> endpoints, Executor executor, LongSupplier nanoClock, int failures, long openMs) {
        this.executor = executor;
        this.encode = new Breaker(nanoClock, failures, openMs);
        this.rank = new Breaker(nanoClock, failures, openMs);
        this.channels = new Channels(endpoints, executor);
    }

    /** Turns a query, user or item into a vector. */
    public void encode(EncodeRequest request, long timeoutMs, ActionListener<EncodeResponse> listener) {
        call(encode, timeoutMs, listener, (stub, observer) -> stub.encode(request, observer));
    }

    /**
     * Ranks candidates. Whether the reply makes sense is the caller's judgment, who reports nonsense with
     * {@link #badRank()}.
     */
    public void rank(RankRequest request, long timeoutMs, ActionListener<RankResponse> listener) {
        call(rank, timeoutMs, listener, (stub, observer) -> stub.rank(request, observer));
    }

    /** A Rank reply came but can't be used: counts as a failed call. */
    public void badRank() {
        rank.failed();
    }

    /** Connects and makes a first call in the background; the first one on a cold channel takes some 400 ms. */
    public void warm() {
        for (ManagedChannel channel : channels.all()) {
            RankingGrpc.newStub(channel)
                .withDeadlineAfter(5, TimeUnit.SECONDS)
                .modelStatus(ModelStatusRequest.getDefaultInstance(), new Ignored());
        }
    }

    /** Other addresses, from the next call on. */
    public synchronized void reconnect(List<String> endpoints) {
        Channels old = channels;
        channels = new Channels(endpoints, executor);
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

    private static Map<String, Object> describe(Breaker breaker) {
        return Map.of("state", breaker.state().name().toLowerCase(java.util.Locale.ROOT), "opened", breaker.opened());
    }

    @Override
    public void close() {
        channels.close();
    }

    private <T> void call(
        Breaker breaker,
        long timeoutMs,
        ActionListener<T> listener,
        BiConsumer<RankingGrpc.RankingStub, StreamObserver<T>> start
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
        RankingGrpc.RankingStub stub = RankingGrpc.newStub(current.next())
            .withDeadlineAfter(timeoutMs, TimeUnit.MILLISECONDS);
        start.accept(stub, new Answer<>(breaker, timeoutMs, listener));
    }

    /** Keeps the message until the call has ended well: a message may be followed by an error. */
    private static final class Answer<T> implements StreamObserver<T> {
        private final Breaker breaker;
        private final long timeoutMs;
        private final ActionListener<T> listener;
        private T message;

        Answer(Breaker breaker, long timeoutMs, ActionListener<T> listener) {
            this.breaker = breaker;
            this.timeoutMs = timeoutMs;
            this.listener = listener;
        }

        @Override
        public void onNext(T value) {
            message = value;
        }

        @Override
        public void onError(Throwable error) {
            Status status = Status.fromThrowable(error);
            String said = status.getDescription() == null ? status.getCode().name() : status.getDescription();
            SidecarException failure = switch (status.getCode()) {
                case DEADLINE_EXCEEDED -> new SidecarException(Reason.DEADLINE, "no answer within " + timeoutMs + " ms");
                case RESOURCE_EXHAUSTED -> new SidecarException(Reason.OVERLOAD, said);
                case INVALID_ARGUMENT, OUT_OF_RANGE -> new SidecarException(Reason.NOT_APPLICABLE, said);
                case NOT_FOUND -> new SidecarException(Reason.MODEL_UNAVAILABLE, said);
                case FAILED_PRECONDITION -> new SidecarException(Reason.ENCODER_MISMATCH, said);
                case INTERNAL, UNKNOWN, DATA_LOSS, UNIMPLEMENTED -> new SidecarException(Reason.BAD_REPLY, said);
                default -> new SidecarException(Reason.SIDECAR_UNAVAILABLE, said);
            };
            // A refusal of this one request says that the service works. One for lack of room must not count
            // either: shutting out everybody would make an outage of a peak.
            switch (failure.note().reason()) {
                case OVERLOAD, NOT_APPLICABLE, MODEL_UNAVAILABLE, ENCODER_MISMATCH -> breaker.succeeded();
                default -> breaker.failed();
            }
            listener.onFailure(failure);
        }

        @Override
        public void onCompleted() {
            if (message == null) {
                breaker.failed();
                listener.onFailure(new SidecarException(Reason.BAD_REPLY, "the sidecar ended the call without a reply"));
                return;
            }
            breaker.succeeded();
            listener.onResponse(message);
        }
    }

    private static final class Ignored implements StreamObserver<ModelStatusResponse> {
        @Override
        public void onNext(ModelStatusResponse value) {}

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {}
    }
}

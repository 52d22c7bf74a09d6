package org.neuralrank.sidecar;

import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.neuralrank.v1.BundleState;
import org.neuralrank.v1.ModelStatusRequest;
import org.neuralrank.v1.ModelStatusResponse;
import org.neuralrank.v1.RankingGrpc;

/**
 * One question to one sidecar that needs all that a search needs: the connection, certificates, health, the token.
 * It begins when it is made.
 */
final class Checkup implements StreamObserver<ModelStatusResponse> {

    private final ManagedChannel channel;
    private final long startedAt = System.nanoTime();
    private final CompletableFuture<Map<String, Object>> result = new CompletableFuture<>();
    private ModelStatusResponse message = ModelStatusResponse.getDefaultInstance();

    Checkup(ManagedChannel channel, long patienceMs) {
        this.channel = channel;
        // Where the last attempt to connect failed, its reason is the answer; the next attempt begins now, not later.
        channel.resetConnectBackoff();
        RankingGrpc.newStub(channel)
            .withDeadlineAfter(patienceMs, TimeUnit.MILLISECONDS)
            .modelStatus(ModelStatusRequest.getDefaultInstance(), this);
    }

    /** Waits for it; gRPC's deadline sees to it that it comes. */
    Map<String, Object> result() {
        return result.join();
    }

    @Override
    public void onNext(ModelStatusResponse value) {
        message = value;
    }

    @Override
    public void onCompleted() {
        Map<String, Object> found = found(true);
        found.put("models", models());
        result.complete(found);
    }

    @Override
    public void onError(Throwable error) {
        Map<String, Object> found = found(false);
        found.put("reason", reason(Status.fromThrowable(error)));
        result.complete(found);
    }

    private Map<String, Object> found(boolean serving) {
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("serving", serving);
        found.put("connection", channel.getState(false).name());
        found.put("ms", (System.nanoTime() - startedAt) / 1_000 / 1_000.0);
        return found;
    }

    private List<String> models() {
        return message.getBundlesList()
            .stream()
            .filter(bundle -> bundle.getState() == BundleState.BUNDLE_STATE_SERVING)
            .map(bundle -> bundle.getName() + "@" + bundle.getHash())
            .toList();
    }

    private static String reason(Status status) {
        StringBuilder reason = new StringBuilder(status.getCode().name());
        if (status.getDescription() != null) {
            reason.append(": ").append(status.getDescription());
        }
        // The last cause says what a handshake failed of.
        Throwable cause = status.getCause();
        while (cause != null && cause.getCause() != null) {
            cause = cause.getCause();
        }
        return cause == null ? reason.toString() : reason.append(" (").append(cause.getMessage()).append(')').toString();
    }
}

package org.neuralrank.search;

import com.google.protobuf.ByteString;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Function;
import org.neuralrank.v1.EncodeRequest;
import org.neuralrank.v1.EncodeResponse;
import org.neuralrank.v1.Encoding;
import org.neuralrank.v1.Interest;
import org.neuralrank.v1.ModelStatusRequest;
import org.neuralrank.v1.ModelStatusResponse;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.RankResponse;
import org.neuralrank.v1.RankedCandidate;
import org.neuralrank.v1.RankingGrpc;

/** A gRPC server that behaves as a test wants it to; a null answer means that none ever comes. */
final class FakeSidecar extends RankingGrpc.RankingImplBase implements AutoCloseable {

    final List<EncodeRequest> encoded = new CopyOnWriteArrayList<>();
    final List<RankRequest> ranked = new CopyOnWriteArrayList<>();
    final List<Metadata> headers = new CopyOnWriteArrayList<>();
    volatile Function<EncodeRequest, EncodeResponse> encode = request -> vector(1, 0, 0);
    volatile Function<RankRequest, RankResponse> rank = FakeSidecar::reversed;
    volatile Function<ModelStatusRequest, ModelStatusResponse> models = request -> ModelStatusResponse.getDefaultInstance();
    private final HealthStatusManager health = new HealthStatusManager();
    private final Server server;

    FakeSidecar() throws IOException {
        this(InsecureServerCredentials.create());
    }

    FakeSidecar(ServerCredentials credentials) throws IOException {
        serving(true);
        server = Grpc.newServerBuilderForPort(0, credentials)
            .addService(health.getHealthService())
            .addService(ServerInterceptors.intercept(this, new Listening()))
            .build()
            .start();
    }

    String endpoint() {
        return "127.0.0.1:" + server.getPort();
    }

    /** What its health service reports. */
    void serving(boolean serving) {
        health.setStatus(RankingGrpc.SERVICE_NAME, serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
    }

    /** The last candidate first. */
    static RankResponse reversed(RankRequest request) {
        RankResponse.Builder reply = RankResponse.newBuilder().addBundles("toy@1");
        int count = request.getCandidatesCount();
        for (int i = count - 1; i >= 0; i--) {
            reply.addResults(
                RankedCandidate.newBuilder().setId(request.getCandidates(i).getId()).setScore((i + 1f) / count)
            );
        }
        return reply.build();
    }

    static EncodeResponse vector(float... values) {
        return EncodeResponse.newBuilder()
            .addEncodings(Encoding.newBuilder().setVector(packed(values)))
            .setEncoder("toy@1")
            .setDimensions(values.length)
            .build();
    }

    /** A user's interests, of three dimensions, each along another one; with their mean. */
    static EncodeResponse interests(double... shares) {
        Encoding.Builder user = Encoding.newBuilder().setVector(packed(1, 1, 1));
        for (int number = 0; number < shares.length; number++) {
            float[] values = new float[3];
            values[number] = 1;
            user.addInterests(Interest.newBuilder().setVector(packed(values)).setShare((float) shares[number]));
        }
        return EncodeResponse.newBuilder().addEncodings(user).setEncoder("toy@1").setDimensions(3).build();
    }

    /** The same, and what those who did the same have. */
    static EncodeResponse interestsAnd(List<String> likely, double... shares) {
        EncodeResponse.Builder made = interests(shares).toBuilder();
        made.getEncodingsBuilder(0).addAllCollaborative(likely);
        return made.build();
    }

    private static ByteString packed(float... values) {
        ByteBuffer packed = ByteBuffer.allocate(values.length * 4).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) {
            packed.putFloat(value);
        }
        return ByteString.copyFrom(packed.array());
    }

    @Override
    public void encode(EncodeRequest request, StreamObserver<EncodeResponse> observer) {
        encoded.add(request);
        answer(encode, request, observer);
    }

    @Override
    public void rank(RankRequest request, StreamObserver<RankResponse> observer) {
        ranked.add(request);
        answer(rank, request, observer);
    }

    @Override
    public void modelStatus(ModelStatusRequest request, StreamObserver<ModelStatusResponse> observer) {
        answer(models, request, observer);
    }

    private static <Q, A> void answer(Function<Q, A> behaviour, Q request, StreamObserver<A> observer) {
        A answer;
        try {
            answer = behaviour.apply(request);
        } catch (RuntimeException e) {
            observer.onError(Status.fromThrowable(e).asRuntimeException());
            return;
        }
        if (answer != null) {
            observer.onNext(answer);
            observer.onCompleted();
        }
    }

    private final class Listening implements ServerInterceptor {
        @Override
        public <Q, A> ServerCall.Listener<Q> interceptCall(
            ServerCall<Q, A> call,
            Metadata received,
            ServerCallHandler<Q, A> next
        ) {
            headers.add(received);
            return next.startCall(call, received);
        }
    }

    @Override
    public void close() {
        server.shutdownNow();
    }
}

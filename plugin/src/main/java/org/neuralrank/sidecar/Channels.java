package org.neuralrank.sidecar;

import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.stub.MetadataUtils;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.neuralrank.v1.RankingGrpc;

/**
 * The connections to the sidecars, one channel for each address, shared by all searches of the node. Calls take
 * turns; a channel that can't connect, or whose sidecar reports that it does not serve, is passed over while another
 * can, and so is one whose breaker is open: a sidecar that hangs must not cost every second search its time. A name
 * that stands for several machines is balanced over them by its channel.
 */
final class Channels implements AutoCloseable {

    // A reply on 10,000 candidates with explanations is about 5 MB; gRPC's own limit is 4 MB.
    private static final int LARGEST_REPLY = 32 * 1024 * 1024;

    // The sidecar's health service is watched: one that is stopping or has no models yet gets no calls. A service
    // without health service counts as healthy.
    private static final Map<String, ?> SERVICE_CONFIG = Map.of(
        "loadBalancingConfig",
        List.of(Map.of("round_robin", Map.of())),
        "healthCheckConfig",
        Map.of("serviceName", RankingGrpc.SERVICE_NAME)
    );

    private final List<Line> lines;
    private final AtomicInteger turn = new AtomicInteger();

    /** The kinds of call; each has its own breaker, for where Encode works and Rank fails. */
    enum Kind {
        ENCODE,
        RANK
    }

    /**
     * One sidecar, or several behind one name.
     *
     * @param endpoint as in the setting
     */
    record Line(String endpoint, ManagedChannel channel, Map<Kind, Breaker> breakers) {

        Breaker breaker(Kind kind) {
            return breakers.get(kind);
        }

        private boolean canConnect() {
            return channel.getState(true) != ConnectivityState.TRANSIENT_FAILURE;
        }

        private boolean isConnected() {
            return channel.getState(true) == ConnectivityState.READY;
        }

        /** Whether its breaker lets a call through; who is let through must report the outcome. */
        private boolean admits(Kind kind) {
            Breaker.Permit permit = breaker(kind).acquire();
            if (permit == Breaker.Permit.PROBE) {
                // At once, instead of waiting for gRPC's own, growing, pause.
                channel.resetConnectBackoff();
            }
            return permit != Breaker.Permit.NO;
        }
    }

    /**
     * @param endpoints  {@code host:port} or {@code unix:///path}
     * @param executor   where callbacks run
     * @param newBreaker makes a closed one
     */
    Channels(List<String> endpoints, Access access, Executor executor, Supplier<Breaker> newBreaker) {
        this.lines = endpoints.stream()
            .map(
                endpoint -> new Line(
                    endpoint,
                    open(endpoint, access, executor),
                    Map.of(Kind.ENCODE, newBreaker.get(), Kind.RANK, newBreaker.get())
                )
            )
            .toList();
    }

    private static ManagedChannel open(String endpoint, Access access, Executor executor) {
        String target = endpoint.startsWith("unix:") ? endpoint : "dns:///" + endpoint;
        return Grpc.newChannelBuilder(target, access.credentials())
            .executor(executor)
            .intercept(MetadataUtils.newAttachHeadersInterceptor(access.headers()))
            .maxInboundMessageSize(LARGEST_REPLY)
            .disableServiceConfigLookUp()
            .defaultServiceConfig(SERVICE_CONFIG)
            // A sidecar that vanished without a word is found. It permits a ping every 15 s.
            .keepAliveTime(30, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            // A quiet night must not make the morning's first query wait for a connection.
            .idleTimeout(30, TimeUnit.DAYS)
            .build();
    }

    /** The one for the next call, or null if no breaker lets it through. */
    Line next(Kind kind) {
        List<Line> inTurn = from(turn.getAndIncrement());
        for (boolean connected : new boolean[] { true, false }) {
            for (Line line : inTurn) {
                if (line.canConnect() == connected && line.admits(kind)) {
                    return line;
                }
            }
        }
        return null;
    }

    /**
     * Where to ask once more after a call that did nothing: another one that is connected; else the same, if it still
     * is: its name may stand for several machines, of which its channel takes the next. Null if there is neither.
     */
    Line secondAfter(Line tried, Kind kind) {
        // It takes no turn of its own: with two sidecars, the same one would always come first.
        for (Line line : from(turn.get())) {
            if (line != tried && line.isConnected() && line.admits(kind)) {
                return line;
            }
        }
        return tried.isConnected() ? tried : null;
    }

    private List<Line> from(int number) {
        int start = Math.floorMod(number, lines.size());
        List<Line> inTurn = new ArrayList<>(lines.subList(start, lines.size()));
        inTurn.addAll(lines.subList(0, start));
        return inTurn;
    }

    /** In the order of the setting. */
    List<Line> all() {
        return lines;
    }

    /** Connection states by address. */
    Map<String, String> states() {
        Map<String, String> states = new LinkedHashMap<>();
        lines.forEach(line -> states.put(line.endpoint(), line.channel().getState(false).name()));
        return states;
    }

    /** Ends new calls; those under way may finish. */
    @Override
    public void close() {
        lines.forEach(line -> line.channel().shutdown());
    }
}

package org.neuralrank.sidecar;

import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.stub.MetadataUtils;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.neuralrank.v1.RankingGrpc;

/**
 * The connections to the sidecars, one channel for each address, shared by all searches of the node. Calls take
 * turns; a channel that can't connect, or whose sidecar reports that it does not serve, is passed over while another
 * can. A name that stands for several machines is balanced over them by its channel, in the same way.
 */
public final class Channels implements AutoCloseable {

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

    private final List<String> endpoints;
    private final List<ManagedChannel> channels;
    private final AtomicInteger turn = new AtomicInteger();

    /**
     * @param endpoints {@code host:port} or {@code unix:///path}
     * @param executor  where callbacks run
     */
    public Channels(List<String> endpoints, Access access, Executor executor) {
        this.endpoints = List.copyOf(endpoints);
        this.channels = this.endpoints.stream().map(endpoint -> open(endpoint, access, executor)).toList();
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

    /** The channel for the next call. */
    ManagedChannel next() {
        int start = Math.floorMod(turn.getAndIncrement(), channels.size());
        for (int i = 0; i < channels.size(); i++) {
            ManagedChannel channel = channels.get((start + i) % channels.size());
            if (channel.getState(true) != ConnectivityState.TRANSIENT_FAILURE) {
                return channel;
            }
        }
        return channels.get(start);
    }

    /** Another one than this that is connected, or null. */
    ManagedChannel otherThan(ManagedChannel tried) {
        int start = Math.floorMod(turn.getAndIncrement(), channels.size());
        for (int i = 0; i < channels.size(); i++) {
            ManagedChannel channel = channels.get((start + i) % channels.size());
            if (channel != tried && channel.getState(true) == ConnectivityState.READY) {
                return channel;
            }
        }
        return null;
    }

    /** By address, in the order of the setting. */
    Map<String, ManagedChannel> all() {
        Map<String, ManagedChannel> all = new LinkedHashMap<>();
        for (int i = 0; i < channels.size(); i++) {
            all.put(endpoints.get(i), channels.get(i));
        }
        return all;
    }

    /** Tries to connect at once instead of waiting for gRPC's own, growing, pause. */
    void resetConnectBackoff() {
        channels.forEach(ManagedChannel::resetConnectBackoff);
    }

    /** Connection states by address. */
    Map<String, String> states() {
        Map<String, String> states = new LinkedHashMap<>();
        all().forEach((endpoint, channel) -> states.put(endpoint, channel.getState(false).name()));
        return states;
    }

    /** Ends new calls; those under way may finish. */
    @Override
    public void close() {
        channels.forEach(ManagedChannel::shutdown);
    }
}

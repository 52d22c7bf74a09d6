package org.neuralrank.sidecar;

import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The connections to the sidecars, one channel for each address, shared by all searches of the node. Calls take
 * turns; a channel that can't connect is passed over while another can.
 */
public final class Channels implements AutoCloseable {

    // A reply on 10,000 candidates with explanations is about 5 MB; gRPC's own limit is 4 MB.
    private static final int LARGEST_REPLY = 32 * 1024 * 1024;

    private final List<String> endpoints;
    private final List<ManagedChannel> channels;
    private final AtomicInteger turn = new AtomicInteger();

    /**
     * @param endpoints {@code host:port} or {@code unix:///path}
     * @param executor  where callbacks run
     */
    public Channels(List<String> endpoints, Executor executor) {
        this.endpoints = List.copyOf(endpoints);
        this.channels = this.endpoints.stream().map(endpoint -> open(endpoint, executor)).toList();
    }

    private static ManagedChannel open(String endpoint, Executor executor) {
        String target = endpoint.startsWith("unix:") ? endpoint : "dns:///" + endpoint;
        return Grpc.newChannelBuilder(target, InsecureChannelCredentials.create())
            .executor(executor)
            .maxInboundMessageSize(LARGEST_REPLY)
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

    List<ManagedChannel> all() {
        return channels;
    }

    /** Tries to connect at once instead of waiting for gRPC's own, growing, pause. */
    void resetConnectBackoff() {
        channels.forEach(ManagedChannel::resetConnectBackoff);
    }

    /** Connection states by address. */
    Map<String, String> states() {
        Map<String, String> states = new LinkedHashMap<>();
        for (int i = 0; i < channels.size(); i++) {
            states.put(endpoints.get(i), channels.get(i).getState(false).name());
        }
        return states;
    }

    /** Ends new calls; those under way may finish. */
    @Override
    public void close() {
        channels.forEach(ManagedChannel::shutdown);
    }
}

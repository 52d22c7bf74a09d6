package org.neuralrank.client;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.NameResolverRegistry;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.RankResponse;
import org.neuralrank.v1.RankingGrpc;

/**
 * Ranks by one sidecar or several: with a deadline for each call, another attempt where one is unavailable, and calls
 * that go round all of them. Threads share one; make it once.
 */
public final class RankingClient implements AutoCloseable {

    static {
        NameResolverRegistry.getDefaultRegistry().register(new FixedAddresses());
    }

    /**
     * What a secured sidecar asks of its callers; null where it does not ask.
     *
     * @param ca          PEM file of the authority of its certificate; without it there is no TLS
     * @param certificate our own certificate, PEM (mTLS)
     * @param key         its key, PEM in PKCS#8
     * @param token       the bearer token
     */
    public record Access(File ca, File certificate, File key, String token) {
        public static final Access OPEN = new Access(null, null, null, null);

        ChannelCredentials credentials() throws IOException {
            if (ca == null) {
                return InsecureChannelCredentials.create();
            }
            TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder().trustManager(ca);
            if (certificate != null) {
                tls.keyManager(certificate, key);
            }
            return tls.build();
        }
    }

    // UNAVAILABLE means that nothing was done, and CANCELLED by the sidecar that it stopped before it began: asking
    // again, and another one, is safe. gRPC ends the attempts at the deadline, and stops them while half of the calls
    // fail. Numbers are doubles here.
    private static final Map<String, ?> SERVICE_CONFIG = Map.of(
        "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
        "methodConfig", List.of(Map.of(
            "name", List.of(Map.of("service", RankingGrpc.SERVICE_NAME)),
            "retryPolicy", Map.of(
                "maxAttempts", 4.0,
                "initialBackoff", "0.05s",
                "maxBackoff", "1s",
                "backoffMultiplier", 2.0,
                "retryableStatusCodes", List.of("UNAVAILABLE", "CANCELLED")))),
        "retryThrottling", Map.of("maxTokens", 100.0, "tokenRatio", 1.0));

    private final ManagedChannel channel;
    private final RankingGrpc.RankingBlockingStub stub;
    private final Duration timeout;

    /**
     * @param addresses {@code host:port}, where a name may stand for several machines; or several, separated by commas
     * @param timeout   for one call, connecting and other attempts included
     * @throws IOException a file of {@code access} can't be read
     */
    public RankingClient(String addresses, Duration timeout, Access access) throws IOException {
        List<String> listed =
            Arrays.stream(addresses.split(",")).map(String::strip).filter(one -> !one.isEmpty()).toList();
        String target = (listed.size() > 1 ? FixedAddresses.SCHEME : "dns") + ":///" + String.join(",", listed);
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(target, access.credentials())
            .defaultServiceConfig(SERVICE_CONFIG)
            .enableRetry()
            .keepAliveTime(30, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .maxInboundMessageSize(64 * 1024 * 1024);
        if (access.token() != null) {
            Metadata headers = new Metadata();
            headers.put(
                Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + access.token());
            builder.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
        }
        this.channel = builder.build();
        this.stub = RankingGrpc.newBlockingStub(channel);
        this.timeout = timeout;
    }

    /**
     * The candidates, filtered and ranked.
     *
     * @throws io.grpc.StatusRuntimeException as the contract says; show the page in your own order then
     */
    public RankResponse rank(RankRequest request) {
        return stub.withDeadlineAfter(timeout).rank(request);
    }

    @Override
    public void close() {
        channel.shutdown();
    }
}

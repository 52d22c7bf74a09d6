package org.neuralrank.client;

import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.StatusOr;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.URI;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Set;

/**
 * Resolves {@code sidecars:///10.0.0.7:50051,10.0.0.8:50051} to these addresses, for who has a list and no DNS name that
 * stands for all of them. TLS certificates are checked for the host of the first.
 */
final class FixedAddresses extends NameResolverProvider {

    static final String SCHEME = "sidecars";

    @Override
    public NameResolver newNameResolver(URI target, NameResolver.Args args) {
        if (!SCHEME.equals(target.getScheme())) {
            return null;
        }
        String[] listed = target.getPath().substring(1).split(",");
        List<EquivalentAddressGroup> groups =
            Arrays.stream(listed).map(FixedAddresses::address).map(EquivalentAddressGroup::new).toList();
        return new NameResolver() {
            @Override
            public String getServiceAuthority() {
                return listed[0];
            }

            @Override
            public void start(Listener2 listener) {
                listener.onResult(ResolutionResult.newBuilder().setAddressesOrError(StatusOr.fromValue(groups)).build());
            }

            @Override
            public void shutdown() {}
        };
    }

    private static SocketAddress address(String hostAndPort) {
        int colon = hostAndPort.lastIndexOf(':');
        return new InetSocketAddress(hostAndPort.substring(0, colon), Integer.parseInt(hostAndPort.substring(colon + 1)));
    }

    @Override
    protected boolean isAvailable() {
        return true;
    }

    @Override
    protected int priority() {
        return 5;
    }

    @Override
    public String getDefaultScheme() {
        return SCHEME;
    }

    @Override
    public Collection<Class<? extends SocketAddress>> getProducedSocketAddressTypes() {
        return Set.of(InetSocketAddress.class);
    }
}

package org.neuralrank.sidecar;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;

/**
 * What a node shows sidecars, and what it wants to see of them.
 *
 * @param credentials of the connection: TLS with or without a certificate of the node's own, or none
 * @param headers     sent with each call: the token, if there is one
 */
public record Access(ChannelCredentials credentials, Metadata headers) {

    private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of(
        "authorization",
        Metadata.ASCII_STRING_MARSHALLER
    );

    /** For sidecars that ask for nothing. */
    public static Access open() {
        return of(InsecureChannelCredentials.create(), "");
    }

    /**
     * @param token the bearer token; empty for none
     * @throws IllegalArgumentException it has characters that no header can carry
     */
    public static Access of(ChannelCredentials credentials, String token) {
        Metadata headers = new Metadata();
        if (!token.isEmpty()) {
            if (!token.chars().allMatch(c -> c > ' ' && c <= '~')) {
                throw new IllegalArgumentException(
                    "neural_rank.token in the node's keystore has characters other than printable ASCII, or a space or"
                        + " line break; put it there again: bin/opensearch-keystore add neural_rank.token"
                );
            }
            headers.put(AUTHORIZATION, "Bearer " + token);
        }
        return new Access(credentials, headers);
    }
}

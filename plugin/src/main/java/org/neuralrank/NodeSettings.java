package org.neuralrank;

import java.util.List;
import org.opensearch.common.settings.SecureSetting;
import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Setting.Property;
import org.opensearch.core.common.settings.SecureString;

/**
 * The node's settings, all below {@code neural_rank.}. The sidecar's address is only ever read from here, never from
 * a request or a pipeline: whoever may search must not be able to make the node call an address of their choice.
 */
public final class NodeSettings {

    /**
     * Where sidecars listen: {@code host:port} or {@code unix:///path}, several separated by commas. Calls go to them
     * in turn, past those that can't be reached. A bad value is rejected here, since an exception in a settings
     * consumer would not reject anything.
     */
    public static final Setting<List<String>> ENDPOINT = Setting.listSetting(
        "neural_rank.endpoint",
        List.of("127.0.0.1:50051"),
        value -> value,
        NodeSettings::validateEndpoints,
        Property.NodeScope,
        Property.Dynamic
    );

    /**
     * PEM file, inside the config directory, of the authorities that sidecars' certificates must come from;
     * {@code system} for those that the JDK trusts. Empty: no TLS. Files are read again when they change.
     */
    public static final Setting<String> TLS_CA = Setting.simpleString("neural_rank.tls.ca", Property.NodeScope);

    /** PEM file, inside the config directory, of this node's own certificate, for sidecars that ask for one. */
    public static final Setting<String> TLS_CERTIFICATE = Setting.simpleString(
        "neural_rank.tls.certificate",
        Property.NodeScope
    );

    /** PEM file (PKCS#8, no passphrase), inside the config directory, of that certificate's private key. */
    public static final Setting<String> TLS_KEY = Setting.simpleString("neural_rank.tls.key", Property.NodeScope);

    /** What the node sends as its bearer token. In the node's keystore only: cluster settings are for all to read. */
    public static final Setting<SecureString> TOKEN = SecureSetting.secureString("neural_rank.token", null);

    /** How long both calls and the k-NN search together may delay a query, in ms, where a pipeline says nothing. */
    public static final Setting<Integer> TIMEOUT_MS = Setting.intSetting(
        "neural_rank.timeout_ms",
        500,
        1,
        60_000,
        Property.NodeScope,
        Property.Dynamic
    );

    /** After so many failures in a row, a kind of call is not tried for a while. */
    public static final Setting<Integer> BREAKER_FAILURES = Setting.intSetting(
        "neural_rank.breaker.failures",
        5,
        1,
        10_000,
        Property.NodeScope,
        Property.Dynamic
    );

    /** How long it is not tried, in ms; then one call goes through to see. */
    public static final Setting<Integer> BREAKER_OPEN_MS = Setting.intSetting(
        "neural_rank.breaker.open_ms",
        2_000,
        10,
        600_000,
        Property.NodeScope,
        Property.Dynamic
    );

    /**
     * Which foreign {@code ext} sections this plugin registers, so that OpenSearch accepts them. Two plugins that
     * register the same name keep the node from starting; {@code auto} leaves out the names of installed plugins.
     */
    public static final Setting<List<String>> ACCEPT_EXT = Setting.listSetting(
        "neural_rank.accept_ext",
        List.of("auto"),
        value -> value,
        NodeSettings::validateAcceptExt,
        Property.NodeScope
    );

    private NodeSettings() {}

    static List<Setting<?>> all() {
        return List.of(
            ENDPOINT,
            TLS_CA,
            TLS_CERTIFICATE,
            TLS_KEY,
            TOKEN,
            TIMEOUT_MS,
            BREAKER_FAILURES,
            BREAKER_OPEN_MS,
            ACCEPT_EXT
        );
    }

    private static void validateEndpoints(List<String> endpoints) {
        if (endpoints.isEmpty()) {
            throw new IllegalArgumentException(
                "neural_rank.endpoint is empty; give at least one host:port, such as 127.0.0.1:50051"
            );
        }
        endpoints.forEach(NodeSettings::validateEndpoint);
    }

    private static void validateEndpoint(String endpoint) {
        if (endpoint.startsWith("unix:///") && endpoint.length() > "unix:///".length()) {
            return;
        }
        int colon = endpoint.lastIndexOf(':');
        String host = colon < 0 ? "" : endpoint.substring(0, colon);
        // An IPv6 address has colons itself and must stand in brackets.
        boolean hostFits = host.matches("[A-Za-z0-9._-]+") || host.matches("\\[[0-9A-Fa-f:.]+\\]");
        boolean portFits = colon >= 0 && endpoint.substring(colon + 1).matches("[0-9]{1,5}");
        if (portFits) {
            int port = Integer.parseInt(endpoint.substring(colon + 1));
            portFits = port >= 1 && port <= 65_535;
        }
        if (!hostFits || !portFits) {
            throw new IllegalArgumentException(
                "neural_rank.endpoint has ["
                    + endpoint
                    + "]; allowed are host:port with a port from 1 to 65535, [ipv6]:port, and unix:///path,"
                    + " several separated by commas"
            );
        }
    }

    private static void validateAcceptExt(List<String> names) {
        for (String name : names) {
            if (!name.equals("auto") && !ForeignSections.NAMES.contains(name)) {
                throw new IllegalArgumentException(
                    "neural_rank.accept_ext has [" + name + "]; allowed are auto and " + ForeignSections.NAMES
                );
            }
        }
    }
}

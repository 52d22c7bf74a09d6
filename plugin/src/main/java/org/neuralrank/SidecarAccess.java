package org.neuralrank;

import io.grpc.ChannelCredentials;
import java.io.IOException;
import java.nio.file.Path;
import java.util.function.Consumer;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.neuralrank.sidecar.Access;
import org.neuralrank.sidecar.TlsFiles;
import org.opensearch.common.settings.Settings;
import org.opensearch.core.common.settings.SecureString;
import org.opensearch.watcher.FileChangesListener;
import org.opensearch.watcher.FileWatcher;
import org.opensearch.watcher.ResourceWatcherService;

/**
 * How this node reaches secured sidecars: certificates from files of its config directory, the token from its
 * keystore. Both are taken anew while the node runs; what can't be used is told, and what served goes on serving.
 */
final class SidecarAccess {

    private static final Logger LOGGER = LogManager.getLogger(SidecarAccess.class);

    private final TlsFiles files;
    private final Consumer<Access> changed;
    private ChannelCredentials credentials;
    private String token;

    /**
     * @param settings of the node, with its keystore open
     * @param config   the node's config directory
     * @param changed  told of each change after this
     * @throws IllegalArgumentException files or token can't be used: the node must not start
     */
    SidecarAccess(Settings settings, Path config, Consumer<Access> changed) {
        this.files = new TlsFiles(
            config,
            NodeSettings.TLS_CA.get(settings),
            NodeSettings.TLS_CERTIFICATE.get(settings),
            NodeSettings.TLS_KEY.get(settings)
        );
        this.changed = changed;
        this.credentials = files.read();
        this.token = token(settings);
        if (!token.isEmpty() && !files.isOn()) {
            LOGGER.warn(
                "neural_rank.token is sent without TLS: whoever can listen between this node and the sidecar can read"
                    + " it; set neural_rank.tls.ca, or keep both on one machine"
            );
        }
    }

    synchronized Access current() {
        return Access.of(credentials, token);
    }

    /**
     * Takes the token of a keystore that was read anew ({@code POST _nodes/reload_secure_settings}).
     *
     * @throws IllegalArgumentException it can't be used; the one before stays
     */
    synchronized void reload(Settings settings) {
        String found = token(settings);
        if (!found.equals(token)) {
            Access access = Access.of(credentials, found);
            token = found;
            changed.accept(access);
        }
    }

    /** Has the files looked at every few seconds. */
    void watch(ResourceWatcherService watching) throws IOException {
        for (Path path : files.paths()) {
            FileWatcher watcher = new FileWatcher(path);
            watcher.addListener(new FileChangesListener() {
                @Override
                public void onFileCreated(Path file) {
                    readAgain();
                }

                @Override
                public void onFileChanged(Path file) {
                    readAgain();
                }
            });
            watching.add(watcher, ResourceWatcherService.Frequency.HIGH);
        }
    }

    synchronized void readAgain() {
        ChannelCredentials found;
        try {
            found = files.read();
        } catch (IllegalArgumentException e) {
            // Between two files of a pair they don't match: the second one's change is looked at too.
            LOGGER.warn("the certificates for the sidecar stay as they were: {}", e.getMessage());
            return;
        }
        credentials = found;
        changed.accept(current());
        LOGGER.info("the certificates for the sidecar were read again");
    }

    private static String token(Settings settings) {
        try (SecureString secret = NodeSettings.TOKEN.get(settings)) {
            String found = secret.toString();
            Access.of(null, found);
            return found;
        }
    }
}
